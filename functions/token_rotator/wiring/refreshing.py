"""What `sweep` and `refresh` are made of."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from token_rotator.adapters.dynamo_certificate import DynamoCertificate
from token_rotator.adapters.dynamo_fleet import DynamoFleet
from token_rotator.adapters.dynamo_grants import DynamoGrants
from token_rotator.adapters.dynamo_links import DynamoLinks
from token_rotator.adapters.dynamo_states import DynamoStates
from token_rotator.adapters.dynamo_suspensions import DynamoSuspensions
from token_rotator.adapters.kms_sealer import KmsSealer
from token_rotator.adapters.known_suspensions import KnownSuspensions
from token_rotator.adapters.sns_alerts import SnsAlerts
from token_rotator.adapters.sqs_parking import SqsParking
from token_rotator.domain.fleet import Lane
from token_rotator.domain.tokens import SealedField
from token_rotator.service.apply_state import ApplyState
from token_rotator.service.ask_about_client import AskAboutClient
from token_rotator.service.breaker import Breaker
from token_rotator.service.drain_parking import DrainParking
from token_rotator.service.drop_tokens import DropTokens
from token_rotator.service.keep_answer import KeepAnswer
from token_rotator.service.refresh_due import RefreshDue
from token_rotator.service.refresh_grant import RefreshGrant
from token_rotator.service.tell_people import TellPeople
from token_rotator.service.watch_certificate import WatchCertificate
from token_rotator.settings import RefreshSettings
from token_rotator.telemetry import PowertoolsJournal

from .clients import client, dynamodb, kms, new_id, sleep, sqs, utc_now
from .wise import wise_http

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient

    from token_rotator.adapters.wise_http import WiseHttp

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
    sns: SNSClient = client("sns", read_s=3, tries=1)
    table = dynamodb()
    store = DynamoGrants(table, settings.table)
    keys = {
        SealedField.ACCESS_TOKEN: settings.access_tokens_key,
        SealedField.REFRESH_TOKEN: settings.refresh_tokens_key,
        SealedField.REGISTRATION: settings.refresh_tokens_key,
    }
    sealer = KmsSealer(kms(), keys, settings.environment, utc_now)
    wise = wise_http(settings, settings.wise_client_id)
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
        drop_tokens=DropTokens(DynamoLinks(table, settings.table), journal, utc_now),
        certificate=certificate,
    )
    demand = Lane("demand", settings.demand_calls_per_minute)
    return Refreshing(settings, journal, wise, breaker, demand, refresh_grant, refresh_due)
