"""The alarms: every one watches one metric of ours or of AWS's, and tells the topic."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.docs.pages import table, words
from tests.infra.template import ACCOUNT, REGION, Template, listed

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
        for metric in ("SweepStarted", "SweepFinished", "OldestOverdueSeconds", "SweepSeconds", "CertificateDaysLeft")
    }
    for service in ("sweep", "refresh"):
        expected |= {
            ours(environment, service, metric)
            for metric in ("StoreRefused", "AnswerLost", "AlertPublishFailed", "WiseSecretUnusable")
        }
    expected |= {ours(environment, service, "StoreRefused") for service in ("serve", "admin", "callback")}
    expected |= {ours(environment, "callback", metric) for metric in ("WiseSecretUnusable", "LinkLost")}
    for service in ("sweep", "refresh", "serve", "admin", "callback"):
        name = template.function_arn(service).rpartition(":")[2]
        expected |= {("AWS/Lambda", metric, (("FunctionName", name),)) for metric in ("Errors", "Throttles")}
    topic = f"<{template.one('AWS::SNS::Topic')}.TopicName>"
    parked, failures = (f"<{template.one('AWS::SQS::Queue', name)}.QueueName>" for name in ("Parked", "Failures"))
    group = template.one("AWS::Scheduler::ScheduleGroup")
    token = "/v1/tenants/{tenant}/grants/{grant_id}/access-token"
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
            (("ApiName", "TheStack"), ("Method", "POST"), ("Resource", f"{token}/rejections"), ("Stage", "live")),
        ),
        (
            "AWS/ApiGateway",
            "5XXError",
            (("ApiName", "TheStack"), ("Method", "GET"), ("Resource", token), ("Stage", "live")),
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


def test_readers_who_go_away_without_a_token_are_an_alarm(every: Template) -> None:
    """One grant in doubt, which lasts for half a minute, is none: it takes a share of all, and three minutes."""
    alarm = one(every, "5XXError")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0.1)
    assert (alarm["Statistic"], alarm["Period"]) == ("Average", 60), "the average is the share of such answers"
    assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (3, 5)
    assert alarm["TreatMissingData"] == "notBreaching", "nobody asks"


def test_a_certificate_that_ends_within_a_week_is_an_alarm(every: Template) -> None:
    alarm = one(every, "CertificateDaysLeft")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 7)
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Minimum", 300, 1)
    assert alarm["TreatMissingData"] == "notBreaching", "most deployments show none"


def test_cloudwatch_may_tell_the_topic_and_use_its_key_for_alarms_of_this_account_only(every: Template) -> None:
    """An alarm whose topic or key refuses CloudWatch is silent, and nothing says so."""
    asked = {
        "aws:SourceAccount": ACCOUNT,
        "aws:SourceArn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:TheStack-AlarmsGrantsOverdue",
    }
    topic = every.properties("AWS::SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    for statements, actions in (
        (topic, {"sns:Publish"}),
        (every.key_policy("Alerts"), {"kms:Decrypt", "kms:GenerateDataKey"}),
    ):
        found = [s for s in statements if s["Principal"] == {"Service": "cloudwatch.amazonaws.com"}]
        assert {action for s in found for action in listed(s["Action"])} == actions
        for statement in found:
            assert statement["Effect"] == "Allow"
            assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": asked["aws:SourceAccount"]}
            pattern = statement["Condition"]["ArnLike"]["aws:SourceArn"]
            assert fnmatchcase(asked["aws:SourceArn"], pattern)
            assert not fnmatchcase(asked["aws:SourceArn"].replace(ACCOUNT, "111122223333"), pattern)
    assert every.properties("AWS::SNS::Topic")["KmsMasterKeyId"] == every.arn("AWS::KMS::Key", "KeysAlerts")


def test_one_of_anything_else_is_enough(every: Template) -> None:
    own = {"OldestOverdueSeconds", "SweepSeconds", "Count", "5XXError", "ApproximateAgeOfOldestMessage",
           "ApproximateNumberOfMessagesNotVisible", "CertificateDaysLeft"} | BREACHING  # fmt: skip
    for (_, metric, _), alarm in watched(every).items():
        if metric not in own:
            assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0), metric
            assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (1, 1), metric


def test_the_page_says_what_each_alarm_watches_and_when_it_fires(sandbox: Template) -> None:
    """The alarm table of docs/operations.md, row for row."""
    told = {
        name: (words(watches)[0], watches, limit, silent)
        for names, watches, limit, silent in table("docs/operations.md", "table: alarm rules")
        for name in words(names)
    }
    alarms = sandbox.of_type("AWS::CloudWatch::Alarm")
    missing = {"notBreaching": "no alarm", "breaching": "**alarm**", "ignore": "stays as it is"}
    named = {re.fullmatch(r"Alarms([A-Za-z]+)[0-9A-F]{8}", name)[1]: alarm for name, alarm in alarms.items()}  # type: ignore[index]
    assert set(told) == set(named)
    for name, (metric, watches, limit, silent) in told.items():
        alarm = named[name]
        assert metric == alarm["MetricName"], name
        assert alarm["Statistic"].lower() in watches, name
        assert silent == missing[alarm["TreatMissingData"]], name
        few, many = alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"] * alarm["Period"] // 60
        numbers = [float(number) for number in re.findall(r"[\d.]+", limit)]
        times = [few, many] if alarm["EvaluationPeriods"] > 1 else [many]
        assert numbers == [alarm["Threshold"], *times], name
        assert limit.startswith("below") is (alarm["ComparisonOperator"] == "LessThanThreshold"), name
