"""The guards of the protocol, each with the edit that takes it out and the tests that should notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import (
    accounts,
    answers,
    application,
    doubt,
    fleet,
    lease,
    linking,
    moving,
    mtls,
    outside,
    people,
    personal,
    readers,
    reissue,
    restore,
    suspension,
    together,
    work,
)

if TYPE_CHECKING:
    from local.mutants.guard import Guard

GUARDS: Final[tuple[Guard, ...]] = (
    *lease.GUARDS,
    *doubt.GUARDS,
    *answers.GUARDS,
    *readers.GUARDS,
    *fleet.GUARDS,
    *work.GUARDS,
    *people.GUARDS,
    *reissue.GUARDS,
    *outside.GUARDS,
    *linking.GUARDS,
    *suspension.GUARDS,
    *accounts.GUARDS,
    *together.GUARDS,
    *restore.GUARDS,
    *mtls.GUARDS,
    *application.GUARDS,
    *personal.GUARDS,
    *moving.GUARDS,
)
