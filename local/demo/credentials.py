"""Acts about what a Wise partner has beside users' tokens: certificates, an application token, personal tokens."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from .partner import Wise, hash_of
from .stage import SECRET_NAME

if TYPE_CHECKING:
    from local.aws.signed import Answer

    from .story import Story

CALLERS: Final = 20
PERSONAL: Final = "small-business"
RENEWED: Final = "with-the-new-certificate"
_APPLICATION: Final = "/v1/application/access-token"
_BUSY: Final = frozenset({429, 503})
_CONFLICT: Final = 409
_FORBIDDEN: Final = 403
_OK: Final = 200


class Credentials:
    """Plays the acts. The stage's Wise takes nobody without a certificate, in every act of the story."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.wise = story.wise
        self.report = story.report
        self.treasury = story.stage.partner("treasury", "")
        self.first: dict[str, Any] = {}
        self.private_keys = {"private key": story.stage.certificate.private_key}
        self.personal_token = ""

    def secrets(self) -> dict[str, bytes]:
        """Every private key, as a line of it would be found, and the personal token."""
        keys = {name: _inmost_line(key).encode() for name, key in self.private_keys.items()}
        return keys | ({"personal token": self.personal_token.encode()} if self.personal_token else {})

    # --- the application's own token

    def application(self) -> None:
        """Twenty services want the application's token at once, and nobody has ever asked for it."""
        before = len(self._issued())
        with ThreadPoolExecutor(CALLERS) as pool:
            told = list(pool.map(lambda _: self._application(), range(CALLERS)))
        self.first = told[0]
        issued = len(self._issued()) - before
        created = self._creates_a_user("made-with-the-first-token", self.first)
        self.report.check(
            "twenty services, one application token, and none of them holds the client secret",
            len({one["access_token"] for one in told}) == 1 and issued == 1 and created == _OK,
            tokens_served=len({hash_of(one["access_token"]) for one in told}),
            issued_by_wise=issued,
            characters_of_it=len(self.first["access_token"]),
            answered_by_wise_to_its_use=created,
        )

    def application_renewed(self) -> None:
        """The schedule gets the next one, and not before the instant that was promised."""
        now: dict[str, Any] = {}

        def renewed() -> bool:
            now.update(self._application())
            return bool(now["version"] > self.first["version"])

        held = self.story.wait(renewed, 90)
        created = self._creates_a_user("made-with-a-later-token", now)
        early = now["issued_at"] < self.first["stable_until"]
        self.report.check(
            "the application token is replaced by the schedule, not before its stable_until",
            held and created == _OK and not early,
            versions=[self.first["version"], now["version"]],
            stable_until_of_the_first=self.first["stable_until"],
            next_one_issued_at=now["issued_at"],
            answered_by_wise_to_its_use=created,
        )

    # --- a personal token

    def personal(self) -> None:
        """A small business brings the token that it made by hand; it revokes it, and on-call hears of the report."""
        story = self.story
        made = self.wise.seed_personal_token(PERSONAL)
        self.personal_token = made.token
        body = {"personal_token": made.token, "issued_at": made.issued_at.isoformat()}
        story.onboarding.call("PUT", PERSONAL, json_body=body)
        served = story.reader.call("GET", PERSONAL, "/access-token").json()
        used = story.stage.wise.me(served["access_token"])
        self.wise.revoke_personal_tokens(PERSONAL)
        report = {"version": served["version"], "error": "invalid_token"}
        refused = story.reader.call("POST", PERSONAL, "/access-token/rejections", json_body=report)
        told = story.told(PERSONAL, "reauthorization_required", 40)
        requests = [one for one in self.wise.requests(user=PERSONAL) if one.grant_type == "refresh_token"]
        self.report.check(
            "a personal token is served and never refreshed; a report of its end reaches on-call",
            used == _OK
            and refused.status == _CONFLICT
            and told.get("reason") == "personal_token_rejected"
            and requests == [],
            answered_by_wise_to_its_use=used,
            answered_to_the_report=refused.status,
            in_the_queue={name: told.get(name) for name in ("kind", "reason", "grant_id")},
        )

    # --- certificates

    def renew_certificate(self) -> None:
        """The certificate in the secret is replaced, then Wise refuses the old one: nobody notices."""
        story, stage = self.story, self.story.stage
        fresh = self.wise.issue_certificate()
        self.private_keys["private key of the new certificate"] = fresh.private_key
        secrets = stage.emulator.client("secretsmanager")
        told = json.loads(secrets.get_secret_value(SecretId=SECRET_NAME)["SecretString"])
        told |= {"certificate": fresh.certificate, "private_key": fresh.private_key}
        secrets.put_secret_value(SecretId=SECRET_NAME, SecretString=json.dumps(told))
        self.wise.refuse_certificate(stage.certificate.serial)
        story.due_in(RENEWED, 3)
        refreshed = story.wait(lambda: any(one.carried_out for one in self.wise.requests(user=RENEWED)), 60)
        with_old, with_new = (self.wise.requests_with_certificate(one.serial) for one in (stage.certificate, fresh))
        plain = Wise(stage.plain_url, stage.wise.ca_file).me(story.reader.fetch(RENEWED)["access_token"])
        phase = story.item("acme", RENEWED).get("phase", {}).get("S")
        self.report.check(
            "Wise takes nobody without a certificate, and ours is replaced while everything goes on",
            refreshed and phase == "active" and with_old > 0 and with_new > 0 and plain == _FORBIDDEN,
            requests_with_the_first_certificate=with_old,
            requests_with_the_second=with_new,
            answered_without_a_certificate=plain,
        )

    # --- helpers

    def _application(self) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        answer = self._asked()
        while answer.status in _BUSY and time.monotonic() < deadline:
            time.sleep(float(answer.headers.get("retry-after", "1")))
            answer = self._asked()
        if answer.status != _OK:
            raise RuntimeError(f"GET {_APPLICATION} was answered {answer.status}: {answer.body.decode()[:300]}")
        told: dict[str, Any] = answer.json()
        return told

    def _asked(self) -> Answer:
        return self.treasury.at("GET", _APPLICATION)

    def _issued(self) -> list[object]:
        return [one for one in self.wise.requests() if one.grant_type == "client_credentials" and one.status == _OK]

    def _creates_a_user(self, name: str, told: dict[str, Any]) -> int:
        body = {"email": f"{name}@example.com", "registrationCode": f"demo-code-of-{name}".ljust(36, "-")}
        return self.story.stage.wise.create_user(told["access_token"], body)


def _inmost_line(pem: str) -> str:
    lines = pem.strip().splitlines()
    return lines[len(lines) // 2]
