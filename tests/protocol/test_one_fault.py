"""Every step, every fault, everything that may come next: the grant ends well, and nobody was handed a dead token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.fakes.grants import InMemoryGrants
from tests.protocol.explorer import FIRST, POLICIES, Explored, explore_one, explore_two
from token_rotator.domain import policy as rules
from token_rotator.domain.grant import Grant
from token_rotator.domain.outcome import NotSent
from token_rotator.service import serve_token
from token_rotator.service.ports import Done, Refused, When


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("policy", POLICIES)
def test_after_any_one_fault_everything_comes_right(
    policy: str, first: str, record_property: Callable[[str, object], None]
) -> None:
    found = explore_one(policy, first)
    record_property("histories", found.histories)
    record_property("pruned", found.pruned)
    assert found.violations == []
    assert found.histories > 400


# --- the explorer would notice


def _forget_doubt_at_takeover(patch: pytest.MonkeyPatch) -> None:
    write = InMemoryGrants.write

    def forgetful(self: InMemoryGrants, before: Grant, after: Grant, when: When) -> Done | Refused:
        if after.takeovers > before.takeovers:
            after = replace(after, in_doubt=None)
        return write(self, before, after, when)

    patch.setattr(InMemoryGrants, "write", forgetful)


def _call_unknown_not_sent(patch: pytest.MonkeyPatch) -> None:
    from tests.protocol import explorer

    patch.setattr(explorer, "Unknown", lambda reason: NotSent(reason=reason))


def _serve_in_doubt(patch: pytest.MonkeyPatch) -> None:
    def careless(grant: Grant | None, *rest: object) -> rules.Reading:
        if grant is not None:
            grant = replace(grant, attempt_id=None, in_doubt=None, refresh_at=grant.expires_at or grant.refresh_at)
        return rules.read(grant, *rest)  # type: ignore[arg-type]

    patch.setattr(serve_token, "read", careless)


@pytest.mark.parametrize(
    ("remove", "explore"),
    [
        (_forget_doubt_at_takeover, lambda: explore_two("same", "report_dead", 23.0)),
        (_call_unknown_not_sent, lambda: explore_one("same", "refresh")),
        (_serve_in_doubt, lambda: explore_one("same", "refresh")),
    ],
    ids=["doubt at takeover", "unknown is not not-sent", "no token in doubt is served"],
)
def test_a_protocol_without_a_guard_is_found_out(
    remove: Callable[[pytest.MonkeyPatch], None], explore: Callable[[], Explored], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(monkeypatch)
    assert explore().violations != []
