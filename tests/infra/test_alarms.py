"""The alarms: every one watches one metric of ours or of AWS's, and tells the topic."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.template import Template

BREACHING = {"SweepStarted", "SweepFinished"}


def watched(template: Template) -> dict[tuple[str, str, tuple[tuple[str, str], ...]], dict[str, Any]]:
    """The alarms by namespace, metric and dimensions."""
    return {
        (
            alarm["Namespace"],
            alarm["MetricName"],
            tuple(sorted((d["Name"], d["Value"]) for d in alarm["Dimensions"])),
        ): alarm
        for alarm in template.of_type("AWS::CloudWatch::Alarm").values()
    }


def ours(environment: str, service: str, metric: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return ("TokenRotator", metric, (("environment", environment), ("service", service)))


def one(template: Template, metric: str) -> dict[str, Any]:
    """The alarm on a metric that one alarm watches."""
    (alarm,) = (alarm for (_, name, _), alarm in watched(template).items() if name == metric)
    return alarm


@pytest.mark.parametrize(("variant", "environment"), [("sandbox", "sandbox"), ("production", "production")])
def test_exactly_these_metrics_are_watched(request: pytest.FixtureRequest, variant: str, environment: str) -> None:
    template: Template = request.getfixturevalue(variant)
    expected = {
        ours(environment, "sweep", metric)
        for metric in ("SweepStarted", "SweepFinished", "OldestOverdueSeconds", "SweepSeconds")
    }
    for service in ("sweep", "refresh"):
        expected |= {
            ours(environment, service, metric)
            for metric in ("StoreRefused", "AnswerLost", "AlertPublishFailed", "WiseSecretUnusable")
        }
    for service in ("sweep", "refresh", "serve", "admin", "callback"):
        name = template.function_arn(service).rpartition(":")[2]
        expected |= {("AWS/Lambda", metric, (("FunctionName", name),)) for metric in ("Errors", "Throttles")}
    topic = f"<{template.one('AWS::SNS::Topic')}.TopicName>"
    parked, failures = (f"<{template.one('AWS::SQS::Queue', name)}.QueueName>" for name in ("Parked", "Failures"))
    group = template.one("AWS::Scheduler::ScheduleGroup")
    rejections = "/v1/tenants/{tenant}/grants/{grant_id}/access-token/rejections"
    expected |= {
        ("AWS/SNS", "NumberOfNotificationsFailed", (("TopicName", topic),)),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", (("QueueName", failures),)),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", (("QueueName", parked),)),
        ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", (("QueueName", parked),)),
        ("AWS/Scheduler", "TargetErrorCount", (("ScheduleGroup", group),)),
        ("AWS/Scheduler", "InvocationDroppedCount", (("ScheduleGroup", group),)),
        (
            "AWS/ApiGateway",
            "Count",
            (("ApiName", "TheStack"), ("Method", "POST"), ("Resource", rejections), ("Stage", "live")),
        ),
    }
    assert set(watched(template)) == expected


def test_every_alarm_tells_the_topic_and_says_what_is_wrong(every: Template) -> None:
    for name, alarm in every.of_type("AWS::CloudWatch::Alarm").items():
        assert alarm["AlarmActions"] == [every.arn("AWS::SNS::Topic")], name
        assert alarm["AlarmDescription"].startswith("Token rotator, ")
        assert "Metrics" not in alarm, "metric math"
    assert every.of_type("AWS::CloudWatch::CompositeAlarm") == {}


def test_silence_of_the_sweep_is_an_alarm_and_its_end_is_told(every: Template) -> None:
    for (_, metric, _), alarm in watched(every).items():
        assert (alarm["TreatMissingData"] == "breaching") is (metric in BREACHING), metric
        assert ("OKActions" in alarm) is (metric in BREACHING), metric


def test_an_overdue_alarm_stays_while_no_sweep_measures(sandbox: Template) -> None:
    alarm = watched(sandbox)[ours("sandbox", "sweep", "OldestOverdueSeconds")]
    assert alarm["TreatMissingData"] == "ignore"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 300)
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Maximum", 60, 1)


@pytest.mark.parametrize(("variant", "schedules"), [("sandbox", 1), ("production", 4)])
def test_too_few_sweeps_in_five_minutes_are_an_alarm(
    request: pytest.FixtureRequest, variant: str, schedules: int
) -> None:
    template: Template = request.getfixturevalue(variant)
    for metric in BREACHING:
        alarm = watched(template)[ours(variant, "sweep", metric)]
        assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 3 * schedules)
        assert (alarm["Statistic"], alarm["Period"]) == ("Sum", 300)


def test_a_sweep_is_too_long_before_it_is_killed(every: Template) -> None:
    alarm = one(every, "SweepSeconds")
    assert 55 + 8 + 5 <= alarm["Threshold"] < every.function("sweep")["Timeout"]
    assert alarm["Statistic"] == "Maximum"


def test_a_parked_answer_that_nobody_takes_is_an_alarm(every: Template) -> None:
    alarm = one(every, "ApproximateAgeOfOldestMessage")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 300)
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Maximum", 60, 1)


def test_a_parked_answer_that_is_taken_again_and_again_is_an_alarm(every: Template) -> None:
    """AWS leaves it out of the age after three receipts; hidden it is, at each look of the metric's or nearly so."""
    alarm = one(every, "ApproximateNumberOfMessagesNotVisible")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert (alarm["Statistic"], alarm["Period"]) == ("Maximum", 60)
    assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (3, 10)
    hidden_s = every.properties("AWS::SQS::Queue", "Parked")["VisibilityTimeout"]
    # A sweep a minute that takes it is enough: it is hidden for this share of the time.
    assert hidden_s / 60 > alarm["DatapointsToAlarm"] / alarm["EvaluationPeriods"]


def test_one_of_anything_else_is_enough(every: Template) -> None:
    own = {"OldestOverdueSeconds", "SweepSeconds", "Count", "ApproximateAgeOfOldestMessage",
           "ApproximateNumberOfMessagesNotVisible"} | BREACHING  # fmt: skip
    for (_, metric, _), alarm in watched(every).items():
        if metric not in own:
            assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0), metric
            assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (1, 1), metric
