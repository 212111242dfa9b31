"""Linking through API Gateway, IAM and the keys: the browser comes unsigned, everything else does not."""

from __future__ import annotations

import pytest

from local.wise.visitor import Visitor
from tests.e2e.deployment import ACME, Deployed, is_problem

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("e2e")]
RETURN_URL = "https://acme.example.com/linked"


def test_a_user_is_linked_by_an_unsigned_browser_and_a_signed_partner(with_secret: Deployed) -> None:
    deployed, acme = with_secret, with_secret.as_partner("acme")
    deployed.wise.control.put_user("linked")
    started = deployed.call("POST", f"{ACME}/linked/link", acme, json_body={"return_url": RETURN_URL})
    assert started.status == 201, started.body
    visitor = Visitor(deployed.wise.ca_file)
    back = visitor.authorize(started.json()["authorization_url"], "linked")
    assert back.location is not None
    assert back.location.startswith(deployed.redirect_uri)
    answer = visitor.follow(back)
    assert answer.status == 303, answer.html
    assert answer.location is not None
    assert answer.location.startswith(f"{RETURN_URL}?link_id=")
    assert answer.headers["referrer-policy"] == "no-referrer"
    link_id = answer.query()["link_id"]
    confirm = f"{ACME}/linked/link/{link_id}/confirm"
    assert deployed.call("POST", confirm, None).status == 403
    assert deployed.call("POST", confirm, deployed.as_partner("globex")).status == 403
    assert deployed.call("GET", f"{ACME}/linked/access-token", acme).status == 404
    confirmed = deployed.call("POST", confirm, acme)
    assert confirmed.status == 200, confirmed.body
    served = deployed.call("GET", f"{ACME}/linked/access-token", acme)
    assert (served.status, served.json()["version"]) == (200, confirmed.json()["version"])


def test_only_the_browsers_way_back_is_open_to_nobody(with_secret: Deployed) -> None:
    page = with_secret.call("GET", "/oauth/callback?state=fixture&code=fixture", None)
    assert (page.status, page.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert b"We do not know this link" in page.body
    assert b"fixture" not in page.body
    for method, path in (
        ("POST", f"{ACME}/linked/link"),
        ("POST", f"{ACME}/linked/link/complete"),
        ("GET", f"{ACME}/linked/access-token"),
        ("POST", "/oauth/callback"),
    ):
        assert with_secret.call(method, path, None).status == 403, path


def test_a_partner_completes_a_link_itself(with_secret: Deployed) -> None:
    deployed, acme = with_secret, with_secret.as_partner("acme")
    deployed.wise.control.put_user("completed")
    started = deployed.call("POST", f"{ACME}/completed/link", acme)
    assert started.status == 201, started.body
    told = Visitor(deployed.wise.ca_file).authorize(started.json()["authorization_url"], "completed").query()
    body = {"state": told["state"], "code": told["code"], "profile_id": told["profileId"]}
    done = deployed.call("POST", f"{ACME}/completed/link/complete", acme, json_body=body)
    assert done.status == 200, done.body
    again = deployed.call("POST", f"{ACME}/completed/link/complete", acme, json_body=body)
    assert (again.status, is_problem(again, "link-expired")) == (410, True)
    confirmed = deployed.call("POST", f"{ACME}/completed/link/{done.json()['link_id']}/confirm", acme)
    assert confirmed.status == 200, confirmed.body
