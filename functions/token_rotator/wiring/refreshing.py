"""What `sweep` and `refresh` are made of."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from token_rotator.adapters.client_secrets import ClientSecrets
from token_rotator.adapters.dynamo_certificate import DynamoCertificate
from token_rotator.adapters.dynamo_fleet import DynamoFleet
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.dynamo_states import DynamoStates
from token_rotator.adapters.dynamo_suspensions import DynamoSuspensions
from token_rotator.adapters.kms_sealer import KmsSealer
from token_rotator.adapters.known_suspensions import KnownSuspensions
from token_rotator.adapters.sns_alerts import SnsAlerts
from token_rotator.adapters.sqs_parking import SqsParking
from token_rotator.adapters.wise_http import WiseHttp
from token_rotator.domain.errors import SettingsError
from token_rotator.domain.fleet import Lane
from token_rotator.domain.tokens import SealedField
from token_rotator.service.apply_state import ApplyState
from token_rotator.service.ask_about_client import AskAboutClient
from token_rotator.service.breaker import Breaker
from token_rotator.service.drain_parking import DrainParking
from token_rotator.service.keep_answer import KeepAnswer
from token_rotator.service.refresh_due import RefreshDue
from token_rotator.service.refresh_grant import RefreshGrant
from token_rotator.service.tell_people import TellPeople
from token_rotator.service.watch_certificate import WatchCertificate
from token_rotator.settings import RefreshSettings
from token_rotator.telemetry import PowertoolsJournal

from .clients import client, dynamodb, kms, new_id, sleep, sqs, utc_now

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient
    from types_boto3_sns import SNSClient

SWEEP_WORKERS: Final = 16
_RECEIVING: Final = timedelta(seconds=4)
"""One question to the parking queue, which waits a second for messages."""


@dataclass(frozen=True, slots=True)
class Refreshing:
    """The use cases of the functions that refresh."""

    settings: RefreshSettings
    journal: PowertoolsJournal
    wise: WiseHttp
    breaker: Breaker
    demand: Lane
    refresh_grant: RefreshGrant
    refresh_due: RefreshDue


def wire() -> Refreshing:
    """Put it together from the environment. Raises `SettingsError`."""
    settings = RefreshSettings.of(os.environ)
    budgets = settings.budgets
    journal = PowertoolsJournal(settings.environment)
    secrets_client: SecretsManagerClient = client("secretsmanager", read_s=1, tries=2)
    sns: SNSClient = client("sns", read_s=3, tries=1)
    table = dynamodb()
    store = DynamoGrants(table, settings.table)
    keys = {
        SealedField.ACCESS_TOKEN: settings.access_tokens_key,
        SealedField.REFRESH_TOKEN: settings.refresh_tokens_key,
        SealedField.REGISTRATION: settings.refresh_tokens_key,
    }
    sealer = KmsSealer(kms(), keys, settings.environment, utc_now)
    secrets = ClientSecrets(
        secrets_client,
        settings.wise_secret_name,
        settings.environment,
        utc_now,
        client_id=settings.wise_client_id,
        mtls=settings.wise_mtls,
    )
    try:
        wise = WiseHttp(
            settings.wise_api_url,
            secrets,
            utc_now,
            connect_s=budgets.connect.total_seconds(),
            api_version=settings.wise_api_version,
            ca_file=settings.wise_ca_file,
            mtls=settings.wise_mtls,
        )
    except OSError as error:  # an unreadable file, or one that holds no certificate
        msg = f"WISE_CA_FILE cannot be used: {type(error).__name__}"
        raise SettingsError(msg) from None
    publisher = SnsAlerts(sns, settings.alerts_topic, settings.environment, settings.runbooks)
    tell = TellPeople(store, publisher, journal, utc_now, settings.remind_after)
    breaker = Breaker(
        fleet=DynamoFleet(table, settings.table),
        wise=AskAboutClient(wise, store, journal, budgets, utc_now),
        publisher=publisher,
        journal=journal,
        budgets=budgets,
        clock=utc_now,
        new_id=new_id,
        random=random.random,
        many_dying=settings.many_grants_dying,
    )
    parking = SqsParking(sqs(budgets.park), settings.parked_queue)
    queue = SqsParking(sqs(_RECEIVING), settings.parked_queue)
    keep = KeepAnswer(store, journal, budgets, utc_now)
    known = KnownSuspensions(DynamoSuspensions(table, settings.table), journal, utc_now)
    refresh_grant = RefreshGrant(
        store, wise, sealer, keep, parking, breaker, tell, journal, budgets, utc_now, sleep, new_id, known
    )
    certificate = None
    if settings.wise_mtls:
        watched = DynamoCertificate(table, settings.table)
        certificate = WatchCertificate(watched, publisher, journal, utc_now, wise.certificate)
    refresh_due = RefreshDue(
        refresh_grant,
        store,
        store,
        DrainParking(queue, store, keep, journal, utc_now),
        breaker,
        Lane("sweep", settings.sweep_calls_per_minute),
        tell,
        journal,
        budgets,
        utc_now,
        sleep,
        workers=SWEEP_WORKERS,
        apply_state=ApplyState(DynamoStates(table, settings.table), store, journal, utc_now),
        certificate=certificate,
    )
    demand = Lane("demand", settings.demand_calls_per_minute)
    return Refreshing(settings, journal, wise, breaker, demand, refresh_grant, refresh_due)
