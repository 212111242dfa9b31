"""What `admin` is made of: it seals and writes, and can open nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.dynamo_links import DynamoLinks
from token_rotator.adapters.dynamo_suspensions import DynamoSuspensions
from token_rotator.adapters.kms_sealer import KmsSealer
from token_rotator.domain.tokens import SealedField
from token_rotator.service.adopt_grant import AdoptGrant, DeleteGrant
from token_rotator.service.hold_grant import HoldAll, HoldGrant
from token_rotator.service.link_grant import ConfirmLink, StartLink
from token_rotator.service.suspend_grant import SuspendGrant
from token_rotator.settings import AdminSettings
from token_rotator.telemetry import PowertoolsJournal

from .clients import dynamodb, kms, new_token, sleep, utc_now

if TYPE_CHECKING:
    from token_rotator.service.ports import SuspensionStore


@dataclass(frozen=True, slots=True)
class Administering:
    """The use cases of the function that adopts, deletes, links and suspends."""

    settings: AdminSettings
    journal: PowertoolsJournal
    adopt_grant: AdoptGrant
    delete_grant: DeleteGrant
    start_link: StartLink
    confirm_link: ConfirmLink
    suspend_grant: SuspendGrant
    suspensions: SuspensionStore
    hold_grant: HoldGrant
    hold_all: HoldAll


def wire() -> Administering:
    """Put it together from the environment. Raises `SettingsError`."""
    settings = AdminSettings.of(os.environ)
    client = dynamodb()
    store, links = DynamoGrants(client, settings.table), DynamoLinks(client, settings.table)
    keys = {
        SealedField.ACCESS_TOKEN: settings.access_tokens_key,
        SealedField.REFRESH_TOKEN: settings.refresh_tokens_key,
        SealedField.REGISTRATION: settings.refresh_tokens_key,
    }
    suspensions = DynamoSuspensions(client, settings.table)
    sealer = KmsSealer(kms(), keys, settings.environment, utc_now)
    return Administering(
        settings,
        PowertoolsJournal(settings.environment),
        AdoptGrant(store, sealer, settings.budgets, utc_now, sleep, settings.personal_for),
        DeleteGrant(store, settings.budgets, utc_now, sleep),
        StartLink(
            store,
            links,
            settings.wise_client_id,
            settings.redirect_uri,
            utc_now,
            new_token,
            suspensions,
        ),
        ConfirmLink(store, links, settings.budgets, utc_now, sleep),
        SuspendGrant(store, utc_now),
        suspensions,
        HoldGrant(store, settings.budgets, utc_now, sleep),
        HoldAll(suspensions, settings.budgets, utc_now, sleep),
    )
