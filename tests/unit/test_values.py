"""Keys, secrets and instants."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_rotator.domain.errors import InvalidInput
from token_rotator.domain.grant import SHARDS, GrantKey
from token_rotator.domain.instants import parse_instant, show_instant
from token_rotator.domain.tokens import Sealed, Secret

GOOD = ["a", "0", "A.b_c-d", "x" * 128, "a.b.c", "9-_-"]
BAD = ["", ".a", "-a", "_a", "a..b", "x" * 129, "a/b", "a#b", "a b", "ä", "a\n", "a\u0661", "%61", "a:b", "#x"]


@pytest.mark.parametrize("value", GOOD)
def test_a_well_formed_id_is_taken(value: str) -> None:
    assert str(GrantKey.parse(value, value)) == f"{value}#{value}"


@pytest.mark.parametrize("value", BAD)
def test_a_malformed_id_is_refused_by_the_name_of_its_field(value: str) -> None:
    with pytest.raises(InvalidInput) as tenant:
        GrantKey.parse(value, "a")
    with pytest.raises(InvalidInput) as grant_id:
        GrantKey.parse("a", value)
    assert (tenant.value.field, grant_id.value.field) == ("tenant", "grant_id")


def test_keys_spread_over_all_shards_and_stay_where_they_are() -> None:
    shards = [GrantKey("acme", f"g{n}").shard for n in range(1000)]
    assert set(shards) == set(range(SHARDS))
    assert GrantKey("acme", "g1").shard == GrantKey("acme", "g1").shard


def test_a_secret_shows_itself_only_to_who_asks_by_name() -> None:
    secret = Secret("fixture-token-value")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, repr([secret])]  # noqa: UP031
    assert not any("fixture" in text for text in shown)
    assert secret.reveal() == "fixture-token-value"
    for hide in (pickle.dumps, json.dumps, copy.deepcopy, hash):
        with pytest.raises(TypeError):
            hide(secret)  # type: ignore[operator]


def test_secrets_compare_by_value_and_with_nothing_else() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


def test_a_sealed_value_shows_its_size() -> None:
    assert repr(Sealed(b"12345")) == "Sealed(5 bytes)"


@pytest.mark.parametrize("digits", range(10))
def test_instants_are_read_with_any_number_of_fraction_digits(digits: int) -> None:
    fraction = "123456789"[:digits]
    read = parse_instant(f"2026-01-02T03:04:05{'.' + fraction if digits else ''}Z")
    assert read == datetime(2026, 1, 2, 3, 4, 5, int((fraction + "000000")[:6]), tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [None, 5, "", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z", "2026-01-02 03:04:05Z", "now",
     "2026-01-02T03:04:05.1234567890Z", "0001-01-01T00:00:00+23:59"],
)  # fmt: skip
def test_what_is_no_instant_is_not_read(text: object) -> None:
    assert parse_instant(text) is None


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)), st.integers(-14, 14))  # noqa: DTZ001
def test_an_instant_survives_being_written_and_read(moment: datetime, hours: int) -> None:
    aware = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=timezone(timedelta(hours=hours)))
    assert parse_instant(show_instant(aware)) == aware
