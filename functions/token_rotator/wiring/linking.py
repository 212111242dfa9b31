"""What `callback` is made of: it asks Wise and seals what comes, and can neither read a grant nor open anything."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.dynamo_links import DynamoLinks
from token_rotator.adapters.dynamo_states import DynamoStates
from token_rotator.adapters.dynamo_suspensions import DynamoSuspensions
from token_rotator.adapters.kms_sealer import KmsSealer
from token_rotator.adapters.known_suspensions import KnownSuspensions
from token_rotator.adapters.rsa_signatures import RsaSignatures
from token_rotator.domain.tokens import SealedField
from token_rotator.service.ask_about_client import AskAboutClient
from token_rotator.service.link_grant import TakeArrival
from token_rotator.service.take_event import TakeEvent
from token_rotator.settings import CallbackSettings
from token_rotator.telemetry import PowertoolsJournal

from .clients import dynamodb, kms, new_id, new_token, sleep, utc_now
from .wise import wise_http

if TYPE_CHECKING:
    from token_rotator.adapters.wise_http import WiseHttp


@dataclass(frozen=True, slots=True)
class Linking:
    """The use cases of the function that browsers come back to."""

    settings: CallbackSettings
    journal: PowertoolsJournal
    wise: WiseHttp
    take_arrival: TakeArrival
    take_event: TakeEvent | None
    """Absent where Wise's events are not taken."""


def wire() -> Linking:
    """Put it together from the environment. Raises `SettingsError`."""
    settings = CallbackSettings.of(os.environ)
    budgets = settings.budgets
    journal = PowertoolsJournal(settings.environment)
    keys = {
        SealedField.ACCESS_TOKEN: settings.access_tokens_key,
        SealedField.REFRESH_TOKEN: settings.refresh_tokens_key,
    }
    wise = wise_http(settings)
    table = dynamodb()
    take_arrival = TakeArrival(
        DynamoLinks(table, settings.table),
        wise,
        KmsSealer(kms(), keys, settings.environment, utc_now),
        journal,
        budgets,
        utc_now,
        sleep,
        new_id,
        new_token,
        KnownSuspensions(DynamoSuspensions(table, settings.table), journal, utc_now),
        AskAboutClient(wise, DynamoGrants(table, settings.table), journal, budgets, utc_now),
    )
    take_event = None
    if settings.wise_webhook_keys:
        signatures = RsaSignatures(settings.wise_webhook_keys)
        take_event = TakeEvent(signatures, DynamoStates(table, settings.table), journal, utc_now)
    return Linking(settings, journal, wise, take_arrival, take_event)
