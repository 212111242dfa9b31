"""What `admin` is made of: it seals and writes, and can open nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass

from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.dynamo_links import DynamoLinks
from token_rotator.adapters.kms_sealer import KmsSealer
from token_rotator.domain.tokens import SealedField
from token_rotator.service.adopt_grant import AdoptGrant, DeleteGrant
from token_rotator.service.link_grant import ConfirmLink, StartLink
from token_rotator.settings import AdminSettings

from .clients import dynamodb, kms, new_token, sleep, utc_now


@dataclass(frozen=True, slots=True)
class Administering:
    """The use cases of the function that adopts, deletes and links."""

    settings: AdminSettings
    adopt_grant: AdoptGrant
    delete_grant: DeleteGrant
    start_link: StartLink
    confirm_link: ConfirmLink


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
    sealer = KmsSealer(kms(), keys, settings.environment, utc_now)
    return Administering(
        settings,
        AdoptGrant(store, sealer, settings.budgets, utc_now, sleep),
        DeleteGrant(store, settings.budgets, utc_now, sleep),
        StartLink(
            store,
            links,
            settings.wise_client_id,
            settings.redirect_uri,
            utc_now,
            new_token,
        ),
        ConfirmLink(store, links, settings.budgets, utc_now, sleep),
    )
