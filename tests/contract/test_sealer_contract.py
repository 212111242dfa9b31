"""What every sealer holds to, and what only real keys can show. KMS is moto, in this process: it refuses tampering."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from moto import mock_aws
from types_boto3_kms import KMSClient

from tests.fakes.sealer import InMemorySealer
from tests.fakes.world import FakeClock
from token_rotator.adapters.kms_sealer import OPENED_KEYS, KmsSealer
from token_rotator.domain.errors import KeyRefused, KeyUnavailable, Unsealable
from token_rotator.domain.grant import APPLICATION, GrantKey
from token_rotator.domain.tokens import Sealed, SealedField, Secret
from token_rotator.service.ports import AccessTokenOpener, LinkSealer, RefreshSealer, Sealer

ANNA = GrantKey("acme", "anna")
BEN = GrantKey("acme", "ben")
ANNA_ELSEWHERE = GrantKey("globex", "anna")
ACCESS, REFRESH, REGISTRATION = SealedField.ACCESS_TOKEN, SealedField.REFRESH_TOKEN, SealedField.REGISTRATION
TOKEN = "fixture-access-token-of-anna"
WRITTEN = '{"code": "fixture-code", "email": "fixture.user@example.com"}'
LONG = "fixture-" + "x" * 7_992


class Whole(Sealer, RefreshSealer, AccessTokenOpener, LinkSealer, Protocol):
    """All four ports."""


@dataclass
class Kms:
    """KMS with a key for each kind of token; counts and breaks the calls that leave the client."""

    client: KMSClient
    arns: dict[SealedField, str]
    clock: FakeClock = field(default_factory=FakeClock)
    calls: Counter[str] = field(default_factory=Counter)
    error: Exception | None = None

    def on_call(self, model: Any, **_: object) -> None:
        self.calls[model.name] += 1
        if self.error is not None:
            raise self.error

    def sealer(self, environment: str = "sandbox", **arns: str) -> KmsSealer:
        return KmsSealer(
            self.client, self.arns | {SealedField(name): arn for name, arn in arns.items()}, environment, self.clock
        )

    def new_key(self) -> str:
        return self.client.create_key()["KeyMetadata"]["Arn"]


@pytest.fixture(scope="module")
def moto() -> Iterator[Kms]:
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        client = boto3.client(
            "kms", region_name="eu-west-1", aws_access_key_id="fixture", aws_secret_access_key="fixture"
        )
        access, refresh = (client.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
        yield Kms(client, {ACCESS: access, REFRESH: refresh, REGISTRATION: refresh})
        client.close()


@pytest.fixture
def kms(moto: Kms) -> Iterator[Kms]:
    made = replace(moto, clock=FakeClock(), calls=Counter())
    made.client.meta.events.register("before-call.kms", made.on_call)
    yield made
    made.client.meta.events.unregister("before-call.kms", made.on_call)


@pytest.fixture(params=["memory", "kms"])
def sealer(request: pytest.FixtureRequest) -> Whole:
    if request.param == "memory":
        return InMemorySealer()
    made: KmsSealer = request.getfixturevalue("kms").sealer()
    return made


# --- over both


@pytest.mark.parametrize("token", [TOKEN, "x", LONG, "with | and # and \u00e9"])
def test_an_access_token_goes_round(sealer: Whole, token: str) -> None:
    sealed = sealer.seal(ANNA, ACCESS, Secret(token))
    assert sealer.open_access_token(ANNA, sealed).reveal() == token


@pytest.mark.parametrize("token", [TOKEN, LONG])
def test_a_refresh_token_is_opened_for_a_refresh(sealer: Whole, token: str) -> None:
    envelope = sealer.prepare(ANNA, sealer.seal(ANNA, REFRESH, Secret(token)))
    assert envelope.refresh_token.reveal() == token


@pytest.mark.parametrize("token", [TOKEN, LONG])
def test_what_an_envelope_seals_opens_later(sealer: Whole, token: str) -> None:
    envelope = sealer.prepare(ANNA, sealer.seal(ANNA, REFRESH, Secret("fixture-refresh-token-1")))
    assert sealer.open_access_token(ANNA, envelope.seal_access_token(Secret(token))).reveal() == token
    rotated = envelope.seal_refresh_token(Secret(token))
    assert sealer.prepare(ANNA, rotated).refresh_token.reveal() == token


@pytest.mark.parametrize("other", [BEN, ANNA_ELSEWHERE])
def test_a_value_moved_to_another_grant_does_not_open(sealer: Whole, other: GrantKey) -> None:
    access, refresh = (sealer.seal(ANNA, kind, Secret(TOKEN)) for kind in (ACCESS, REFRESH))
    envelope = sealer.prepare(ANNA, refresh)
    for moved in (access, envelope.seal_access_token(Secret(TOKEN))):
        with pytest.raises(Unsealable):
            sealer.open_access_token(other, moved)
    for moved in (refresh, envelope.seal_refresh_token(Secret(TOKEN))):
        with pytest.raises(Unsealable):
            sealer.prepare(other, moved)


@pytest.mark.parametrize("kind", [ACCESS, REGISTRATION])
def test_a_value_of_another_field_is_no_refresh_token(sealer: Whole, kind: SealedField) -> None:
    with pytest.raises(Unsealable):
        sealer.prepare(ANNA, sealer.seal(ANNA, kind, Secret(TOKEN)))


@pytest.mark.parametrize("kind", [REFRESH, REGISTRATION])
def test_a_value_of_another_field_is_no_access_token(sealer: Whole, kind: SealedField) -> None:
    with pytest.raises(Unsealable):
        sealer.open_access_token(ANNA, sealer.seal(ANNA, kind, Secret(TOKEN)))


def test_a_registration_is_opened_for_a_reissue(sealer: Whole) -> None:
    envelope = sealer.prepare_reissue(ANNA, sealer.seal(ANNA, REGISTRATION, Secret(WRITTEN)))
    opened = envelope.registration
    assert (opened.code.reveal(), opened.email.reveal()) == ("fixture-code", "fixture.user@example.com")
    assert sealer.open_access_token(ANNA, envelope.seal_access_token(Secret(TOKEN))).reveal() == TOKEN
    assert sealer.prepare(ANNA, envelope.seal_refresh_token(Secret(TOKEN))).refresh_token.reveal() == TOKEN


@pytest.mark.parametrize("text", ["", "not JSON", "[]", "null", '{"code": "a"}', '{"code": "a", "email": 7}'])
def test_what_is_no_registration_does_not_open(sealer: Whole, text: str) -> None:
    with pytest.raises(Unsealable) as raised:
        sealer.prepare_reissue(ANNA, sealer.seal(ANNA, REGISTRATION, Secret(text)))
    assert "JSON" not in str(raised.value)


@pytest.mark.parametrize("kind", [ACCESS, REFRESH])
def test_a_value_of_another_field_is_no_registration(sealer: Whole, kind: SealedField) -> None:
    with pytest.raises(Unsealable):
        sealer.prepare_reissue(ANNA, sealer.seal(ANNA, kind, Secret(WRITTEN)))


def test_a_registration_of_another_grant_does_not_open(sealer: Whole) -> None:
    with pytest.raises(Unsealable):
        sealer.prepare_reissue(BEN, sealer.seal(ANNA, REGISTRATION, Secret(WRITTEN)))


def test_two_seals_of_one_secret_differ(sealer: Whole) -> None:
    assert sealer.seal(ANNA, ACCESS, Secret(TOKEN)) != sealer.seal(ANNA, ACCESS, Secret(TOKEN))
    envelope = sealer.prepare(ANNA, sealer.seal(ANNA, REFRESH, Secret(TOKEN)))
    assert envelope.seal_refresh_token(Secret(TOKEN)) != envelope.seal_refresh_token(Secret(TOKEN))


@pytest.mark.parametrize("blob", [b"", b"\x01", b"not a sealed value", bytes(400)])
def test_what_was_never_sealed_does_not_open(sealer: Whole, blob: bytes) -> None:
    with pytest.raises(Unsealable):
        sealer.open_access_token(ANNA, Sealed(blob))
    with pytest.raises(Unsealable):
        sealer.prepare(ANNA, Sealed(blob))


def test_without_kms_nothing_is_sealed_or_opened(request: pytest.FixtureRequest, sealer: Whole) -> None:
    access, refresh = (sealer.seal(ANNA, kind, Secret(TOKEN)) for kind in (ACCESS, REFRESH))
    if isinstance(sealer, InMemorySealer):
        sealer.down = True
        fresh: Whole = sealer
    else:
        kms: Kms = request.getfixturevalue("kms")
        kms.error = ReadTimeoutError(endpoint_url="https://kms.invalid")
        fresh = kms.sealer()
    for call in (
        lambda: fresh.seal(ANNA, ACCESS, Secret(TOKEN)),
        lambda: fresh.seal(ANNA, REFRESH, Secret(TOKEN)),
        lambda: fresh.open_access_token(ANNA, access),
        lambda: fresh.prepare(ANNA, refresh),
    ):
        with pytest.raises(KeyUnavailable):
            call()


# --- tampering


@pytest.mark.parametrize("warm", [False, True])
def test_a_flipped_byte_anywhere_does_not_open(kms: Kms, warm: bool) -> None:  # noqa: FBT001 - a case
    sealer = kms.sealer()
    access, refresh = (sealer.seal(ANNA, kind, Secret(TOKEN)) for kind in (ACCESS, REFRESH))
    if warm:
        sealer.open_access_token(ANNA, access)
    for index in range(len(access.blob)):
        with pytest.raises((Unsealable, KeyUnavailable)):
            sealer.open_access_token(ANNA, flipped(access, index))
    for index in range(len(refresh.blob)):
        with pytest.raises((Unsealable, KeyUnavailable)):
            sealer.prepare(ANNA, flipped(refresh, index))


def flipped(sealed: Sealed, index: int) -> Sealed:
    blob = bytearray(sealed.blob)
    blob[index] ^= 0x40
    return Sealed(bytes(blob))


def test_a_flipped_byte_of_the_token_is_no_fault_of_the_key(kms: Kms) -> None:
    sealer = kms.sealer()
    sealed = sealer.seal(ANNA, ACCESS, Secret(TOKEN))
    for index in range(-len(TOKEN) - 16 - 12, 0):
        with pytest.raises(Unsealable):
            sealer.open_access_token(ANNA, flipped(sealed, index))


def test_a_truncated_or_longer_value_does_not_open(kms: Kms) -> None:
    sealer = kms.sealer()
    sealed = sealer.seal(ANNA, ACCESS, Secret(TOKEN))
    for length in range(len(sealed.blob)):
        with pytest.raises((Unsealable, KeyUnavailable)):
            sealer.open_access_token(ANNA, Sealed(sealed.blob[:length]))
    with pytest.raises(Unsealable):
        sealer.open_access_token(ANNA, Sealed(sealed.blob + b"\x00"))


def test_a_value_of_another_environment_does_not_open(kms: Kms) -> None:
    production, sandbox = kms.sealer("production"), kms.sealer("sandbox")
    with pytest.raises(Unsealable):
        sandbox.open_access_token(ANNA, production.seal(ANNA, ACCESS, Secret(TOKEN)))
    with pytest.raises(Unsealable):
        sandbox.prepare(ANNA, production.seal(ANNA, REFRESH, Secret(TOKEN)))


def test_a_data_key_at_hand_does_not_open_another_environments_value(kms: Kms) -> None:
    """The cipher itself is bound to the environment, not only the wrapped key."""
    production, sandbox = kms.sealer("production"), kms.sealer("sandbox")
    sandbox.open_access_token(ANNA, sandbox.seal(ANNA, ACCESS, Secret(TOKEN)))
    foreign = production.seal_under(sandbox._access_token_key(), ANNA, ACCESS, Secret(TOKEN))
    with pytest.raises(Unsealable):
        sandbox.open_access_token(ANNA, foreign)


def test_a_value_under_another_key_does_not_open(kms: Kms) -> None:
    sealed = kms.sealer().seal(ANNA, ACCESS, Secret(TOKEN))
    with pytest.raises((Unsealable, KeyUnavailable)):
        kms.sealer(access_token=kms.new_key()).open_access_token(ANNA, sealed)


# --- how often KMS is asked


def test_a_refresh_asks_kms_before_it_sends_and_not_after(kms: Kms) -> None:
    refresh = kms.sealer().seal(ANNA, REFRESH, Secret(TOKEN))
    sealer = kms.sealer()
    kms.calls.clear()
    envelope = sealer.prepare(ANNA, refresh)
    assert kms.calls == {"Decrypt": 1, "GenerateDataKey": 1}
    envelope.seal_access_token(Secret(LONG))
    envelope.seal_refresh_token(Secret(LONG))
    assert envelope.refresh_token.reveal() == TOKEN
    assert kms.calls == {"Decrypt": 1, "GenerateDataKey": 1}
    sealer.prepare(ANNA, refresh)
    assert kms.calls == {"Decrypt": 2, "GenerateDataKey": 1}


def test_an_access_token_key_is_reused_for_less_than_five_minutes(kms: Kms) -> None:
    sealer = kms.sealer()
    sealer.seal(ANNA, ACCESS, Secret(TOKEN))
    kms.clock.advance(seconds=299.999)
    sealer.seal(BEN, ACCESS, Secret(TOKEN))
    assert kms.calls["GenerateDataKey"] == 1
    kms.clock.advance(milliseconds=1)
    sealer.seal(BEN, ACCESS, Secret(TOKEN))
    assert kms.calls["GenerateDataKey"] == 2


def test_an_access_token_key_is_used_a_thousand_times(kms: Kms) -> None:
    sealer = kms.sealer()
    refresh = sealer.seal(ANNA, REFRESH, Secret(TOKEN))
    kms.calls.clear()
    for _ in range(999):
        sealer.seal(ANNA, ACCESS, Secret(TOKEN))
    sealer.prepare(ANNA, refresh)
    assert kms.calls["GenerateDataKey"] == 1
    sealer.seal(ANNA, ACCESS, Secret(TOKEN))
    assert kms.calls["GenerateDataKey"] == 2


@pytest.mark.parametrize("kind", [REFRESH, REGISTRATION])
def test_a_refresh_token_or_registration_gets_a_key_of_its_own(kms: Kms, kind: SealedField) -> None:
    sealer = kms.sealer()
    boxes = [sealer.seal(ANNA, kind, Secret(TOKEN)).blob for _ in range(3)]
    assert kms.calls["GenerateDataKey"] == 3
    assert len({box[3:60] for box in boxes}) == 3


def test_a_rotated_refresh_token_keeps_its_grants_key(kms: Kms) -> None:
    sealer = kms.sealer()
    first = sealer.seal(ANNA, REFRESH, Secret(TOKEN))
    rotated = sealer.prepare(ANNA, first).seal_refresh_token(Secret("fixture-refresh-token-2"))
    wrapped = 3 + int.from_bytes(first.blob[1:3])
    assert rotated.blob[:wrapped] == first.blob[:wrapped]
    assert rotated.blob[wrapped : wrapped + 12] != first.blob[wrapped : wrapped + 12]


def test_a_reissue_has_a_new_key_for_the_new_refresh_token_before_it_sends(kms: Kms) -> None:
    registration = kms.sealer().seal(ANNA, REGISTRATION, Secret(WRITTEN))
    sealer = kms.sealer()
    kms.calls.clear()
    envelope = sealer.prepare_reissue(ANNA, registration)
    assert kms.calls == {"Decrypt": 1, "GenerateDataKey": 2}
    sealed = envelope.seal_refresh_token(Secret(LONG))
    access = envelope.seal_access_token(Secret(LONG))
    assert kms.calls == {"Decrypt": 1, "GenerateDataKey": 2}
    assert sealed.blob[3:60] != registration.blob[3:60]
    assert sealer.prepare(ANNA, sealed).refresh_token.reveal() == LONG
    assert sealer.open_access_token(ANNA, access).reveal() == LONG


def test_an_opened_key_is_kept_for_less_than_ten_minutes(kms: Kms) -> None:
    sealed = kms.sealer().seal(ANNA, ACCESS, Secret(TOKEN))
    reader = kms.sealer()
    reader.open_access_token(ANNA, sealed)
    kms.clock.advance(minutes=5)
    reader.open_access_token(ANNA, sealed)
    kms.clock.advance(minutes=4, seconds=59.999)
    reader.open_access_token(ANNA, sealed)
    assert kms.calls["Decrypt"] == 1
    kms.clock.advance(milliseconds=1)
    reader.open_access_token(ANNA, sealed)
    assert kms.calls["Decrypt"] == 2


def test_opened_keys_are_known_by_their_ciphertext(kms: Kms) -> None:
    writers = [kms.sealer() for _ in range(2)]
    first, second = (writer.seal(ANNA, ACCESS, Secret(f"{TOKEN}-{n}")) for n, writer in enumerate(writers))
    reader = kms.sealer()
    assert reader.open_access_token(ANNA, first).reveal() == f"{TOKEN}-0"
    assert reader.open_access_token(ANNA, second).reveal() == f"{TOKEN}-1"
    assert reader.open_access_token(ANNA, first).reveal() == f"{TOKEN}-0"
    assert kms.calls["Decrypt"] == 2


def test_no_more_than_two_thousand_opened_keys_are_kept(kms: Kms) -> None:
    reader = kms.sealer()
    kept = kms.sealer().seal(ANNA, ACCESS, Secret(TOKEN))
    reader.open_access_token(ANNA, kept)
    other = kms.sealer()._access_token_key()
    for number in range(OPENED_KEYS + 20):
        reader._remember(replace(other, wrapped=number.to_bytes(4)))
        if number % 500 == 0:
            reader.open_access_token(ANNA, kept)
    assert OPENED_KEYS == 2000
    assert len(reader._opened) == OPENED_KEYS
    calls = kms.calls["Decrypt"]
    reader.open_access_token(ANNA, kept)
    assert kms.calls["Decrypt"] == calls, "the key in use was thrown out before those that nobody uses"


def test_a_key_that_opened_nothing_is_not_kept(kms: Kms) -> None:
    sealed = kms.sealer().seal(ANNA, ACCESS, Secret(TOKEN))
    reader = kms.sealer()
    with pytest.raises(Unsealable):
        reader.open_access_token(BEN, sealed)
    assert not reader._opened


def test_threads_share_one_data_key(kms: Kms) -> None:
    sealer = kms.sealer()
    keys = [GrantKey("acme", f"user-{number}") for number in range(200)]
    with ThreadPoolExecutor(16) as pool:
        boxes = list(pool.map(lambda key: sealer.seal(key, ACCESS, Secret(str(key))), keys))
        opened = list(pool.map(lambda pair: sealer.open_access_token(*pair).reveal(), zip(keys, boxes, strict=True)))
    assert opened == [str(key) for key in keys]
    assert kms.calls["GenerateDataKey"] == 1


def test_nobody_who_can_open_waits_for_a_slow_data_key(kms: Kms) -> None:
    sealer = kms.sealer()
    sealed = sealer.seal(ANNA, ACCESS, Secret(TOKEN))
    sealer.open_access_token(ANNA, sealed)
    kms.clock.advance(minutes=5)
    asked, answer = threading.Event(), threading.Event()

    def hang(**_: object) -> None:
        asked.set()
        assert answer.wait(30)

    kms.client.meta.events.register("before-call.kms.GenerateDataKey", hang)
    try:
        with ThreadPoolExecutor(1) as pool:
            sealing = pool.submit(sealer.seal, ANNA, ACCESS, Secret(TOKEN))
            assert asked.wait(30)
            assert sealer.open_access_token(ANNA, sealed).reveal() == TOKEN
            assert not sealing.done()
            answer.set()
            sealing.result()
    finally:
        kms.client.meta.events.unregister("before-call.kms.GenerateDataKey", hang)


# --- what KMS says, and what is shown


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InvalidCiphertextException", Unsealable),
        ("IncorrectKeyException", Unsealable),
        ("AccessDeniedException", KeyRefused),
        ("DisabledException", KeyRefused),
        ("KMSInvalidStateException", KeyRefused),
        ("KeyUnavailableException", KeyUnavailable),
        ("NotFoundException", KeyRefused),
        ("ThrottlingException", KeyUnavailable),
        ("KMSInternalException", KeyUnavailable),
    ],
)
def test_a_refusal_is_read_by_its_code(kms: Kms, code: str, kind: type[Exception]) -> None:
    from botocore.exceptions import ClientError

    sealed = kms.sealer().seal(ANNA, ACCESS, Secret(TOKEN))
    kms.error = ClientError({"Error": {"Code": code, "Message": "a message that is not shown"}}, "Decrypt")
    with pytest.raises(kind, match=code) as raised:
        kms.sealer().open_access_token(ANNA, sealed)
    assert type(raised.value) is kind
    assert "message" not in str(raised.value)


def test_nothing_shows_what_is_sealed_or_with_which_key(kms: Kms) -> None:
    sealer = kms.sealer()
    refresh = sealer.seal(ANNA, REFRESH, Secret(TOKEN))
    envelope = sealer.prepare(ANNA, refresh)
    access = envelope.seal_access_token(Secret(TOKEN))
    sealer.open_access_token(ANNA, access)
    for thing in (sealer, refresh, access, envelope, sealer._sealing, next(iter(sealer._opened.values()))):
        shown = f"{thing!r} {thing}"
        assert TOKEN not in shown
        assert "\\x" not in shown
    assert TOKEN.encode() not in access.blob
    with pytest.raises(Unsealable) as raised:
        sealer.open_access_token(BEN, access)
    assert TOKEN not in str(raised.value)


# --- the tokens of a link


@pytest.mark.parametrize("token", [TOKEN, LONG])
def test_what_is_sealed_for_a_new_authorization_opens_later(sealer: Whole, token: str) -> None:
    envelope = sealer.prepare_new(ANNA)
    assert sealer.open_access_token(ANNA, envelope.seal_access_token(Secret(token))).reveal() == token
    sealed = envelope.seal_refresh_token(Secret(token))
    assert sealer.prepare(ANNA, sealed).refresh_token.reveal() == token
    with pytest.raises(Unsealable):
        sealer.prepare(BEN, sealed)


def test_a_new_authorization_has_its_keys_before_wise_is_asked(kms: Kms) -> None:
    sealer = kms.sealer()
    envelope = sealer.prepare_new(ANNA)
    assert kms.calls == {"GenerateDataKey": 2}
    kms.error = ReadTimeoutError(endpoint_url="fixture")
    envelope.seal_access_token(Secret(TOKEN))
    envelope.seal_refresh_token(Secret(TOKEN))
    with pytest.raises(KeyUnavailable):
        sealer.prepare_new(ANNA)


def test_each_new_authorization_has_a_data_key_of_its_own_for_the_refresh_token(kms: Kms) -> None:
    sealer = kms.sealer()
    one, other = (sealer.prepare_new(ANNA).seal_refresh_token(Secret(TOKEN)).blob for _ in range(2))
    assert one[:40] != other[:40]
    assert kms.calls == {"GenerateDataKey": 3}


@pytest.mark.parametrize("length", [36, 800, 8_000, 200_000])
def test_an_application_token_of_any_size_goes_round(sealer: Whole, length: int) -> None:
    sealed = sealer.prepare_application(APPLICATION).seal_access_token(Secret("x" * length))
    assert sealer.open_access_token(APPLICATION, sealed).reveal() == "x" * length
    with pytest.raises(Unsealable):
        sealer.open_access_token(ANNA, sealed)


def test_an_application_token_needs_the_shared_key_and_opens_nothing(kms: Kms) -> None:
    sealer = kms.sealer()
    sealer.prepare_application(APPLICATION)
    envelope = sealer.prepare_application(APPLICATION)
    kms.error = ReadTimeoutError(endpoint_url="fixture")
    envelope.seal_access_token(Secret(TOKEN))
    assert kms.calls == {"GenerateDataKey": 1}
