"""What `serve` is made of: nothing that could refresh, seal or read a refresh token."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.dynamo_suspensions import DynamoSuspensions
from token_rotator.adapters.kms_sealer import KmsSealer
from token_rotator.adapters.known_suspensions import KnownSuspensions
from token_rotator.adapters.lambda_refresher import LambdaRefresher
from token_rotator.domain.tokens import SealedField
from token_rotator.service.serve_token import ServeToken
from token_rotator.settings import ServeSettings
from token_rotator.telemetry import PowertoolsJournal

from .clients import client, dynamodb, kms, sleep, utc_now

if TYPE_CHECKING:
    from types_boto3_lambda import LambdaClient

    from token_rotator.service.ports import GrantList, GrantReader


@dataclass(frozen=True, slots=True)
class Serving:
    """The use cases of the function that serves."""

    settings: ServeSettings
    journal: PowertoolsJournal
    serve_token: ServeToken
    grants: GrantReader
    grant_list: GrantList


def wire() -> Serving:
    """Put it together from the environment. Raises `SettingsError`."""
    settings = ServeSettings.of(os.environ)
    budgets = settings.budgets
    journal = PowertoolsJournal(settings.environment)
    table = dynamodb()
    store = DynamoGrants(table, settings.table)
    known = KnownSuspensions(DynamoSuspensions(table, settings.table), journal, utc_now)
    keys = {SealedField.ACCESS_TOKEN: settings.access_tokens_key}
    opener = KmsSealer(kms(), keys, settings.environment, utc_now)
    invoker: LambdaClient = client("lambda", read_s=budgets.invoke.total_seconds(), tries=1)
    refresher = LambdaRefresher(invoker, settings.refresh_function, journal)
    serve_token = ServeToken(store, opener, refresher, budgets, utc_now, sleep, random.random, known)
    return Serving(settings, journal, serve_token, store, store)
