"""The whole rotator with a Wise that takes nobody without a certificate: renewal, refusal, and the end of one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from local.wise.clients import IssuedCertificate
from local.wise.running import RunningWise
from tests.fakes.world import FakeClock
from tests.handlers.deployment import WISE_SECRET, Deployment

ALL_SHARDS = {"shards": list(range(16))}


@pytest.fixture(scope="module")
def deployed(running: RunningWise, clock: FakeClock, aws: None) -> Iterator[Deployment]:
    levels = {name: logging.getLogger(name).level for name in ("boto3", "botocore", "urllib3", "requests")}
    running.control.change_settings(mtls_only=True)
    yield Deployment(running, clock, mtls=True)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def put(deployment: Deployment, issued: IssuedCertificate, **changes: str) -> None:
    """Put a certificate into the secret, as an operator does: nothing tells the functions."""
    value = json.loads(deployment.secrets.get_secret_value(SecretId=WISE_SECRET)["SecretString"])
    shown = {"certificate": issued.certificate, "private_key": issued.private_key}
    deployment.secrets.put_secret_value(SecretId=WISE_SECRET, SecretString=json.dumps({**value, **shown, **changes}))


def refreshed(deployment: Deployment, grant_id: str) -> dict[str, Any]:
    deployment.make_due(grant_id)
    told: dict[str, Any] = deployment.sweep(ALL_SHARDS)
    return told


def kinds(deployment: Deployment) -> list[tuple[str, str]]:
    heard = [json.loads(notice["Message"]) for notice in deployment.alerts()]
    return [(message["kind"], message["reason"]) for message in heard]


def test_everything_goes_over_the_host_that_demands_a_certificate(deployment: Deployment, grant_id: str) -> None:
    before = deployment.wise.control.requests_with_certificate(deployment.certificate.serial)
    deployment.adopt(grant_id)
    assert refreshed(deployment, grant_id)["refreshed"] == 1
    assert deployment.token(grant_id).status == 200
    after = deployment.wise.control.requests_with_certificate(deployment.certificate.serial)
    assert after - before == len(deployment.wise.control.requests(user=grant_id)) == 1


def test_a_new_certificate_that_wise_refuses_costs_no_token_and_wakes_nobody(
    deployment: Deployment, grant_id: str
) -> None:
    deployment.adopt(grant_id)
    assert refreshed(deployment, grant_id)["refreshed"] == 1
    new = deployment.wise.control.issue_certificate(days=1_200, starts_in_days=-1_000)
    deployment.wise.control.refuse_certificate(new.serial)
    put(deployment, new)
    deployment.clock.advance(minutes=5)

    assert refreshed(deployment, grant_id)["refreshed"] == 1
    assert deployment.token(grant_id).status == 200
    assert kinds(deployment) == []
    assert deployment.wise.control.requests_with_certificate(new.serial) == 0

    deployment.wise.control.accept_certificate(new.serial)
    deployment.clock.advance(hours=2)
    assert refreshed(deployment, grant_id)["refreshed"] == 1
    assert deployment.wise.control.requests_with_certificate(new.serial) == 1


def test_a_new_version_that_cannot_be_used_is_told_and_changes_nothing(deployment: Deployment, grant_id: str) -> None:
    deployment.adopt(grant_id)
    assert refreshed(deployment, grant_id)["refreshed"] == 1
    deployment.sweep.forget()
    put(deployment, deployment.certificate, private_key="fixture")
    deployment.clock.advance(minutes=5)
    assert refreshed(deployment, grant_id)["refreshed"] == 1
    line = deployment.sweep.logged()[0]
    assert (line["level"], line["message"]) == ("WARNING", "new version of the wise secret cannot be used")
    assert "has a private_key that is not in PEM" in line["reason"]
    deployment.write_secret(None)


def test_when_wise_refuses_every_certificate_all_stops_and_no_grant_is_judged(
    deployment: Deployment, grant_id: str
) -> None:
    deployment.write_secret(None)
    deployment.adopt(grant_id)
    deployment.adopt(f"{grant_id}-2")
    deployment.make_due(f"{grant_id}-2")
    deployment.wise.control.refuse_certificate(deployment.certificate.serial)
    try:
        assert refreshed(deployment, grant_id)["refreshed"] == 0
        assert ("client_refused", "client_refused") in kinds(deployment)
        assert deployment.item(grant_id)["phase"] == {"S": "active"}
        assert deployment.token(grant_id).body["degraded"]
    finally:
        deployment.wise.control.accept_certificate(deployment.certificate.serial)
    deployment.forget_fleet()
    assert refreshed(deployment, grant_id)["refreshed"] == 1


def test_its_end_is_announced_and_a_new_one_ends_that(deployment: Deployment, grant_id: str) -> None:
    deployment.write_secret(None)
    deployment.adopt(grant_id)
    deployment.dynamodb.delete_item(TableName=deployment.table, Key={"pk": {"S": "#certificate"}})
    ends = deployment.certificate.not_after
    deployment.clock.now = ends - timedelta(days=14)
    assert refreshed(deployment, grant_id)["refreshed"] >= 1
    assert ("certificate_expiring", "14-days") in kinds(deployment)
    (left,) = deployment.sweep.told("CertificateDaysLeft")[-1:]
    assert 13.9 < left <= 14

    new = deployment.wise.control.issue_certificate(days=2_000, starts_in_days=-1_000)
    put(deployment, new)
    deployment.clock.advance(minutes=5)
    deployment.adopt(f"{grant_id}-2")
    assert refreshed(deployment, f"{grant_id}-2")["refreshed"] >= 1
    deployment.clock.advance(minutes=2)
    deployment.sweep(ALL_SHARDS)
    assert ("recovered", "14-days") in kinds(deployment)
