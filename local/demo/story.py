"""The story, act by act. Each act ends in a check whose proof comes from Wise, the queue, the logs or the table."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as changed
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from local.aws.ministack import Credentials
from local.aws.signed import assume
from local.hunt import found
from local.wise.truth import Death, Kind, Verdict

from .credentials import Credentials as OtherCredentials
from .endings import Endings
from .linking import Linking
from .moving import Moving
from .on_call import OnCall
from .partner import Readers, Waiting, hash_of, offered
from .stage import CLIENT_SECRET, LIFE_S
from .suspending import Suspending

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local.wise.control import SeededUser
    from local.wise.truth import RequestTruth, Truth

    from .partner import PartnerService
    from .report import Report
    from .stage import Stage

GRANTS: Final = {"acme": 13, "globex": 12}
CALLERS: Final = 20
READERS_WARM_UP: Final = (5, 10, 15, CALLERS)
REFRESHERS_WARM_UP: Final = (2, 4)
FIRST_REFRESH_S: Final = 60
"""A new token is left alone for a minute: the product's floor, which decides here as tokens live 90 seconds."""
KILLED: Final = "killed"
_FORBIDDEN: Final = 403
_OK: Final = 200


class Story:
    """Plays on a stage and reports."""

    def __init__(self, stage: Stage, report: Report, pictures: Path) -> None:
        self.stage = stage
        self.report = report
        self.wise = stage.control
        self.reader = stage.partner("acme-payments", "acme")
        self.onboarding = stage.partner("acme-onboarding", "acme")
        self.globex = stage.partner("globex-payments", "globex")
        self.grants: dict[str, list[str]] = {"acme": [], "globex": []}
        self.readers = Readers(self.reader, self.grants["acme"])
        self.scheduled_attempts: set[str | None] = set()
        self.alerts: list[dict[str, Any]] = []
        self.linking = Linking(self, pictures)
        self.endings = Endings(self)
        self.suspending = Suspending(self)
        self.credentials = OtherCredentials(self)
        self.moving = Moving(self)

    def play(self) -> None:
        """Play all acts. One that cannot be played is a check that did not hold; the others go on."""
        acts = (
            self.subscribe,
            self.adopt,
            self.warm_up,
            self.twenty_callers,
            self.refusals,
            self.third_lock,
            self.credentials.application,
            self.kill_worker,
            self.linking.link_users,
            self.killed_worker,
            self.moving.move_in,
            self.scheduled,
            self.linking.unconfirmed,
            self.fetch_and_use,
            self.suspending.suspend,
            self.moving.close,
            self.credentials.personal,
            self.endings.begin,
            self.endings.revoked,
            self.endings.reissued,
            self.endings.reclaimed,
            self.moving.open_again,
            self.suspending.lifted,
            self.moving.foreign_refresher,
            self.straggler,
            self.credentials.application_renewed,
            self.credentials.renew_certificate,
            self.logs_join,
            self.truth,
            self.hunt,
        )
        for act in acts:
            self.played(act)

    def played(self, act: Callable[..., None], *given: object) -> None:
        """Play one act. If it breaks, that is a check that did not hold."""
        try:
            act(*given)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
            name = f"the act «{act.__name__}» was played to its end"
            self.report.check(name, held=False, error=f"{type(error).__name__}: {error}"[:300])

    # --- helpers

    def adopt_one(
        self,
        grant_id: str,
        partner: PartnerService | None = None,
        *,
        age_s: float = 0,
        **more: object,
    ) -> SeededUser:
        """Adopt a new user's grant, acme's unless another partner does it; `more` goes into the body."""
        user = self.wise.seed_user(grant_id, age_s=age_s)
        body = offered(user) | {"wise_user_id": str(user.wise_user_id)} | more
        answer = (partner or self.onboarding).call("PUT", grant_id, json_body=body)
        if answer.status != 201:  # noqa: PLR2004
            msg = f"PUT {grant_id} was answered {answer.status}: {answer.body.decode()[:300]}"
            raise RuntimeError(msg)
        return user

    def due_in(
        self,
        grant_id: str,
        seconds: float,
        partner: PartnerService | None = None,
        **more: object,
    ) -> float:
        """Adopt a grant that is due in so many seconds; give that instant, epoch seconds."""
        user = self.adopt_one(grant_id, partner, age_s=FIRST_REFRESH_S - seconds, **more)
        return user.issued_at.timestamp() + FIRST_REFRESH_S

    def stored(self, pk: str) -> dict[str, Any]:
        """An item of the table; empty where there is none."""
        table = self.stage.stack.outputs["GrantsTable"]
        client = self.stage.emulator.client("dynamodb")
        answer = client.get_item(TableName=table, Key={"pk": {"S": pk}}, ConsistentRead=True)
        item: dict[str, Any] = answer.get("Item", {})
        return item

    def item(self, tenant: str, grant_id: str) -> dict[str, Any]:
        """A grant's item."""
        return self.stored(f"{tenant}#{grant_id}")

    def told(self, grant_id: str, kind: str, seconds: float) -> dict[str, Any]:
        """Give what on-call was told about a grant, as soon as it is; empty where it is not told in time."""
        found: list[dict[str, Any]] = []

        def heard() -> bool:
            found[:] = [one for one in self.alerts if one.get("grant_id") == grant_id and one.get("kind") == kind]
            if not found:
                self.alerts += self.on_call.hear()
            return bool(found)

        self.wait(heard, seconds)
        return found[0] if found else {}

    def _refreshes(self, user: str) -> list[RequestTruth]:
        return [request for request in self.wise.requests(user=user) if request.grant_type == "refresh_token"]

    def wait(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until it holds, at most so long; tell whether it did."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    # --- acts

    def subscribe(self) -> None:
        """Put a queue in on-call's place."""
        self.on_call = OnCall(self.stage.emulator, self.stage.stack.outputs["AlertsTopicArn"])
        self.report.tell("a queue stands in for on-call, subscribed to the topic")

    def adopt(self) -> None:
        """Adopt 25 grants of two tenants; no refresh is spent on it."""
        for tenant, partner in (("acme", self.onboarding), ("globex", self.globex)):
            for number in range(GRANTS[tenant]):
                grant_id = f"{tenant}-user-{number + 1}"
                self.adopt_one(grant_id, partner)
                self.grants[tenant].append(grant_id)
        rows = [self.item(tenant, grant_id) for tenant, ids in self.grants.items() for grant_id in ids]
        spent = len(self.wise.requests())
        self.report.check(
            "25 grants adopted, no refresh spent",
            len([row for row in rows if row]) == sum(GRANTS.values()) and spent == 0,
            rows_in_the_table=len([row for row in rows if row]),
            requests_at_wise=spent,
        )

    def warm_up(self) -> None:
        """Start the functions' processes: twenty cold starts on two cores take their time."""
        self.adopt_one("warm-up")

        def many(ask: Callable[[], int], waves: tuple[int, ...]) -> None:
            for callers in waves:
                with ThreadPoolExecutor(callers) as pool:
                    list(pool.map(lambda _: ask(), range(callers)))

        many(lambda: self.reader.call("GET", "warm-up", "/access-token").status, READERS_WARM_UP)
        reported = "wrongly-reported"
        self.adopt_one(reported)  # the warming up may have taken longer than it is to a first refresh
        token = self.reader.fetch(reported)
        age = time.time() - datetime.fromisoformat(token["issued_at"]).timestamp()
        time.sleep(max(0.0, LIFE_S / 10 + 1 - age))
        body = {"version": token["version"], "error": "invalid_token"}
        many(
            lambda: self.reader.call("POST", reported, "/access-token/rejections", json_body=body).status,
            REFRESHERS_WARM_UP,
        )
        stable_until = datetime.fromisoformat(token["stable_until"]).timestamp() * 1000
        unharmed = [request for request in self._refreshes(reported) if request.begin_ms < stable_until]
        asked = [use for use in self.wise.uses() if use.user == reported]
        self.report.check(
            "wrong reports of a living token refresh nothing",
            unharmed == [] and asked != [],
            refreshes_at_wise_before_it_was_due=len(unharmed),
            asked_at_wise=len(asked),
        )

    def twenty_callers(self) -> None:
        """Twenty callers at once hit one grant that is due."""
        due_at = self.due_in("race", 4)
        time.sleep(max(due_at - time.time() - 1, 0))
        with ThreadPoolExecutor(CALLERS) as pool:
            tokens = list(pool.map(lambda _: self.reader.fetch("race")["access_token"], range(CALLERS)))
        truth = self.wise.truth()
        refreshes = [r for r in truth.requests if r.user == "race" and r.carried_out]
        newest = [hash_of(token) for token in tokens]
        live = {token.sha256 for token in truth.live_access_tokens("race")}
        self.report.check(
            "twenty callers, one refresh",
            len(refreshes) == 1 and set(newest) == live,
            refreshes_at_wise=len(refreshes),
            callers_with_the_live_token=len([name for name in newest if name in live]),
        )

    def refusals(self) -> None:
        """Whoever may not, may not."""
        grant_id = self.grants["acme"][0]
        path = f"/v1/tenants/acme/grants/{grant_id}"
        api = self.stage.api
        emulator = self.stage.emulator
        iam = emulator.client("iam")
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{emulator.account}:root"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        stranger = iam.create_role(RoleName="stranger", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        allow = {"Effect": "Allow", "Action": "execute-api:*", "Resource": "*"}
        iam.put_role_policy(
            RoleName="stranger",
            PolicyName="everything",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allow]}),
        )
        unrelated = assume(emulator, stranger)
        reader = assume(emulator, self.stage.role_arn("acme-payments"), external_id="acme-payments-external-id")
        forged: Credentials = changed(reader, secret_access_key="not-the-secret")
        globex = assume(emulator, self.stage.role_arn("globex-payments"), external_id="globex-payments-external-id")
        answers = {
            "another tenant's role": api.call("GET", f"{path}/access-token", credentials=globex).status,
            "a reader's DELETE": api.call("DELETE", path, credentials=reader).status,
            "a wrong signature": api.call("GET", f"{path}/access-token", credentials=forged).status,
            "an unrelated role with execute-api:*": api.call(
                "GET", f"{path}/access-token", credentials=unrelated
            ).status,
            "no signature": api.call("GET", f"{path}/access-token", credentials=None).status,
        }
        still_there = bool(self.item("acme", grant_id))
        self.report.check(
            "who may not is refused",
            all(status == _FORBIDDEN for status in answers.values()) and still_there,
            answers=answers,
            grant_still_in_the_table=still_there,
        )

    def third_lock(self) -> None:
        """A careless administrator opens the first lock of a partner's role; the function still refuses."""
        role = self.stage.role_arn("globex-payments").rsplit("/", 1)[-1]
        iam = self.stage.emulator.client("iam")
        allow = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        iam.put_role_policy(RoleName=role, PolicyName="careless", PolicyDocument=document)
        intruder = self.stage.partner("globex-payments", "acme", session="acme-payments")
        answers = [
            intruder.call("GET", grant_id, "/access-token") for grant_id in (self.grants["acme"][0], "no-such-grant")
        ]
        iam.delete_role_policy(RoleName=role, PolicyName="careless")
        same = len({(answer.status, answer.body) for answer in answers}) == 1
        by_function = [b"urn:token-rotator:problem:forbidden" in answer.body for answer in answers]
        self.report.check(
            "the function itself refuses a stranger to the tenant",
            all(answer.status == _FORBIDDEN for answer in answers) and same and all(by_function),
            answers=[answer.status for answer in answers],
            same_bytes_for_existing_and_missing=same,
        )

    def kill_worker(self) -> None:
        """A Lambda process dies between Wise's refresh and its own write, while a reader waits."""
        due_at = self.due_in(KILLED, 3)
        self.before_the_kill = {token.sha256 for token in self.wise.truth().live_access_tokens(KILLED)}
        self.wise.withhold(KILLED)
        time.sleep(max(due_at - time.time(), 0))
        self.waiting = Waiting(lambda: self.reader.fetch(KILLED, 60))
        self.wise.wait_until_withheld(KILLED, timeout_s=20)
        self.killed = [
            pid for output in ("RefreshFunction", "SweepFunction") for pid in self.stage.function_pids(output)
        ]
        for pid in self.killed:
            os.kill(pid, signal.SIGKILL)
        self.report.tell(f"  Wise has refreshed and withholds its answer; {len(self.killed)} processes got SIGKILL")
        self.wise.release(KILLED, deliver=False)

    def killed_worker(self) -> None:
        """What became of it: the reader was told to ask again, and got a living token."""
        waited = self.waiting.end(90)
        live = {token.sha256 for token in self.wise.truth().live_access_tokens(KILLED)}
        handed = [served.sha256 for served in self.stage.ledger.served if served.grant_id == KILLED]
        self.report.check(
            "a killed worker costs nobody a dead token",
            bool(handed) and set(handed) <= live and not self.before_the_kill & set(handed) and waited < 45,  # noqa: PLR2004
            processes_killed=len(self.killed),
            refreshes_at_wise=len(self._refreshes(KILLED)),
            handed_out_tokens_alive=len([name for name in handed if name in live]),
            handed_out_tokens_dead=len([name for name in handed if name not in live]),
            seconds_until_a_live_token=round(waited, 1),
        )

    def scheduled(self) -> None:
        """The deployed schedule refreshes all 25, without anybody's help."""
        users = [user for ids in self.grants.values() for user in ids]

        def all_refreshed() -> bool:
            done = {request.user for request in self.wise.requests() if request.carried_out}
            return done >= set(users)

        self.report.tell("  waiting for the schedule, which fires every minute")
        self.wait(all_refreshed, 120)
        done = [request for request in self.wise.requests() if request.carried_out and request.user in users]
        self.report.check(
            "the schedule refreshes every due grant",
            len({request.user for request in done}) == len(users),
            users_refreshed=len({request.user for request in done}),
            refreshes_at_wise=len(done),
        )
        self.scheduled_attempts = {request.correlation_id for request in done}

    def fetch_and_use(self) -> None:
        """Partner services fetch tokens with their own roles and use each at Wise; two go on in the background."""
        self.readers.start()
        began = self.wise.truth().seq
        for partner, tenant in ((self.reader, "acme"), (self.globex, "globex")):
            for grant_id in self.grants[tenant]:
                partner.use(grant_id)
        uses = [
            use for use in self.wise.uses(since=began) if use.user in {*self.grants["acme"], *self.grants["globex"]}
        ]
        verdicts = {use.user: use.verdict for use in uses}
        alive = [user for user, verdict in verdicts.items() if verdict is Verdict.LIVES]
        self.report.check(
            "partner services use every token at Wise",
            len(alive) == sum(GRANTS.values()),
            users_with_a_living_token=len(alive),
        )

    def straggler(self) -> None:
        """A worker freezes with Wise's answer in hand, another one goes on, then the first one wakes up."""
        user = "frozen"
        self.due_in(user, 3)
        self.wise.withhold(user)
        self.wise.wait_until_withheld(user, timeout_s=30)
        frozen = self.stage.function_pids("SweepFunction")
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            self.wise.release(user)
            self.report.tell(
                f"  Wise has refreshed and answered; {len(frozen)} sweep got SIGSTOP before it could write"
            )
            token = self.reader.fetch(user, 60)
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        time.sleep(4)
        live = {token.sha256 for token in self.wise.truth().live_access_tokens(user)}
        after = self.reader.fetch(user, 60)
        names = [hash_of(token["access_token"]), hash_of(after["access_token"])]
        self.report.check(
            "a straggler changes nothing",
            all(name in live for name in names),
            workers_frozen=len(frozen),
            refreshes_at_wise=len(self._refreshes(user)),
            live_token_served_before_and_after_it_woke=[name in live for name in names],
        )

    def logs_join(self) -> None:
        """Every refresh that Wise saw stands in a log line of ours; those of the schedule in a sweep's."""
        logs = self.stage.emulator.client("logs")
        joins: dict[str, set[str]] = {}

        def joined() -> bool:
            for group in ("SweepLogGroup", "RefreshLogGroup"):
                name = self.stage.stack.outputs[group]
                lines = logs.get_paginator("filter_log_events").paginate(logGroupName=name)
                joins[group] = {
                    attempt_id
                    for page in lines
                    for event in page["events"]
                    for attempt_id in _attempts(event["message"])
                }
            return self.scheduled_attempts <= joins["SweepLogGroup"]

        self.wait(joined, 90)
        swept = self.scheduled_attempts & joins["SweepLogGroup"]
        self.report.check(
            "every scheduled refresh joins to a sweep's log line",
            bool(self.scheduled_attempts) and swept == self.scheduled_attempts,
            scheduled_refreshes_at_wise=len(self.scheduled_attempts),
            joined_to_a_sweep=len(swept),
        )

    def truth(self) -> None:
        """What Wise knows, against what was served."""
        self.readers.stop()
        truth = self.wise.truth()
        self._no_dead_token_served(truth)
        served = {(entry.sha256, entry.stable_until_ms) for entry in self.stage.ledger.served}
        promised = {name: max(until for other, until in served if other == name) for name, _ in served}
        early = [
            use
            for use in truth.uses
            if use.verdict is not Verdict.LIVES
            and use.sha256 in promised
            and use.at_ms < promised[use.sha256]
            and use.killed_by is not Death.REVOCATION
            and use.sha256 not in _replaced_by_others(truth)
        ]
        calls, troubles = self.readers.calls, self.readers.troubles
        self.report.check(
            "no token was answered 401 before its stable_until",
            early == [] and troubles == [] and calls > 0,
            uses_at_wise=len(truth.uses),
            answered_401_too_early=len(early),
            background_calls=calls,
            troubles=troubles[:3],
        )
        self.report.check(
            "never two refreshes of one user in flight",
            truth.overlaps == [],
            refreshes_at_wise=len([request for request in truth.requests if request.grant_type == "refresh_token"]),
            overlaps=len(truth.overlaps),
        )

    def hunt(self) -> None:
        """Look for every token of this story wherever the rotator writes."""
        emulator, outputs = self.stage.emulator, self.stage.stack.outputs
        secrets = {
            f"{token.kind.value} token {token.ordinal} of {token.user}": (token.value or "").encode()
            for token in self.wise.truth(values=True).tokens
        }
        secrets["client secret"] = CLIENT_SECRET.encode()
        secrets |= self.linking.secrets() | self.endings.secrets() | self.credentials.secrets()
        logs = emulator.client("logs")
        places: list[tuple[str, bytes]] = [("the template", json.dumps(self.stage.stack.assembly.template).encode())]
        for group in logs.describe_log_groups()["logGroups"]:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"])
            lines = "\n".join(event["message"] for page in pages for event in page["events"])
            places.append((group["logGroupName"], lines.encode()))
        pages = emulator.client("dynamodb").get_paginator("scan").paginate(TableName=outputs["GrantsTable"])
        items = [
            value for page in pages for item in page["Items"] for field in item.values() for value in field.values()
        ]
        table = b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in items)
        places += [("the table", table), ("the alerts", json.dumps(self.alerts).encode())]
        places.append(("the emulator's own log", emulator.log.read_bytes()))
        leaks = found(secrets, places)
        self.report.check(
            "no secret in any log, item, alert or template",
            leaks == []
            and len(secrets) > sum(GRANTS.values())
            and all(content for name, content in places if "AccessLog" not in name),
            secrets_looked_for=len(secrets),
            places={name.rsplit("/", 1)[-1]: len(content) for name, content in places},
            found=leaks[:3],
        )

    def _no_dead_token_served(self, truth: Truth) -> None:
        tokens = {token.sha256: token for token in truth.tokens if token.kind is not Kind.REFRESH}
        others = _replaced_by_others(truth)
        dead, broken = [], []
        for served in self.stage.ledger.served:
            token = tokens.get(served.sha256)
            if token is None or (token.killed_by is Death.REFRESH and (token.died_ms or 0) < served.at_ms - 1000):
                dead.append(served.grant_id)
            elif (
                token.killed_by is Death.REFRESH
                and (token.died_ms or 0) < served.stable_until_ms
                and served.sha256 not in others
            ):
                broken.append(served.grant_id)
        self.report.check(
            "no token was served that a refresh had replaced, none replaced before its stable_until",
            not dead and not broken and bool(self.stage.ledger.served),
            tokens_served=len(self.stage.ledger.served),
            served_dead=dead[:3],
            replaced_too_early=broken[:3],
        )


def _replaced_by_others(truth: Truth) -> set[str]:
    """Access tokens that the old refresher replaced: requests of ours have a correlation id, its own have none."""
    theirs = {request.id for request in truth.requests if request.correlation_id is None}
    return {token.sha256 for token in truth.tokens if token.killed_by_request in theirs}


def _attempts(line: str) -> list[str]:
    try:
        entry = json.loads(line)
    except ValueError:
        return []
    told = isinstance(entry, dict) and entry.get("message") == "refresh sent to wise" and "attempt_id" in entry
    return [entry["attempt_id"]] if told else []
