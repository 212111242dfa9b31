"""What others do meanwhile: old refreshers, owners of personal tokens, Wise that closes accounts, our operator."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from local.demo.partner import offered
from local.demo.stage import SECRET_NAME
from local.wise.control import WiseControl, WiseControlError
from local.wise.settings import RefreshTokenPolicy

from .agenda import Agenda
from .ledger import APPLICATION, Act, Delivered, Did, now_ms
from .offers import Offer, adopt
from .plan import TENANTS, Leaving
from .table import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local.demo.partner import PartnerService
    from local.demo.stage import Stage
    from local.wise.clients import IssuedCertificate
    from local.wise.control import PersonalToken, SeededUser
    from local.wise.webhooks import EventDelivery

    from .ledger import Ledger
    from .plan import Closing, Move, Personal, Plan
    from .table import GrantsTable, Row

PERSONAL: Final = "personal"
"""Stands for what becomes of a refresh token where there is none."""
_WORKERS: Final = 4
_ADOPTERS: Final = 6
_AGAIN: Final = frozenset({409, 429, 503})
_TURNS: Final = 20
_POST_EVERY_S: Final = 0.4
_WATCH_EVERY_S: Final = 0.15
_LOOKS: Final = 60
_STOP_S: Final = 60
_RENEWED_AT: Final = 0.4
_REFUSED_AT: Final = 0.55
_SHARES: Final = {"at once": 4, "twice": 2, "late": 3, "lost": 2}
"""What becomes of the first delivery of an event. What is lost, Wise delivers again, much later."""


class Others:
    """Plays them all, from the adoption on, at the times of the plan."""

    def __init__(
        self, plan: Plan, stage: Stage, ledger: Ledger, table: GrantsTable, partners: dict[str, PartnerService]
    ) -> None:
        self.moves, self.personals, self.closings = plan.moves(), plan.personals(), plan.closings()
        self._plan = plan
        self._stage = stage
        self._ledger = ledger
        self._table = table
        self._partners = partners
        self._control = WiseControl(stage.control.url, timeout_s=40)
        self._agenda = Agenda(_WORKERS)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._random = plan.random("others")
        self._released: set[str] = set()
        self._made: dict[str, PersonalToken] = {}
        self._wise_ids: dict[int, str] = {}
        self._known: set[str] = set()
        self._opened_ms: dict[str, int] = {}
        self._closed: set[str] = set()
        self._certificate: IssuedCertificate | None = None
        self.troubles = self._agenda.troubles

    @property
    def ids(self) -> list[tuple[str, str]]:
        """Tenant and id of each grant that is not like the others, our application's own token the last of them."""
        parts: list[Sequence[Move | Personal | Closing]] = [self.moves, self.personals, self.closings]
        listed = [(one.tenant, one.grant_id) for part in parts for one in part]
        return [*listed, ("", APPLICATION)]

    # --- from the adoption to the end

    def adopt(self) -> None:
        """Bring all of them, and tell Wise what kind of Wise it is."""
        self._control.hold_webhooks()
        self._control.change_settings(application_tokens_coexist=self._plan.application_tokens_coexist)
        random = self._plan.random("births of others")
        births = [self._plan.birth(random) for _ in range(len(self.moves) + len(self.closings))]
        with ThreadPoolExecutor(_ADOPTERS) as pool:
            jobs = [pool.submit(self._adopt_move, move, births.pop()) for move in self.moves]
            jobs += [pool.submit(self._adopt_personal, personal) for personal in self.personals]
            jobs += [pool.submit(self._adopt_closing, closing, births.pop()) for closing in self.closings]
            for job in jobs:
                job.result()

    def start(self) -> None:
        """Begin with all of it: from now on the run is abused."""
        seconds, agenda = self._plan.seconds, self._agenda
        for move in self.moves:
            elsewhere = self._elsewhere(move)
            agenda.at(self._pause_s() if move.leaving is Leaving.STUBBORN else self._random.uniform(1, 15), elsewhere)
            if move.released_at is not None:
                agenda.at(move.released_at * seconds, partial(self._release, move))
        for personal in self.personals:
            if personal.revoked_at is not None:
                agenda.at(personal.revoked_at * seconds, partial(self._revoke, personal))
            if personal.replaced_at is not None:
                agenda.at(personal.replaced_at * seconds, partial(self._replace, personal))
        for closing in self.closings:
            agenda.at(closing.closed_at * seconds, partial(self._close, closing))
            if closing.opened_at is not None:
                agenda.at(closing.opened_at * seconds, partial(self._open, closing))
                if closing.again:
                    agenda.at(closing.opened_at * seconds + 1, partial(self._close, closing))
                    agenda.at(closing.opened_at * seconds + 2, partial(self._open, closing))
        agenda.at(0, self._post)
        agenda.at(0, self._watch)
        agenda.at(_RENEWED_AT * seconds, self._renew)
        agenda.at(_REFUSED_AT * seconds, self._refuse)
        agenda.start()

    def finish(self) -> None:
        """Nothing fails any more: nobody does anything but end well. Wise delivers what was not taken."""
        self._agenda.stop(_STOP_S)
        open_again = [closing for closing in self.closings if closing.opened_at is not None]
        for closing in open_again:
            if closing.grant_id in self._closed:
                self._open(closing)
        left = [delivery for delivery in self._control.deliveries() if not delivery.taken]
        self._random.shuffle(left)
        for delivery in left:
            self._send(delivery)

    def stubborn(self) -> list[Move]:
        """Name the grants whose old refresher goes on without taking their refresh token away."""
        kept = [move for move in self.moves if move.policy is not RefreshTokenPolicy.ROTATED]
        return [move for move in kept if move.leaving is Leaving.STUBBORN]

    def refresh_elsewhere(self, move: Move) -> None:
        """An old refresher that was not switched off refreshes a released grant."""
        asked_ms = now_ms()
        self._control.refresh_elsewhere(move.grant_id)
        self._ledger.did(Did.FOREIGN, move.grant_id, asked_ms)

    def last(self) -> None:
        """Whoever still refreshes elsewhere hands its last tokens in."""
        for move in self.moves:
            if move.leaving is Leaving.STAYS:
                self._hand_in(move, self._control.refresh_elsewhere(move.grant_id))

    def unsettled(self, rows: list[Row]) -> set[str]:
        """Name the grants of accounts whose state has not come through to the table yet."""
        phases = {row.grant_id: row.phase for row in rows}
        return {
            closing.grant_id
            for closing in self.closings
            if (closing.grant_id in self._closed) != (phases.get(closing.grant_id) == "suspended")
        }

    def may_wait(self, row: Row) -> bool:
        """Tell whether a grant waits for nothing but the tokens that its old refresher hands in at the very end."""
        stays = {move.grant_id for move in self.moves if move.leaving is Leaving.STAYS}
        return row.grant_id in stays and row.state is State.WAITING

    def certificates(self) -> dict[str, int]:
        """How many requests came with the first certificate, and with the one after it."""
        counted = {"first": self._control.requests_with_certificate(self._stage.certificate.serial)}
        if self._certificate is not None:
            counted["second"] = self._control.requests_with_certificate(self._certificate.serial)
        return counted

    # --- moving in

    def _adopt_move(self, move: Move, birth: tuple[float, float]) -> None:
        life_s, age_s = birth
        user = self._control.seed_user(
            move.grant_id, access_token_lifetime_s=life_s, age_s=age_s, refresh_token_policy=move.policy
        )
        asked_ms = now_ms()
        adopt(self._adopter(move.tenant), self._held(move, user), self._ledger)
        self._ledger.did(Did.HELD, move.grant_id, asked_ms)

    def _held(self, move: Move, user: SeededUser) -> Offer:
        return _offer(move.tenant, move.policy.value, user, hold=True)

    def _elsewhere(self, move: Move) -> Callable[[], float | None]:
        """The old refresher's own schedule. A stubborn one begins when the grant has been released."""

        def act() -> float | None:
            with self._locks[move.grant_id]:
                released = move.grant_id in self._released
                if released and move.leaving is not Leaving.STUBBORN:
                    return None
                if not released and move.leaving is Leaving.STUBBORN:
                    return 1
                asked_ms = now_ms()
                try:
                    theirs = self._control.refresh_elsewhere(move.grant_id)
                except WiseControlError:  # its user is gone
                    return None
                if released:
                    self._ledger.did(Did.FOREIGN, move.grant_id, asked_ms)
                else:
                    time.sleep(self._random.uniform(0, 2))
                    self._hand_in(move, theirs)
            return self._pause_s()

        return act

    def _pause_s(self) -> float:
        return self._random.uniform(*self._plan.elsewhere_every_s)

    def _hand_in(self, move: Move, theirs: SeededUser) -> None:
        adopt(self._adopter(move.tenant), self._held(move, theirs), self._ledger, replaces=True)

    def _release(self, move: Move) -> None:
        with self._locks[move.grant_id]:
            asked_ms = now_ms()
            answer = self._adopter(move.tenant).call("DELETE", move.grant_id, "/hold")
            for _ in range(_TURNS):
                if answer.status not in _AGAIN:
                    break
                time.sleep(float(answer.headers.get("retry-after", 1)))
                answer = self._adopter(move.tenant).call("DELETE", move.grant_id, "/hold")
            if answer.status // 100 != 2:  # noqa: PLR2004
                raise RuntimeError(f"DELETE {move.grant_id}/hold was answered {answer.status}: {answer.body[:200]!r}")
            self._released.add(move.grant_id)
            self._ledger.did(Did.RELEASED, move.grant_id, asked_ms)

    # --- personal tokens

    def _adopt_personal(self, personal: Personal) -> None:
        self._bring(personal, replaces=False)

    def _bring(self, personal: Personal, *, replaces: bool) -> None:
        made = self._control.seed_personal_token(personal.grant_id)
        offer = Offer(
            tenant=personal.tenant,
            grant_id=personal.grant_id,
            policy=PERSONAL,
            body={"personal_token": made.token, "issued_at": made.issued_at.isoformat()},
            access=made.token,
            refresh=None,
        )
        adopt(self._adopter(personal.tenant), offer, self._ledger, replaces=replaces)
        self._made[personal.grant_id] = made

    def _revoke(self, personal: Personal) -> None:
        with self._locks[personal.grant_id]:
            asked_ms = now_ms()
            self._control.revoke_personal_tokens(personal.grant_id)
            self._ledger.did(Did.REVOKED, personal.grant_id, asked_ms)

    def _replace(self, personal: Personal) -> None:
        """The owner makes another, brings it, and ends the one before a moment later."""
        with self._locks[personal.grant_id]:
            before = self._made[personal.grant_id]
            self._bring(personal, replaces=True)
            time.sleep(self._random.uniform(0, 2))
            self._control.revoke_personal_tokens(personal.grant_id, before.ordinal)

    # --- accounts

    def _adopt_closing(self, closing: Closing, birth: tuple[float, float]) -> None:
        life_s, age_s = birth
        user = self._control.seed_user(
            closing.grant_id, access_token_lifetime_s=life_s, age_s=age_s, refresh_token_policy=closing.policy
        )
        self._wise_ids[user.wise_user_id] = closing.grant_id
        offer = _offer(closing.tenant, closing.policy.value, user, wise_user_id=str(user.wise_user_id))
        adopt(self._adopter(closing.tenant), offer, self._ledger)

    def _close(self, closing: Closing) -> None:
        with self._locks["settings"], self._locks[closing.grant_id]:
            asked_ms = now_ms()
            self._control.change_settings(tokens_survive_deactivation=closing.survives)
            self._control.deactivate(closing.grant_id)
            self._closed.add(closing.grant_id)
            self._ledger.did(Did.CLOSED, closing.grant_id, asked_ms, survives=closing.survives)

    def _open(self, closing: Closing) -> None:
        with self._locks[closing.grant_id]:
            asked_ms = now_ms()
            self._control.activate(closing.grant_id)
            self._closed.discard(closing.grant_id)
            self._ledger.did(Did.OPENED, closing.grant_id, asked_ms)

    # --- their events on the way

    def _post(self) -> float:
        """Draw what becomes of each new event."""
        for delivery in self._control.deliveries():
            if delivery.id in self._known:
                continue
            self._known.add(delivery.id)
            [fate] = self._random.choices(list(_SHARES), list(_SHARES.values()))
            after_s = {"late": self._random.uniform(2, 12), "lost": self._random.uniform(8, 20)}.get(fate, 0.0)
            if fate == "lost":
                self._note(delivery, None)
            self._agenda.at(after_s, self._sends(delivery, 2 if fate == "twice" else 1))
        return _POST_EVERY_S

    def _sends(self, delivery: EventDelivery, times: int) -> Callable[[], float | None]:
        def act() -> float | None:
            return None if self._send(delivery, times) else self._random.uniform(2, 5)

        return act

    def _send(self, delivery: EventDelivery, times: int = 1) -> bool:
        """Send an event; tell whether it was taken."""
        grant_id, closes, occurred_ms = self._told(delivery)
        with self._locks[f"{grant_id} post"]:
            asked_ms = now_ms()
            if not closes:
                self._opened_ms[grant_id] = max(self._opened_ms.get(grant_id, 0), occurred_ms)
                self._ledger.add(Act(did=Did.TOLD_OPEN, grant_id=grant_id, asked_ms=asked_ms, at_ms=asked_ms))
            [sent] = self._control.deliver([delivery.id], times=times)
            for status in sent.statuses[-times:]:
                self._note(delivery, status)
        if sent.taken and closes:
            self._agenda.at(1, self._looks_whether_stopped(grant_id, occurred_ms))
        return sent.taken

    def _looks_whether_stopped(self, grant_id: str, occurred_ms: int) -> Callable[[], float | None]:
        tenant = next(closing.tenant for closing in self.closings if closing.grant_id == grant_id)
        looks = iter(range(_LOOKS))

        def act() -> float | None:
            with self._locks[f"{grant_id} post"]:
                if self._opened_ms.get(grant_id, 0) > occurred_ms or next(looks, None) is None:
                    return None
                asked_ms = now_ms()
                row = self._table.row(tenant, grant_id)
                if row is None or row.phase != "suspended":
                    return 1
                self._ledger.did(Did.STOPPED, grant_id, asked_ms)
                return None

        return act

    def _note(self, delivery: EventDelivery, status: int | None) -> None:
        grant_id, closes, occurred_ms = self._told(delivery)
        self._ledger.add(
            Delivered(
                at_ms=now_ms(),
                grant_id=grant_id,
                event=delivery.id,
                closes=closes,
                occurred_ms=occurred_ms,
                status=status,
            )
        )

    def _told(self, delivery: EventDelivery) -> tuple[str, bool, int]:
        """Whose account it is about, whether it closes it, and when that happened."""
        data: dict[str, Any] = json.loads(delivery.body)["data"]
        occurred_ms = round(datetime.fromisoformat(data["occurred_at"]).timestamp() * 1000)
        return self._wise_ids[data["resource"]["id"]], data["current_state"] == "DEACTIVATED", occurred_ms

    # --- our own certificate, our own token

    def _renew(self) -> None:
        asked_ms = now_ms()
        self._certificate = self._control.issue_certificate()
        client = self._stage.emulator.client("secretsmanager")
        told = json.loads(client.get_secret_value(SecretId=SECRET_NAME)["SecretString"])
        told |= {"certificate": self._certificate.certificate, "private_key": self._certificate.private_key}
        client.put_secret_value(SecretId=SECRET_NAME, SecretString=json.dumps(told))
        self._ledger.did(Did.RENEWED, "", asked_ms)

    def _refuse(self) -> None:
        asked_ms = now_ms()
        self._control.refuse_certificate(self._stage.certificate.serial)
        self._ledger.did(Did.REFUSED, "", asked_ms)

    def _watch(self) -> float:
        """See who holds the application's own token: at Wise its requests look like questions about our client."""
        attempt = self._table.application_attempt()
        if attempt is not None and attempt not in self._ledger.application_attempts:
            self._ledger.application_attempts.append(attempt)
        return _WATCH_EVERY_S

    # --- helpers

    def _adopter(self, tenant: str) -> PartnerService:
        return self._partners[TENANTS[tenant][0]]


def _offer(tenant: str, policy: str, user: SeededUser, **more: Any) -> Offer:
    return Offer(
        tenant=tenant,
        grant_id=user.user,
        policy=policy,
        body=offered(user) | more,
        access=user.access_token,
        refresh=user.refresh_token,
    )
