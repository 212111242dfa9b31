"""The dashboard: what is on it, where it comes from, and that nobody has to scroll for what matters."""

from __future__ import annotations

from typing import Any

import pytest

from infra import dashboard
from tests.infra.board import Shown, shown, widgets
from tests.infra.template import _ARNS, Template
from token_rotator.domain.link import LinkFailure
from token_rotator.domain.outcome import _NAMES, ClientAccepted, Refreshed
from token_rotator.domain.outcome import GrantInvalid as Judged
from token_rotator.service.keep_answer import Place


def board(template: Template) -> list[dict[str, Any]]:
    return widgets(template.properties("AWS::CloudWatch::Dashboard")["DashboardBody"])


def lines(template: Template) -> set[Shown]:
    return {line for widget in board(template) for line in shown(widget)}


def titled(template: Template, beginning: str) -> list[Shown]:
    (found,) = (w for w in board(template) if w["properties"].get("title", "").startswith(beginning))
    return shown(found)


def alarm_arn(name: str) -> str:
    return _ARNS["AWS::CloudWatch::Alarm"].format(name)


def names(found: list[Shown]) -> set[tuple[str, str]]:
    return {(line.name, line.statistic) for line in found}


def test_the_words_of_outcomes_are_those_of_the_functions() -> None:
    refreshes = {word for outcome, word in _NAMES.items() if outcome is not ClientAccepted}
    assert set(dashboard.OUTCOMES) == refreshes
    assert set(dashboard.OPENED_FOR) == refreshes - {_NAMES[Refreshed], _NAMES[Judged]}
    assert set(dashboard.SETTLED) == {place.value for place in Place}
    assert set(dashboard.LINKED) == {"arrived", *LinkFailure}


def test_everything_that_on_call_asks_for_is_there(every: Template) -> None:
    assert names(titled(every, "Oldest overdue")) == {("OldestOverdueSeconds", "Maximum")}
    assert {"p50", "p99"} <= {line.statistic for line in titled(every, "Tokens served: age")}
    latency = titled(every, "Readers: latency")
    assert {("Latency", "p99"), ("IntegrationLatency", "p99"), ("Duration", "p99")} <= names(latency)
    assert ("BreakerOpen", "Maximum") in names(titled(every, "Breaker: 1 is open"))
    assert {("AlertPublished", "Sum"), ("AlertPublishFailed", "Sum")} <= names(titled(every, "Alerts handed"))
    assert names(titled(every, "Calls to Wise")) == {("WiseCalled", "Sum"), ("DemandBarred", "Sum")}
    parked = {line.name for line in titled(every, "Parked answers: in the queue")}
    assert {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"} <= parked
    for service in ("sweep", "refresh"):
        found = titled(every, f"Refreshes by outcome: {service}")
        assert {dict(line.dimensions)["outcome"] for line in found} == set(dashboard.OUTCOMES)
        assert {dict(line.dimensions)["service"] for line in found} == {service}


@pytest.mark.parametrize("name", ["Errors", "Throttles"])
def test_every_function_of_the_stack_has_its_line(every: Template, name: str) -> None:
    found = {dict(line.dimensions)["FunctionName"] for line in titled(every, f"{name} by function")}
    assert found == set(every.of_type("AWS::Lambda::Function"))


def test_every_alarm_of_the_stack_is_shown_with_its_state(every: Template) -> None:
    (states,) = (widget for widget in board(every) if widget["type"] == "alarm")
    alarms = every.of_type("AWS::CloudWatch::Alarm")
    assert set(states["properties"]["alarms"]) == {alarm_arn(name) for name in alarms}
    assert states["y"] == 0, "at the top"


def test_what_an_alarm_watches_is_on_the_dashboard(every: Template) -> None:
    known = {(line.namespace, line.name, line.dimensions) for line in lines(every)}
    for name, alarm in every.of_type("AWS::CloudWatch::Alarm").items():
        dimensions = frozenset((found["Name"], found["Value"]) for found in alarm["Dimensions"])
        assert (alarm["Namespace"], alarm["MetricName"], dimensions) in known, name


def test_a_graph_with_a_threshold_draws_the_alarms_own(every: Template) -> None:
    thresholds = {alarm["MetricName"]: alarm["Threshold"] for alarm in every.of_type("AWS::CloudWatch::Alarm").values()}
    drawn = {}
    for widget in board(every):
        for line in widget["properties"].get("annotations", {}).get("horizontal", []):
            if line["label"].startswith("alarm"):
                axis = line.get("yAxis", "left")
                drawn |= {
                    one[1]: line["value"]
                    for one in widget["properties"]["metrics"]
                    if one[-1].get("yAxis", "left") == axis
                }
    assert {
        "OldestOverdueSeconds",
        "SweepSeconds",
        "5XXError",
        "ApproximateAgeOfOldestMessage",
        "CertificateDaysLeft",
    } == set(drawn)
    assert drawn == {name: thresholds[name] for name in drawn}


def test_the_limit_of_calls_is_that_of_both_lanes(sandbox: Template, production: Template) -> None:
    for template, limit in ((sandbox, 1000), (production, 2000)):
        (widget,) = (w for w in board(template) if w["properties"].get("title", "").startswith("Calls to Wise"))
        (line,) = widget["properties"]["annotations"]["horizontal"]
        assert line["value"] == limit


def test_the_page_fits_and_names_its_environment(production: Template, sandbox: Template) -> None:
    for template, environment in ((production, "production"), (sandbox, "sandbox")):
        found = board(template)
        assert all(widget["x"] + widget["width"] <= 24 for widget in found)
        places = [(widget["x"], widget["y"]) for widget in found]
        assert len(set(places)) == len(places)
        (text,) = (widget["properties"]["markdown"] for widget in found if widget["type"] == "text")
        assert environment in text
    (text,) = (widget["properties"]["markdown"] for widget in board(production) if widget["type"] == "text")
    assert "(https://runbooks.example.com/token-rotator/README.md)" in text
    assert all(dict(line.dimensions).get("environment", "production") == "production" for line in lines(production))


def test_a_graph_has_a_title_of_its_own_and_every_line_a_label(every: Template) -> None:
    graphs = [widget for widget in board(every) if widget["type"] == "metric"]
    titles = [widget["properties"]["title"] for widget in graphs]
    assert len(set(titles)) == len(titles)
    for widget in graphs:
        labels = [line[-1].get("label", line[1]) for line in widget["properties"]["metrics"]]
        assert len(set(labels)) == len(labels), widget["properties"]["title"]
