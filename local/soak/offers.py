"""Bringing tokens to the rotator as a partner does: again where the API says so, each offer on record."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from local.demo.partner import hash_of

from .ledger import Adoption, now_ms

if TYPE_CHECKING:
    from local.aws.signed import Answer
    from local.demo.partner import PartnerService

    from .ledger import Ledger

_OK: Final = 200
_CREATED: Final = 201
_EXISTS: Final = 412
_AGAIN: Final = frozenset({429, 503})
_TURNS: Final = 20
_LOST: Final = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is brought. The access token, or personal token, and the refresh token are in the body as well."""

    tenant: str
    grant_id: str
    policy: str
    body: dict[str, Any]
    access: str
    refresh: str | None


def adopt(partner: PartnerService, offer: Offer, ledger: Ledger, *, replaces: bool = False) -> int:
    """Have it adopted, as a new grant or in place of what is stored; give the version.

    Raises RuntimeError where it was not taken; then it may have taken effect all the same.
    """
    asked_ms = now_ms()
    said = "nothing"
    for turn in range(_TURNS):
        version = _version(partner, offer.grant_id) if replaces else None
        if replaces and version is None:
            continue
        answer = _put(partner, offer, {} if version is None else {"If-Match": str(version)})
        if answer is None:
            continue
        taken = answer.status in (_OK, _CREATED)
        if taken or (answer.status == _EXISTS and not replaces and turn):  # an earlier one took effect, unsaid
            version = int(answer.json()["version"]) if taken else _version(partner, offer.grant_id)
            if version is None:
                continue
            _note(offer, ledger, asked_ms, version, replaced=replaces)
            return version
        said = f"{answer.status}: {answer.body.decode()[:300]}"
        if answer.status in _AGAIN:
            time.sleep(float(answer.headers.get("retry-after", 1)))
        elif answer.status != _EXISTS or not replaces:
            break
    _note(offer, ledger, asked_ms, 0, replaced=replaces, certain=False)
    raise RuntimeError(f"PUT {offer.grant_id} was answered {said}")


def _put(partner: PartnerService, offer: Offer, headers: dict[str, str]) -> Answer | None:
    try:
        return partner.call("PUT", offer.grant_id, json_body=offer.body, headers=headers)
    except _LOST:
        return None


def _version(partner: PartnerService, grant_id: str) -> int | None:
    """Look which version is there; none where nobody says so. A moment has passed then."""
    try:
        answer = partner.call("GET", grant_id)
    except _LOST:
        return None
    if answer.status == _OK:
        return int(answer.json()["version"])
    time.sleep(float(answer.headers.get("retry-after", 1)))
    return None


def _note(offer: Offer, ledger: Ledger, asked_ms: int, version: int, *, replaced: bool, certain: bool = True) -> None:
    ledger.add(
        Adoption(
            tenant=offer.tenant,
            grant_id=offer.grant_id,
            policy=offer.policy,
            asked_ms=asked_ms,
            answered_ms=now_ms(),
            access=hash_of(offer.access),
            refresh=None if offer.refresh is None else hash_of(offer.refresh),
            version=version,
            replaced=replaced,
            certain=certain,
        )
    )
