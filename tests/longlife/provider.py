"""Wise in virtual time: users with refresh-token policies of their own, faults that last, and a record of all it did.

A new authorization ends the old refresh token and leaves the last access token alive; a refresh ends every access
token before it. What was sent may be carried out after its sender gave up, and whether its sender lives or not.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from local.proof.history import (
    Acted,
    Asked,
    Died,
    Kind,
    Minted,
    Recorder,
    RefreshAnswered,
    RefreshBegan,
    RefreshSettled,
    Told,
    name_of,
)
from tests.longlife.simulation import Process, Simulation, Task
from token_rotator.domain.errors import WiseSecretUnusable
from token_rotator.domain.outcome import (
    ClientAccepted,
    ClientCheck,
    ClientRefused,
    GrantInvalid,
    Liveness,
    NotSent,
    Outcome,
    Refreshed,
    Said,
    ServerFault,
    Throttled,
    Unknown,
    WeAreWrong,
)
from token_rotator.domain.tokens import Secret, TokenSet

REFRESH_TOKEN_LIFE = timedelta(days=3650)
READ_AGAIN_AFTER = timedelta(minutes=5)
SETTLE = timedelta(seconds=9)
"""How long after its sender gave up Wise may carry a request out: a little less than the rotator reckons with."""
OUTAGES = ("unreachable", "black-hole", "fault", "fault-after", "drop", "lose", "late", "proxy", "wrong", "mixed")
MIXED = ("up", "up", "up", "unreachable", "fault", "fault-after", "drop", "lose", "late", "proxy")


@dataclass
class User:
    """One user: the refresh token, the access tokens that live, and what Wise thinks of them."""

    policy: str
    life: timedelta
    refresh: str = ""
    access: dict[str, datetime] = field(default_factory=dict)
    deactivated: bool = False


@dataclass
class Trouble:
    """What Wise does instead of answering. `questions`, `client`: whether those suffer as refreshes do."""

    kind: str
    retry_after: timedelta | None = None
    questions: bool = True
    client: bool = True


class Provider:
    """Everything that Wise is. Instants are true ones."""

    def __init__(self, simulation: Simulation, recorder: Recorder, chance: random.Random) -> None:
        self.simulation = simulation
        self.recorder = recorder
        self.chance = chance
        self.users: dict[str, User] = {}
        self.trouble: Trouble | None = None
        self.troubled_until = simulation.now
        """Since then nothing has been wrong with it."""
        self.grants_client_credentials = True
        self.secrets = ["secret-1"]
        """What Secrets Manager holds: the current version, and the one before."""
        self.secret_version = 1
        self.valid_secrets = {"secret-1"}
        self.carried_out = 0
        self.struck: dict[str, int] = {}
        self._serial = itertools.count(1)

    # --- tokens

    def authorize(self, name: str) -> tuple[str, str, datetime]:
        """A user goes through the authorization page: access token, refresh token, expiry."""
        user = self.users[name]
        if user.refresh:
            self._end(name, user.refresh)
        user.deactivated = False
        return self._mint(name, None, new_refresh_token=True)

    def _mint(self, name: str, request: str | None, *, new_refresh_token: bool) -> tuple[str, str, datetime]:
        user, serial = self.users[name], next(self._serial)
        access, now = f"access-{name}-{serial}", self.simulation.now
        user.access[access] = now + user.life
        made = [(access, Kind.ACCESS, user.life)]
        if new_refresh_token:
            user.refresh = f"refresh-{name}-{serial}"
            made.append((user.refresh, Kind.REFRESH, REFRESH_TOKEN_LIFE))
        for token, kind, life in made:
            self.recorder.add(
                Minted(
                    when=self.recorder.moment(),
                    grant=name,
                    token=name_of(token),
                    kind=kind,
                    expires_at=now + life,
                    request=request,
                )
            )
        return access, user.refresh, now + user.life

    def _end(self, name: str, token: str, request: str | None = None) -> None:
        when = self.recorder.moment()
        self.recorder.add(Died(when=when, grant=name, token=name_of(token), request=request))

    def _end_access(self, name: str, request: str | None = None) -> None:
        user = self.users[name]
        for token, expires_at in user.access.items():
            if expires_at > self.simulation.now:
                self._end(name, token, request)
        user.access.clear()

    def revoke(self, name: str) -> None:
        """The user ends the authorization."""
        self._acted(name, "authorization ends")
        user = self.users[name]
        self._end_access(name)
        if user.refresh:
            self._end(name, user.refresh)
        user.refresh = ""

    def deactivate(self, name: str) -> None:
        """Wise closes the account: access tokens die, refreshes get a 401 that says nothing."""
        self._acted(name, "account is deactivated")
        self.users[name].deactivated = True
        self._end_access(name)

    def _acted(self, name: str, act: str) -> None:
        self.recorder.add(Acted(when=self.recorder.moment(), grant=name, act=act))

    def reactivate(self, name: str, *, tokens_come_back: bool) -> None:
        user = self.users[name]
        if user.deactivated and not tokens_come_back:
            self.revoke(name)
        user.deactivated = False

    def lives(self, name: str, access: str) -> bool:
        expires_at = self.users[name].access.get(access)
        return expires_at is not None and self.simulation.now < expires_at

    def owner_of(self, refresh: str) -> str:
        """Tell whose a refresh token is, or was."""
        return refresh.removeprefix("refresh-").rpartition("-")[0]

    def carry_out(self, refresh: str, request: str) -> tuple[str, str, datetime] | None:
        """Exchange a refresh token, if it is alive."""
        name = self.owner_of(refresh)
        user = self.users[name]
        made = None
        if user.refresh == refresh and not user.deactivated:
            self.carried_out += 1
            self._end_access(name, request)
            if user.policy == "rotated":
                self._end(name, refresh, request)
            made = self._mint(name, request, new_refresh_token=user.policy == "rotated")
        self.recorder.add(
            RefreshSettled(
                when=self.recorder.moment(),
                grant=name,
                request=request,
                carried_out=made is not None,
                access=name_of(made[0]) if made else None,
                refresh=name_of(made[1]) if made else None,
            )
        )
        return made

    # --- faults

    def strikes(self) -> Trouble | None:
        """Say what goes wrong with the call that comes now."""
        trouble = self.trouble
        if trouble is None:
            return None
        kind = self.chance.choice(MIXED) if trouble.kind == "mixed" else trouble.kind
        if kind == "up":
            return None
        self.struck[f"wise {kind}"] = self.struck.get(f"wise {kind}", 0) + 1
        return Trouble(kind, trouble.retry_after, trouble.questions, trouble.client)

    def request(self) -> str:
        return f"request-{next(self._serial)}"

    @property
    def secrets_differ(self) -> bool:
        """Whether the current secret is not the one that Wise takes, or not the only one."""
        return {self.secrets[0]} != self.valid_secrets


def milliseconds(chance: random.Random, least: int, most: int) -> timedelta:
    return timedelta(milliseconds=least + int((most - least + 1) * chance.random()))


@dataclass
class _Settling:
    """What Wise said last of our client: when the question was asked, the answer, the secret that it accepted."""

    began: datetime
    check: ClientCheck
    secret: str | None = None


class Client:
    """`Wise` as one process of ours sees it, with the client secret that this process has in use.

    A secret in use stays in use while it is one of the two versions in Secrets Manager; a cold process takes the
    current one.
    """

    def __init__(
        self, provider: Provider, process: Process, step: Callable[[str], None], secrets_answer: Callable[[], bool]
    ) -> None:
        """`step` is told of each call before and after it, and may kill the process."""
        self.provider = provider
        self.process = process
        self.step = step
        self.secrets_answer = secrets_answer
        self.secret: str | None = None
        self.read_at: datetime | None = None
        self.sent: set[str] = set()
        """Attempts that sent something; who hears of their end takes them out."""
        self.presented: dict[str, tuple[str | None, datetime]] = {}
        """What an attempt last showed to Wise, and when Wise's answer was there."""
        self.settled: _Settling | None = None
        self.settling: Task | None = None

    def _pause(self, least: int, most: int) -> None:
        self.process.sleep(milliseconds(self.provider.chance, least, most))

    def check_credentials(self) -> None:
        now = self.process.clock()
        if self.read_at is not None and now - self.read_at < READ_AGAIN_AFTER:
            return
        self._pause(5, 40)
        if self.secrets_answer():
            if self.read_at is None or self.secret not in self.provider.secrets:
                self.secret = self.provider.secrets[0]
            self.read_at = now
        elif self.secret is None:
            raise WiseSecretUnusable("injected")

    def refresh(self, refresh_token: Secret, *, attempt_id: str, within: timedelta) -> Outcome:
        assert within > timedelta(0)
        self.step("wise.refresh before")
        trouble = self.provider.strikes()
        if trouble is not None and trouble.kind in ("unreachable", "black-hole"):
            self._not_connected(trouble, within)
            return NotSent(reason="not-connected")
        self.sent.add(attempt_id)
        secret = self.secret
        outcome = self._sent(refresh_token.reveal(), attempt_id, within, trouble)
        self.presented[attempt_id] = secret, self.provider.simulation.now
        self.step("wise.refresh after")
        return outcome

    def _not_connected(self, trouble: Trouble, within: timedelta) -> None:
        self.process.sleep(min(timedelta(milliseconds=30 if trouble.kind == "unreachable" else 1000), within))

    def _sent(self, refresh: str, attempt_id: str, within: timedelta, trouble: Trouble | None) -> Outcome:
        """The request is on its way: it arrives, it settles, it is answered, each in its time."""
        provider, simulation, chance = self.provider, self.provider.simulation, self.provider.chance
        sent_at, deadline = self.process.clock(), simulation.now + within
        self._pause(10, 60)
        name, request = provider.owner_of(refresh), provider.request()
        began = provider.recorder.moment()
        provider.recorder.add(
            RefreshBegan(when=began, grant=name, request=request, attempt=attempt_id, presented=name_of(refresh))
        )
        refused = self._refused(name, trouble)
        if refused is not None:
            self._not_carried_out(name, request)
            self._pause(10, 60)
            told = Told.NOTHING if isinstance(refused, ServerFault | Unknown) else Told.REFUSED
            self._answered(name, request, told)
            return refused
        kind = trouble.kind if trouble is not None else "up"
        if kind == "drop":
            self._not_carried_out(name, request)
            self.process.sleep(deadline - simulation.now)
            return Unknown(reason="deadline")
        made: list[tuple[str, str, datetime] | None] = []
        takes = milliseconds(chance, 30, 400)
        if kind == "late":
            takes = milliseconds(chance, 1000, int((within + SETTLE) / timedelta(milliseconds=1)))
        simulation.after(takes, lambda: made.append(provider.carry_out(refresh, request)))
        if kind == "proxy":
            self._pause(10, 300)
            return Unknown(reason="not-wise")
        answer_at = simulation.now + takes + milliseconds(chance, 10, 60)
        if kind == "lose" and chance.random() < 0.5:
            self.process.sleep(answer_at - simulation.now)
            return Unknown(reason="connection-broke")
        if kind == "lose" or answer_at >= deadline:
            self.process.sleep(deadline - simulation.now)
            return Unknown(reason="deadline")
        self.process.sleep(answer_at - simulation.now)
        if kind == "fault-after":
            return ServerFault(status=500)
        return self._outcome(name, request, made[0], sent_at)

    def _refused(self, name: str, trouble: Trouble | None) -> Outcome | None:
        """What Wise answers without looking at the refresh token."""
        match trouble.kind if trouble is not None else None:
            case "throttle":
                return Throttled(status=429, retry_after=trouble.retry_after if trouble else None)
            case "fault":
                return ServerFault(status=500)
            case "wrong":
                return WeAreWrong(status=403)
            case _:
                pass
        if self.secret not in self.provider.valid_secrets:
            return ClientRefused(status=401, error="invalid_client")
        return ClientRefused(status=401) if self.provider.users[name].deactivated else None

    def _not_carried_out(self, name: str, request: str) -> None:
        when = self.provider.recorder.moment()
        self.provider.recorder.add(RefreshSettled(when=when, grant=name, request=request, carried_out=False))

    def _answered(self, name: str, request: str, told: Told) -> None:
        when = self.provider.recorder.moment()
        self.provider.recorder.add(RefreshAnswered(when=when, grant=name, request=request, told=told))

    def _outcome(self, name: str, request: str, made: tuple[str, str, datetime] | None, sent_at: datetime) -> Outcome:
        self._answered(name, request, Told.TOKENS if made else Told.INVALID)
        if made is None:
            return GrantInvalid(status=400, error="invalid_grant")
        user = self.provider.users[name]
        tokens = TokenSet(
            access_token=Secret(made[0]),
            issued_at=sent_at,
            expires_at=sent_at + user.life,
            refresh_token=None if user.policy == "omitted" else Secret(made[1]),
        )
        return Refreshed(tokens=tokens, status=200)

    def ask(self, access_token: Secret, *, attempt_id: str, within: timedelta) -> Said:
        assert within > timedelta(0)
        self.step("wise.ask before")
        trouble = self.provider.strikes()
        if trouble is not None and not trouble.questions:
            trouble = None
        self._pause(10, 60)
        access = access_token.reveal()
        name = access.removeprefix("access-").rpartition("-")[0]
        when, lives, told = self.provider.recorder.moment(), self.provider.lives(name, access), False
        try:
            if trouble is not None:
                quick = trouble.kind in ("throttle", "fault", "wrong", "proxy", "unreachable")
                self.process.sleep(min(timedelta(milliseconds=50), within) if quick else within)
                return Said(Liveness.NO_ANSWER)
            self._pause(10, 60)
            self.step("wise.ask after")
            told = True
        finally:
            self.provider.recorder.add(Asked(when=when, grant=name, token=name_of(access), lives=lives, told=told))
        return Said(Liveness.LIVES if lives else Liveness.DEAD)

    def settle_client(self, *, attempt_id: str, within: timedelta) -> ClientCheck:
        """Take part in a question that is asked after what this attempt was refused for, in a thread of its own."""
        assert within > timedelta(0)
        self.step("wise.settle_client before")
        simulation = self.provider.simulation
        secret, since = self.presented.pop(attempt_id, (self.secret, simulation.now))
        ends = simulation.now + within
        while self.settled is None or self.settled.began < since:
            if simulation.now >= ends:
                return Unknown(reason="deadline")
            if self.settling is None or self.settling.over:
                self.settling = self.process.start(lambda: self._settle(ends), watched=True)
            simulation.wait([self.settling], ends - simulation.now)
        self.step("wise.settle_client after")
        check = self.settled.check
        if isinstance(check, ClientAccepted):
            return ClientAccepted(changed=secret is not None and secret != self.settled.secret, status=200)
        return check

    def _settle(self, ends: datetime) -> None:
        """Ask Wise with the secret's current version and then with the one before, until it accepts one."""
        began = self.provider.simulation.now
        self._pause(5, 40)
        versions = [*self.provider.secrets] if self.secrets_answer() else [self.secret] * (self.secret is not None)
        refused: ClientCheck | None = None
        for secret in versions:
            left = ends - self.provider.simulation.now
            if left <= timedelta(0):
                self.settled = _Settling(began, Unknown(reason="deadline"))
                return
            check = self._asked(secret, left)
            if isinstance(check, ClientAccepted):
                self.secret, self.read_at = secret, self.process.clock()
                self.settled = _Settling(began, check, secret)
                return
            if not isinstance(check, ClientRefused | WeAreWrong):
                self.settled = _Settling(began, check)
                return
            refused = refused or check
        if refused is not None:
            self.read_at = None  # the current version, at the next use
        self.settled = _Settling(began, refused or NotSent(reason=WiseSecretUnusable.code))

    def _asked(self, secret: str | None, within: timedelta) -> ClientCheck:
        trouble = self.provider.strikes()
        if trouble is not None and trouble.client:
            return self._client_trouble(trouble, within)
        self._pause(20, 120)
        if not self.provider.grants_client_credentials:
            return ClientRefused(status=401, error="unauthorized_client")
        if secret in self.provider.valid_secrets:
            return ClientAccepted(changed=False, status=200)
        return ClientRefused(status=401, error="invalid_client")

    def _client_trouble(self, trouble: Trouble, within: timedelta) -> ClientCheck:
        match trouble.kind:
            case "unreachable" | "black-hole":
                self._not_connected(trouble, within)
                return NotSent(reason="not-connected")
            case "throttle":
                return Throttled(status=429, retry_after=trouble.retry_after)
            case "fault" | "fault-after":
                return ServerFault(status=500)
            case "wrong":
                return WeAreWrong(status=403)
            case "proxy":
                return Unknown(reason="not-wise")
            case _:
                self.process.sleep(within)
                return Unknown(reason="deadline")
