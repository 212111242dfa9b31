"""A real browser, a partner's web site, and the stack deployed for both."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser

from local.aws.assembly import Assembly
from local.browser.chromium import MISSING, ChromiumWindow, chromium, find, window
from local.browser.window import Seen
from local.demo.partner import Ledger, PartnerService, Wise, hash_of
from local.demo.site import Site, site
from local.wise.control import WiseControl
from local.wise.truth import RequestTruth
from local.wise.users import ProfileType
from tests.e2e.deployment import Deployed, deployment
from token_rotator.adapters.dynamo_suspensions import DynamoSuspensions
from token_rotator.domain.suspension import Suspension

PICTURES: Final = Path(__file__).resolve().parents[2] / "local" / "out" / "pages"
TENANT: Final = "acme"


@dataclass(frozen=True)
class Linking:
    """What a test links with: the deployed rotator, Wise, the partner's site and server."""

    deployed: Deployed
    site: Site
    partner: PartnerService
    wise: Wise

    @property
    def control(self) -> WiseControl:
        return self.deployed.wise.control

    def user(self, name: str, *profiles: ProfileType) -> None:
        self.control.put_user(name, profiles=profiles or (ProfileType.PERSONAL, ProfileType.BUSINESS))

    def profile(self, name: str, number: int) -> str:
        (found,) = [user for user in self.control.users() if user.user == name]
        return str(found.profiles[number].id)

    def item(self, pk: str) -> dict[str, Any]:
        """An item of the table; empty where there is none."""
        table = self.deployed.stack.outputs["GrantsTable"]
        client = self.deployed.stack.emulator.client("dynamodb")
        answer = client.get_item(TableName=table, Key={"pk": {"S": pk}}, ConsistentRead=True)
        found: dict[str, Any] = answer.get("Item", {})
        return found

    def let_time_pass(self, pk: str, name: str) -> None:
        """Put an instant of an item into the past: a test does not wait a quarter of an hour."""
        self.deployed.stack.emulator.client("dynamodb").update_item(
            TableName=self.deployed.stack.outputs["GrantsTable"],
            Key={"pk": {"S": pk}},
            UpdateExpression="SET #name = :past",
            ConditionExpression="attribute_exists(#name)",
            ExpressionAttributeNames={"#name": name},
            ExpressionAttributeValues={":past": {"N": "1"}},
        )

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Have the tenant suspended; no function remembers how it was before."""
        orders = DynamoSuspensions(
            self.deployed.stack.emulator.client("dynamodb"), self.deployed.stack.outputs["GrantsTable"]
        )
        orders.suspend(TENANT, Suspension(datetime.now(UTC), "operator", "a fixture"))
        self.deployed.configure("CallbackFunction")
        try:
            yield
        finally:
            orders.lift(TENANT)
            self.deployed.configure("CallbackFunction")

    @contextlib.contextmanager
    def without_secret(self) -> Iterator[None]:
        """Have `callback` look for a Wise secret that is not there."""
        name = self.deployed.variable("CallbackFunction", "WISE_SECRET_NAME")
        self.deployed.configure("CallbackFunction", WISE_SECRET_NAME="fixture-missing")
        try:
            yield
        finally:
            self.deployed.configure("CallbackFunction", WISE_SECRET_NAME=name)

    def wait(self, holds: Callable[[], bool]) -> bool:
        """Wait until it holds, at most as long as a sweep may be away; tell whether it did."""
        deadline = time.monotonic() + 90
        while not holds():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def exchanges(self, user: str) -> list[RequestTruth]:
        return [one for one in self.control.requests(user=user) if one.grant_type == "authorization_code"]

    def token_of(self, grant_id: str) -> tuple[int, bool]:
        """Fetch the token as the partner does: what Wise answers to it, and whether it is the user's living one."""
        token = self.partner.fetch(grant_id)["access_token"]
        live = {one.sha256 for one in self.control.truth().live_access_tokens(grant_id)}
        return self.wise.me(token), hash_of(token) in live


@dataclass(frozen=True)
class Person:
    """Somebody at a browser."""

    window: ChromiumWindow

    def goes(self, url: str, user: str, *, button: str = "allow", profile: str | None = None) -> Seen:
        """Go through Wise's pages to their end."""
        self.window.open(url)
        self.window.press("login", user=user)
        return self.window.press(button, **({} if profile is None else {"profile_id": profile}))


@pytest.fixture(scope="module")
def linking(assembly: Assembly) -> Iterator[Linking]:
    with contextlib.ExitStack() as stack:
        shop = stack.enter_context(site())
        deployed = stack.enter_context(deployment(assembly))
        deployed.create_secret()
        partners = json.loads(deployed.variable("AdminFunction", "PARTNERS"))
        for partner in partners:
            if partner["name"] == TENANT:
                partner["return_urls"] = [shop.return_url]
        deployed.configure("AdminFunction", PARTNERS=json.dumps(partners))
        wise = Wise(deployed.wise.url, deployed.wise.ca_file)
        shop.service = PartnerService(deployed.api, deployed.as_partner(TENANT), TENANT, wise, Ledger())
        yield Linking(deployed, shop, shop.service, wise)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find()
    if program is None:
        pytest.skip(MISSING)
    with chromium(program) as started:
        yield started


@pytest.fixture
def person(browser: Browser) -> Iterator[Person]:
    with window(browser) as shown:
        yield Person(shown)
