"""What `admin` is made of: it seals and writes, and can open nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass

from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.kms_sealer import KmsSealer
from token_rotator.domain.tokens import SealedField
from token_rotator.service.adopt_grant import AdoptGrant, DeleteGrant
from token_rotator.settings import AdminSettings
from token_rotator.telemetry import PowertoolsJournal

from .clients import dynamodb, kms, sleep, utc_now


@dataclass(frozen=True, slots=True)
class Administering:
    """The use cases of the function that adopts and deletes."""

    settings: AdminSettings
    journal: PowertoolsJournal
    adopt_grant: AdoptGrant
    delete_grant: DeleteGrant


def wire() -> Administering:
    """Put it together from the environment. Raises `SettingsError`."""
    settings = AdminSettings.of(os.environ)
    store = DynamoGrants(dynamodb(), settings.table)
    keys = {
        SealedField.ACCESS_TOKEN: settings.access_tokens_key,
        SealedField.REFRESH_TOKEN: settings.refresh_tokens_key,
        SealedField.REGISTRATION: settings.refresh_tokens_key,
    }
    sealer = KmsSealer(kms(), keys, settings.environment, utc_now)
    return Administering(
        settings,
        PowertoolsJournal(settings.environment),
        AdoptGrant(store, sealer, settings.budgets, utc_now, sleep),
        DeleteGrant(store, settings.budgets, utc_now, sleep),
    )
