"""The verdict over a run: a good one passes, and each kind of wrong is found, over the Wise emulator's own log."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from local.demo.partner import hash_of
from local.soak.judge import Verdict, judge
from local.soak.ledger import (
    APPLICATION,
    Act,
    Adoption,
    Ask,
    Delivered,
    Did,
    Heard,
    Kill,
    Ledger,
    Rejection,
    Wait,
)
from local.soak.plan import Plan
from local.soak.play import Records
from local.soak.table import Row
from local.wise.chaos import CHAOS, ChaosKind
from local.wise.settings import RefreshTokenPolicy, WiseSettings
from local.wise.state import TokenRequest, WiseState
from local.wise.truth import Verdict as Liveness

CLIENT = (WiseSettings().client_id, WiseSettings().client_secret)
BEGAN_MS = 1_795_000_000_000
SAME, ROTATED, OMITTED = "acme-0", "globex-1", "acme-2"
MOVED, CLOSED, OWN = "acme-moved-0", "globex-closed-1", "acme-own-0"
POLICIES = {SAME: RefreshTokenPolicy.SAME, ROTATED: RefreshTokenPolicy.ROTATED, OMITTED: RefreshTokenPolicy.OMITTED}


class World:
    """Three grants, one of each policy, whose rotator is played by the test."""

    def __init__(self, seconds: float = 60) -> None:
        self.plan = Plan(seed=1, seconds=seconds, grants=3, readers=1)
        self.now_ms = BEGAN_MS
        self.wise = WiseState(WiseSettings(access_token_lifetime_s=200), wall_ns=lambda: self.now_ms * 1_000_000)
        self.ledger = Ledger()
        self.refresh_tokens: dict[str, str] = {}
        self.access_tokens: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.rows: dict[str, Row] = {}
        self.gone: set[str] = set()
        self.grant_ids = list(POLICIES)
        self.attempts = 0
        self.parked = 0
        self.healed_after_s: float | None = 1.0
        for grant_id, policy in POLICIES.items():
            user = self.wise.seed(grant_id, refresh_token_policy=policy)
            self.adopt(grant_id, user.access_token, user.refresh_token, policy.value)

    def adopt(self, grant_id: str, access_token: str, refresh_token: str | None, policy: str) -> None:
        self.access_tokens[grant_id] = access_token
        if refresh_token is not None:
            self.refresh_tokens[grant_id] = refresh_token
        self.versions[grant_id] = self.versions.get(grant_id, 0) + 1
        self.ledger.add(
            Adoption(
                tenant=grant_id.partition("-")[0],
                grant_id=grant_id,
                policy=policy,
                asked_ms=self.tick(1),
                answered_ms=self.tick(5),
                access=hash_of(access_token),
                refresh=None if refresh_token is None else hash_of(refresh_token),
                version=self.versions[grant_id],
                replaced=self.versions[grant_id] > 1,
            )
        )

    def tick(self, ms: int) -> int:
        self.now_ms += ms
        return self.now_ms

    def refresh(self, grant_id: str, *, fault: str | None = None, stored: bool = True) -> str:
        """Refresh at Wise; with a fault the answer is lost."""
        self.attempts += 1
        attempt = f"attempt-{self.attempts}"
        form = {"grant_type": "refresh_token", "refresh_token": self.refresh_tokens[grant_id]}
        request = TokenRequest(CLIENT, form)
        self.tick(10)
        record = self.wise.begin_request("/oauth/token", request, correlation_id=attempt, trace_id="t")
        self.wise.note_fault(record, fault)
        self.tick(10)
        answer = self.wise.carry_out(record, request)
        self.tick(10)
        self.wise.end_request(record, status=None if fault else answer.status, delivered=fault is None)
        self.tick(10)
        if answer.status == 200 and stored and fault is None:
            fields = json.loads(answer.body)
            self.access_tokens[grant_id] = fields["access_token"]
            self.refresh_tokens[grant_id] = fields.get("refresh_token", self.refresh_tokens[grant_id])
            self.versions[grant_id] += 1
        return attempt

    def issue(self, *, attempt: str | None = None, stored: bool = True) -> str:
        """Ask for an application token: one to keep, or a question about our client."""
        self.attempts += 1
        attempt = attempt or f"attempt-{self.attempts}"
        request = TokenRequest(CLIENT, {"grant_type": "client_credentials"})
        record = self.wise.begin_request("/oauth/token", request, correlation_id=attempt, trace_id="t")
        self.tick(10)
        answer = self.wise.carry_out(record, request)
        self.wise.end_request(record, status=answer.status, delivered=True)
        self.tick(10)
        if stored:
            self.access_tokens[APPLICATION] = json.loads(answer.body)["access_token"]
            self.versions[APPLICATION] = self.versions.get(APPLICATION, 0) + 1
            self.ledger.application_attempts.append(attempt)
        return attempt

    def did(self, did: Did, grant_id: str, *, survives: bool = False) -> None:
        asked_ms = self.tick(5)
        self.ledger.add(Act(did=did, grant_id=grant_id, asked_ms=asked_ms, at_ms=self.tick(5), survives=survives))

    def deliver(self, grant_id: str, event: str, occurred_ms: int, *, closes: bool, status: int | None = 200) -> None:
        told = {"grant_id": grant_id, "event": event, "closes": closes, "occurred_ms": occurred_ms, "status": status}
        self.ledger.add(Delivered(at_ms=self.tick(5), **told))  # type: ignore[arg-type]

    def reject(self, grant_id: str) -> None:
        """A reader reports the current version, and Wise is asked about it."""
        self.ledger.add(Rejection(reader="r", grant_id=grant_id, at_ms=self.tick(5), version=self.versions[grant_id]))
        self.attempts += 1
        use, _ = self.wise.use(
            "/v1/me", self.access_tokens[grant_id], correlation_id=f"attempt-{self.attempts}", trace_id="t"
        )
        self.tick(5)
        self.wise.end_use(use, status=200 if use.verdict is Liveness.LIVES else 401, delivered=True)
        self.tick(5)

    def hear(self, kind: str, grant_id: str, **more: str) -> None:
        alert = {"kind": kind, "incident_id": f"incident-{kind}-{grant_id}", "grant_id": grant_id, **more}
        self.ledger.add(Heard(self.tick(5), alert))

    def serve(
        self,
        grant_id: str,
        *,
        token: str | None = None,
        stable_for_ms: int = 0,
        status: int = 200,
        reader: str = "r",
        on_hold: bool = False,
    ) -> None:
        asked_ms = self.tick(5)
        token = token or self.access_tokens[grant_id]
        facts: dict[str, Any] = (
            {
                "sha256": hash_of(token),
                "version": self.versions[grant_id],
                "stable_until_ms": self.now_ms + stable_for_ms,
                "on_hold": on_hold,
            }
            if status == 200
            else {"problem": "urn:fixture"}
        )
        answered_ms = self.tick(5)
        self.ledger.add(
            Ask(reader=reader, grant_id=grant_id, asked_ms=asked_ms, answered_ms=answered_ms, status=status, **facts)
        )
        self.wise.use("/v1/me", token, correlation_id=None, trace_id="t")
        self.ledger.used(grant_id, 200)
        self.ledger.add(Wait(reader="r", grant_id=grant_id, asked_ms=asked_ms, ended_ms=answered_ms, ended="token"))

    def kill(self, *attempts: str) -> None:
        self.ledger.add(Kill(at_ms=self.tick(5), function="sweep", attempts=attempts))

    def put_to_rest(self, grant_id: str, reason: str = "outcome_unknown", *, told: bool = True) -> None:
        """Judge a grant dead."""
        raised_ms = self.tick(5)
        self.rows[grant_id] = replace(
            self.row(grant_id),
            phase="reauthorization_required",
            reason=reason,
            incident_id=f"incident-{grant_id}",
            raised_ms=raised_ms,
            due_at_ms=None,
            published=True,
        )
        if told:
            alert = {
                "kind": "reauthorization_required",
                "incident_id": f"incident-{grant_id}",
                "grant_id": grant_id,
                "reason": reason,
            }
            self.ledger.add(Heard(self.tick(5), alert))

    def row(self, grant_id: str) -> Row:
        return Row(
            read_ms=self.now_ms,
            grant_id=grant_id,
            phase="active",
            version=self.versions[grant_id],
            attempt=None,
            lease_until_ms=None,
            in_doubt=None,
            due_at_ms=self.now_ms + 60_000,
            failures=0,
            last_error=None,
            reason=None,
            incident_id=None,
            raised_ms=None,
            published=False,
        )

    def judge(self) -> Verdict:
        for grant_id in self.grant_ids:
            if grant_id not in {*self.rows, *self.gone}:
                self.serve(grant_id)
                self.rows[grant_id] = self.row(grant_id)
        self.tick(100)
        return judge(
            Records(
                plan=self.plan,
                ledger=self.ledger,
                truth=self.wise.truth(),
                rows=list(self.rows.values()),
                fleet={"pk": "#fleet", "revision": "0"},
                parked=self.parked,
                extra_ticks=1,
                troubles=[],
                abused_for_s=1.0,
                took_s=1.0,
                healed_after_s=self.healed_after_s,
            )
        )


def good() -> World:
    """A run with a little of everything, and nothing wrong."""
    world = World()
    for grant_id in POLICIES:
        world.serve(grant_id, stable_for_ms=1)
        world.refresh(grant_id)
        world.serve(grant_id)
    world.refresh(SAME, fault=CHAOS + ChaosKind.DROP_AFTER)
    world.refresh(SAME)
    world.kill()
    with_others(world)
    return world


def with_others(world: World) -> None:
    """Add the other kinds of grant, each with what must have happened to it."""
    world.grant_ids += [APPLICATION, MOVED, CLOSED]
    world.issue()
    for reader in ("one", "two"):
        world.serve(APPLICATION, reader=reader)
    move_in(world)
    have_a_foreign_refresher(world)
    close_and_open(world)
    revoke_a_personal_token(world)
    world.did(Did.RENEWED, "")
    world.did(Did.REFUSED, "")


def move_in(world: World) -> None:
    user = world.wise.seed(MOVED, refresh_token_policy=RefreshTokenPolicy.SAME)
    world.adopt(MOVED, user.access_token, user.refresh_token, "same")
    world.did(Did.HELD, MOVED)
    world.serve(MOVED, on_hold=True, stable_for_ms=59_000)
    theirs = world.wise.refresh_elsewhere(MOVED)
    world.adopt(MOVED, theirs.access_token, theirs.refresh_token, "same")
    world.serve(MOVED, on_hold=True)
    world.did(Did.RELEASED, MOVED)
    world.refresh(MOVED)


def have_a_foreign_refresher(world: World) -> None:
    world.wise.refresh_elsewhere(MOVED)
    world.did(Did.FOREIGN, MOVED)
    world.reject(MOVED)
    world.refresh(MOVED)
    world.hear("foreign_refresher", MOVED)
    world.serve(MOVED)


def close_and_open(world: World, *, survives: bool = True) -> None:
    user = world.wise.seed(CLOSED, refresh_token_policy=RefreshTokenPolicy.SAME)
    world.adopt(CLOSED, user.access_token, user.refresh_token, "same")
    world.wise.change_settings({"tokens_survive_deactivation": survives})
    closed_ms = world.now_ms
    world.wise.deactivate(CLOSED)
    world.did(Did.CLOSED, CLOSED, survives=survives)
    for _ in range(2):
        world.deliver(CLOSED, "closed", closed_ms, closes=True)
    world.did(Did.STOPPED, CLOSED)
    world.serve(CLOSED, status=409)
    opened_ms = world.now_ms
    world.wise.activate(CLOSED)
    world.did(Did.OPENED, CLOSED)
    world.did(Did.TOLD_OPEN, CLOSED)
    world.deliver(CLOSED, "opened", opened_ms, closes=False, status=None)
    world.deliver(CLOSED, "opened", opened_ms, closes=False)


def revoke_a_personal_token(world: World) -> None:
    made = world.wise.seed_personal_token(OWN)
    world.adopt(OWN, made.token, None, "personal")
    world.serve(OWN)
    world.wise.revoke_personal_tokens(OWN)
    world.did(Did.REVOKED, OWN)
    world.reject(OWN)
    world.put_to_rest(OWN, "personal_token_rejected")


def test_good_run_passes_and_is_counted() -> None:
    verdict = good().judge()
    facts = verdict.facts
    assert verdict.wrong == []
    assert (facts["violations"], facts["grants_lost"], facts["did_not_happen"]) == (0, 0, [])
    assert (facts["tokens_served"], facts["uses_at_wise"], facts["refreshes"]) == (18, 19, 7)
    assert facts["refreshes_by_refresh_token"] == {"same": 5, "rotated": 1, "omitted": 1}
    assert (facts["faults"], facts["faults_by_kind"], facts["kills"]) == (1, {"drop_after": 1}, 1)
    assert facts["answers_by_status"] == {"200": 18, "409": 1}
    assert facts["grants_by_phase"] == {"active": 6, "reauthorization_required": 1}
    assert facts["longest_wait"]["ended"] == "token"
    [loss] = facts["losses_that_no_client_could_avoid"]
    assert (loss["attempt"], loss["grant"], loss["why"]) == ("attempt-4", SAME, "no answer")
    assert (loss["fault"], loss["refresh_token"], loss["grant_now"]) == ("chaos:drop_after", "same", "active")
    json.dumps(facts)


def test_what_happened_to_each_kind_is_counted() -> None:
    kinds = good().judge().facts["by_kind"]
    assert {kind: (told.get("grants"), told.get("tokens_served")) for kind, told in kinds.items()} == {
        "user": (3, 9),
        "application": (1, 3),
        "personal": (1, 1),
        "moved_in": (1, 4),
        "closed_accounts": (1, 1),
        "certificates": (None, None),
    }
    application, moved, closed = kinds["application"], kinds["moved_in"], kinds["closed_accounts"]
    assert (application["readers"], application["different_tokens_served"], application["issued_by_wise"]) == (3, 1, 1)
    assert (kinds["personal"]["revoked"], kinds["personal"]["alerts"], kinds["personal"]["reports"]) == (1, 1, 1)
    assert (moved["newer_tokens_handed_in"], moved["served_on_hold"], moved["released"]) == (1, 2, 1)
    assert (moved["foreign_refreshers"], moved["foreign_refreshers_noticed"]) == (1, 1)
    assert (closed["events"], closed["deliveries"], closed["came_twice"], closed["lost_at_first"]) == (2, 4, 1, 1)
    assert closed["seen_suspended"] == 1


def serve_dead(world: World) -> None:
    before = world.access_tokens[SAME]
    world.refresh(SAME)
    world.serve(SAME, token=before)


def replace_early(world: World) -> None:
    world.serve(SAME, stable_for_ms=60_000)
    world.refresh(SAME)


def refresh_twice_at_once(world: World) -> None:
    request = TokenRequest(CLIENT, {"grant_type": "refresh_token", "refresh_token": world.refresh_tokens[SAME]})
    records = [
        world.wise.begin_request("/oauth/token", request, correlation_id=f"twin-{n}", trace_id="t") for n in range(2)
    ]
    for record in records:
        answer = world.wise.carry_out(record, request)
        world.wise.end_request(record, status=200, delivered=True)
        world.access_tokens[SAME] = json.loads(answer.body)["access_token"]
    world.versions[SAME] += 1


def judge_the_living(world: World) -> None:
    world.put_to_rest(OMITTED, "invalid_grant")


def drop_an_answer(world: World) -> None:
    world.refresh(ROTATED, stored=False)
    world.put_to_rest(ROTATED)


def drop_an_answer_while_others_die(world: World) -> None:
    world.refresh(ROTATED, stored=False)
    world.kill("attempt-of-somebody-else")
    world.put_to_rest(ROTATED)


def tell_nobody(world: World) -> None:
    world.refresh(ROTATED, fault=CHAOS + ChaosKind.DROP_AFTER)
    world.put_to_rest(ROTATED, told=False)


def end_overdue(world: World) -> None:
    world.serve(SAME)
    world.rows[SAME] = replace(world.row(SAME), due_at_ms=world.now_ms - 30_000)


def end_forgotten(world: World) -> None:
    world.serve(SAME)
    world.rows[SAME] = replace(world.row(SAME), due_at_ms=None)


def leave_parked(world: World) -> None:
    world.parked = 1


def lose_a_row(world: World) -> None:
    world.gone = {SAME}


def replace_the_application_token_early(world: World) -> None:
    world.serve(APPLICATION, stable_for_ms=60_000)
    world.wise.change_settings({"application_tokens_coexist": False})
    world.issue()


def serve_what_a_question_ended(world: World) -> None:
    world.wise.change_settings({"application_tokens_coexist": False})
    world.issue(stored=False)
    world.tick(3_000)
    world.serve(APPLICATION)


def serve_a_personal_token_that_wise_called_dead(world: World) -> None:
    del world.rows[OWN]
    world.serve(OWN)
    world.rows[OWN] = world.row(OWN)


def ask_for_tokens_in_place_of_a_personal_one(world: World) -> None:
    world.refresh_tokens[OWN] = world.access_tokens[OWN]
    world.refresh(OWN)


def judge_a_living_personal_token(world: World) -> None:
    made = world.wise.seed_personal_token(OWN)
    world.adopt(OWN, made.token, None, "personal")
    world.put_to_rest(OWN, "personal_token_rejected")


def refresh_on_hold(world: World) -> None:
    world.ledger.acts = [act for act in world.ledger.acts if act.did is not Did.RELEASED]
    world.refresh(MOVED)


def promise_too_much_on_hold(world: World) -> None:
    world.serve(MOVED, on_hold=True, stable_for_ms=61_000)


def hide_a_hold(world: World) -> None:
    world.did(Did.HELD, SAME)
    world.serve(SAME)


def tell_of_a_foreign_refresher_where_none_is(world: World) -> None:
    world.refresh(SAME)
    world.hear("foreign_refresher", SAME)


def tell_of_an_old_refresher_that_was_switched_off(world: World) -> None:
    world.did(Did.RELEASED, MOVED)
    world.hear("foreign_refresher", MOVED)


def serve_for_a_closed_account(world: World) -> None:
    world.wise.deactivate(CLOSED)
    world.did(Did.CLOSED, CLOSED, survives=True)
    world.did(Did.STOPPED, CLOSED)
    world.serve(CLOSED)
    world.rows[CLOSED] = replace(world.row(CLOSED), phase="suspended", due_at_ms=None)


def go_on_with_a_closed_account(world: World) -> None:
    world.did(Did.CLOSED, CLOSED)


def stop_for_good(world: World) -> None:
    world.rows[CLOSED] = replace(world.row(CLOSED), phase="suspended", due_at_ms=None)


def stop_without_a_reason(world: World) -> None:
    world.rows[SAME] = replace(world.row(SAME), phase="suspended", due_at_ms=None)


def lose_an_event(world: World) -> None:
    world.deliver(CLOSED, "never-taken", world.now_ms, closes=True, status=503)


def give_a_closed_account_up_though_told_in_time(world: World) -> None:
    """Its refresh token was refused while it was closed, and both events came in time: it is to be tried again."""
    closed_ms = world.now_ms
    world.wise.deactivate(CLOSED)
    world.did(Did.CLOSED, CLOSED, survives=True)
    world.refresh(CLOSED)
    world.put_to_rest(CLOSED, "invalid_grant")
    world.deliver(CLOSED, "closed again", closed_ms + 5, closes=True)
    world.wise.activate(CLOSED)
    world.did(Did.OPENED, CLOSED)
    world.did(Did.TOLD_OPEN, CLOSED)
    world.deliver(CLOSED, "opened again", world.now_ms, closes=False)


@pytest.mark.parametrize(
    ("spoil", "grant_id", "said", "lost"),
    [
        (serve_dead, SAME, "which the refresh of attempt-11 had replaced", 0),
        (replace_early, SAME, "was replaced by attempt attempt-11", 0),
        (refresh_twice_at_once, SAME, "could still be carried out", 0),
        (judge_the_living, OMITTED, "it was judged dead though its refresh token", 1),
        (drop_an_answer, ROTATED, "and had reached us", 1),
        (drop_an_answer_while_others_die, ROTATED, "and had reached us", 1),
        (tell_nobody, ROTATED, "its alert incident-globex-1 counts as published and never came", 0),
        (end_overdue, SAME, "is overdue, and nobody looks at it", 0),
        (end_forgotten, SAME, "will never be looked at again", 0),
        (leave_parked, None, "1 answers are left in the queue", 0),
        (lose_a_row, SAME, "is gone", 0),
        (replace_the_application_token_early, APPLICATION, "was replaced by attempt", 0),
        (serve_what_a_question_ended, APPLICATION, "which our question of", 0),
        (serve_a_personal_token_that_wise_called_dead, OWN, "which Wise had called dead", 0),
        (ask_for_tokens_in_place_of_a_personal_one, OWN, "asked Wise for tokens", 0),
        (judge_a_living_personal_token, OWN, "it was judged dead though its personal token", 1),
        (refresh_on_hold, MOVED, "though on hold", 0),
        (promise_too_much_on_hold, MOVED, "for longer than a minute", 0),
        (hide_a_hold, SAME, "was not told that", 0),
        (tell_of_a_foreign_refresher_where_none_is, SAME, "nobody else refreshes it", 0),
        (tell_of_an_old_refresher_that_was_switched_off, MOVED, "nobody else refreshes it", 0),
        (serve_for_a_closed_account, CLOSED, "was served, suspended by Wise since", 0),
        (go_on_with_a_closed_account, CLOSED, "though its account was closed", 0),
        (stop_for_good, CLOSED, "though its account was opened", 0),
        (stop_without_a_reason, SAME, "though its account was never closed", 0),
        (lose_an_event, None, "the event never-taken was never taken", 0),
        (lambda world: world.serve(SAME, status=500), SAME, "was answered 500", 0),
        (lambda world: world.serve(SAME, status=0), SAME, "was answered 0", 0),
    ],
)
def test_each_wrong_is_found_and_explained(
    spoil: Callable[[World], None], grant_id: str | None, said: str, lost: int
) -> None:
    world = good()
    spoil(world)
    verdict = world.judge()
    found = [text for text in verdict.facts["violations_in_full"] if said in text]
    assert found, verdict.facts["violations_in_full"]
    assert grant_id is None or all(grant_id in text for text in found)
    assert verdict.facts["grants_lost"] == len(verdict.facts["grants_lost_in_full"]) == lost
    assert verdict.wrong


def test_grant_is_lost_that_is_not_tried_again_though_wise_told_in_time() -> None:
    world = good()
    give_a_closed_account_up_though_told_in_time(world)
    facts = world.judge().facts
    assert facts["violations_in_full"] == [], "the verdict itself was Wise's own word"
    [lost] = facts["grants_lost_in_full"]
    assert lost.startswith(f"{CLOSED}: the refresh token of its adoption lives at Wise")


def test_grant_whose_account_was_reported_closed_too_late_is_not_lost() -> None:
    world = good()
    give_a_closed_account_up_though_told_in_time(world)
    world.ledger.deliveries[-1], world.ledger.deliveries[-2] = (
        replace(world.ledger.deliveries[-2], at_ms=world.now_ms),
        replace(world.ledger.deliveries[-1], at_ms=world.now_ms - 1),
    )
    assert world.judge().wrong == []


def test_refresh_token_that_a_foreign_refresher_took_away_is_not_lost_by_us() -> None:
    world = good()
    user = world.wise.seed("globex-moved-1", refresh_token_policy=RefreshTokenPolicy.ROTATED)
    world.adopt("globex-moved-1", user.access_token, user.refresh_token, "rotated")
    world.wise.refresh_elsewhere("globex-moved-1")
    world.refresh("globex-moved-1")
    world.put_to_rest("globex-moved-1", "invalid_grant")
    assert world.judge().wrong == []


def test_refresh_token_that_a_foreign_refresher_brought_is_lost_if_it_was_dropped() -> None:
    world = good()
    user = world.wise.seed("globex-moved-1", refresh_token_policy=RefreshTokenPolicy.ROTATED)
    world.adopt("globex-moved-1", user.access_token, user.refresh_token, "rotated")
    theirs = world.wise.refresh_elsewhere("globex-moved-1")
    world.adopt("globex-moved-1", theirs.access_token, theirs.refresh_token, "rotated")
    world.put_to_rest("globex-moved-1", "invalid_grant")
    facts = world.judge().facts
    assert facts["grants_lost"] == 1
    assert any("though its refresh token" in text for text in facts["violations_in_full"])


@pytest.mark.parametrize("how", ["no answer", "process died"])
def test_loss_that_nobody_could_avoid_is_listed_and_no_violation(how: str) -> None:
    world = good()
    if how == "no answer":
        attempt = world.refresh(ROTATED, fault=CHAOS + ChaosKind.DROP_AFTER)
    else:
        attempt = world.refresh(ROTATED, stored=False)
        world.kill(attempt)
    world.put_to_rest(ROTATED)
    verdict = world.judge()
    assert verdict.wrong == []
    [loss] = [loss for loss in verdict.facts["losses_that_no_client_could_avoid"] if loss["grant"] == ROTATED]
    assert (loss["attempt"], loss["why"], loss["grant_now"]) == (attempt, how, "reauthorization_required")
    assert verdict.facts["alerts_received"] == {"reauthorization_required": 2, "foreign_refresher": 1}


def test_grant_that_is_held_back_at_the_end_is_shown_and_not_judged() -> None:
    world = good()
    attempt = world.refresh(ROTATED, fault=CHAOS + ChaosKind.DROP_AFTER)
    world.serve(ROTATED, status=503)
    world.rows[ROTATED] = replace(world.row(ROTATED), in_doubt=attempt, failures=1, due_at_ms=world.now_ms + 120_000)
    verdict = world.judge()
    assert verdict.wrong == []
    [waiting] = verdict.facts["still_waiting"]
    assert (waiting["grant"], waiting["in_doubt"]) == (ROTATED, attempt)


def test_grant_that_is_held_back_for_ever_is_wrong_in_a_long_run() -> None:
    world = World(seconds=600)
    attempt = world.refresh(ROTATED, fault=CHAOS + ChaosKind.DROP_AFTER)
    world.rows[ROTATED] = replace(world.row(ROTATED), in_doubt=attempt, failures=6, due_at_ms=world.now_ms + 120_000)
    world.healed_after_s = None
    [violation] = world.judge().facts["violations_in_full"]
    assert violation.startswith(f"[the table] {ROTATED} has not come to its end long after the last fault")


def test_rotator_may_go_on_after_a_grant_was_looked_at_for_the_last_time() -> None:
    world = good()
    world.serve(SAME)
    world.rows[SAME] = world.row(SAME)
    world.refresh(SAME)
    assert world.judge().wrong == []


def test_token_that_grows_old_after_its_grant_was_looked_at_for_the_last_time_is_no_wrong_end() -> None:
    world = good()
    world.serve(SAME)
    world.rows[SAME] = world.row(SAME)
    world.tick(150_000)
    for other in (ROTATED, OMITTED, MOVED):
        world.refresh(other)
        world.serve(other)
    world.tick(70_000)
    wrong = world.judge().wrong
    assert not [text for text in wrong if SAME in text]


def test_token_that_had_grown_old_before_the_last_look_is_a_wrong_end() -> None:
    world = good()
    world.serve(SAME)
    world.tick(220_000)
    wrong = world.judge().wrong
    assert [text for text in wrong if f"{SAME} at the end: it is active with a dead access token" in text]


def test_promise_made_by_the_last_look_holds_all_the_same() -> None:
    world = good()
    world.serve(SAME, stable_for_ms=60_000)
    world.rows[SAME] = world.row(SAME)
    world.refresh(SAME)
    [violation] = world.judge().facts["violations_in_full"]
    assert "was replaced by attempt" in violation


def test_run_in_which_nothing_happened_proves_nothing() -> None:
    world = World()
    missing = world.judge().facts["did_not_happen"]
    assert "a process was killed" in missing
    assert "a call to Wise was struck" in missing
    assert "a refresh with a refresh token that is rotated" in missing
    assert "the fault late" not in missing, "a short run may go without"


def test_long_run_must_have_met_every_kind_of_fault() -> None:
    world = World(seconds=600)
    for kind in ChaosKind:
        if kind is not ChaosKind.LATE:
            world.refresh(SAME, fault=CHAOS + kind)
    missing = [what for what in world.judge().facts["did_not_happen"] if what.startswith("the fault")]
    assert missing == ["the fault late"]
