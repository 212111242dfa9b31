"""Bring grants back from a restored table: `python -m ops.bring_back RESTORED LIVE [--dry-run]`.

A table that was restored from a point in time holds access tokens that were replaced since: dead ones, and the rows do
not know it. So a row is marked on its way into the live table, by the same write that puts it there, and `serve` never
sees it otherwise:

| attribute | becomes | why |
|---|---|---|
| `in_doubt` | `restore` | its token is not served before Wise was asked or has given a new one |
| `due_at`, `due_shard` | now | the sweep asks, and does not wait for a reader; of an active grant only |
| `version` | one that never was | readers may hold tokens of later versions than the row's |
| `attempt_id`, `lease_until`, `hold_until` | absent | whoever worked on it then does so no more |

Only what the live table lacks is brought back: a row that is there is left alone, and so is one whose Wise profile
another grant holds by now. Safe to run again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from token_rotator.adapters.dynamo_grants import USER, holders_of
from token_rotator.adapters.dynamo_items import FLAG, INSTANT, NUMBER, TEXT, UNREADABLE, Item, to_ms
from token_rotator.domain.errors import CorruptGrant, InvalidInput
from token_rotator.domain.grant import SCHEMA, GrantKey, Phase
from token_rotator.domain.state_change import Account, Subject, has_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from types_boto3_dynamodb import DynamoDBClient

DOUBT: Final = "restore"
"""Stands where otherwise the attempt stands whose outcome is unknown."""
LASTING: Final = ("#suspended", "#state#")
"""What reserved items begin with that hold for longer than a moment. Claims of accounts come with their grants."""
_LEASE: Final = ("attempt_id", "lease_until", "hold_until")
_AT_ONCE: Final = 16
_REFUSED: Final = "ConditionalCheckFailed"
_AGAIN: Final = frozenset({"ThrottlingError", "ProvisionedThroughputExceeded", "TransactionConflict"})
"""Why DynamoDB cancels a transaction that may as well go through a moment later. The SDK does not try these again."""
_PAUSES_S: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)


class Fate(Enum):
    """What became of a row of the restored table."""

    BROUGHT_BACK = "brought back"
    THERE = "in the live table already, left alone"
    HELD = "not brought back: another grant holds its Wise profile by now"
    UNREADABLE = "not brought back: this version cannot read it"
    OF_THE_MOMENT = "not brought back: it was true for a moment only"


BAD: Final = (Fate.HELD, Fate.UNREADABLE)


def marked(item: Item, now: datetime) -> Item:
    """Mark a grant's row: in doubt, due, leased by nobody, in a version of its own. Raises `CorruptGrant`."""
    try:
        key = GrantKey.parse(TEXT.decode(item["tenant"]), TEXT.decode(item["grant_id"]))
        sound = TEXT.decode(item["pk"]) == str(key) and NUMBER.decode(item["schema"]) == SCHEMA
        phase, version = Phase(TEXT.decode(item["phase"])), NUMBER.decode(item["version"])
    except (*UNREADABLE, InvalidInput) as error:
        msg = f"the row cannot be read: {type(error).__name__}"
        raise CorruptGrant(msg) from None
    if not sound:
        msg = "the row has another schema or lies under another key"
        raise CorruptGrant(msg)
    after = {name: value for name, value in item.items() if name not in _LEASE}
    after["version"] = NUMBER.encode(max(to_ms(now), version + 1))
    if phase is not Phase.REAUTHORIZATION_REQUIRED:
        after["in_doubt"] = TEXT.encode(DOUBT)
    if phase is Phase.ACTIVE:
        after["due_at"] = INSTANT.encode(now)
        after["due_shard"] = NUMBER.encode(key.shard)
    return after


@dataclass(frozen=True, slots=True)
class BringBack:
    """Copies rows from a restored table into the live one. With `dry_run` it writes nothing and says what it would."""

    client: DynamoDBClient
    restored: str
    live: str
    clock: Callable[[], datetime]
    sleep: Callable[[float], None] = time.sleep
    dry_run: bool = False

    def __call__(self) -> Iterator[tuple[str, Fate]]:
        """Bring back every row that is missing; gives each row's key and fate. Raises what the SDK raises."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="bring-back") as pool:
            pages = self.client.get_paginator("scan").paginate(TableName=self.restored, ConsistentRead=True)
            for page in pages:
                yield from pool.map(self._one, cast("list[Item]", page["Items"]))

    def _one(self, item: Item) -> tuple[str, Fate]:
        pk = str(item["pk"].get("S"))
        if pk.startswith("#"):
            return pk, self._put(item, [], []) if pk.startswith(LASTING) else Fate.OF_THE_MOMENT
        try:
            row = self._placed(marked(item, self.clock()))
        except CorruptGrant:
            return pk, Fate.UNREADABLE
        fate = self._put(row, self._claim(row), self._listed(row))
        if fate is Fate.BROUGHT_BACK and not self.dry_run:
            self._told_again(row)
        return pk, fate

    def _told_again(self, row: Item) -> None:
        """Have what Wise said of the grant's accounts applied once more: it may have come while the row was missing."""
        named = ((Subject.USER, row.get("wise_user_id")), (Subject.PROFILE, row.get("profile_id")))
        for account in (Account(subject, TEXT.decode(wise_id)) for subject, wise_id in named if wise_id is not None):
            due = {":now": INSTANT.encode(self.clock()), ":shard": NUMBER.encode(account.key.shard)}
            with suppress(self.client.exceptions.ConditionalCheckFailedException):  # nothing was ever said of it
                self.client.update_item(
                    TableName=self.live,
                    Key={"pk": TEXT.encode(account.key)},
                    UpdateExpression="SET due_at = :now, due_shard = :shard",
                    ConditionExpression="attribute_exists(pk)",
                    ExpressionAttributeValues=due,
                )

    def _claim(self, row: Item) -> list[Item]:
        """Claim the grant's Wise profile as adopting does: two grants of one user would kill each other's tokens."""
        if "profile_id" not in row:
            return []
        claim = {"pk": TEXT.encode(f"#profile#{TEXT.decode(row['profile_id'])}"), "holder": row["pk"]}
        return [
            {
                "Item": claim,
                "ConditionExpression": "attribute_not_exists(pk) OR holder = :me",
                "ExpressionAttributeValues": {":me": row["pk"]},
            }
        ]

    def _placed(self, row: Item) -> Item:
        """Say of a row whether its grant is listed for its Wise user, by what is listed now, as adopting does."""
        if "wise_user_id" not in row:
            return row
        listed = holders_of(self._found(_list_of(row)))
        key = GrantKey(TEXT.decode(row["tenant"]), TEXT.decode(row["grant_id"]))
        return {**row, "unlisted": FLAG.encode(not has_room(listed, key))}

    def _listed(self, row: Item) -> list[Item]:
        """List the grant among those of its Wise user, as adopting does."""
        if "wise_user_id" not in row or FLAG.decode(row["unlisted"]):
            return []
        return [
            {
                "Key": {"pk": _list_of(row)},
                "UpdateExpression": "ADD holders :me",
                "ExpressionAttributeValues": {":me": {"SS": [row["pk"]["S"]]}},
            }
        ]

    def _put(self, item: Item, claim: list[Item], listed: list[Item]) -> Fate:
        """Put a row where there is none, together with its claims."""
        if self.dry_run:
            return self._foretold(item, claim)
        puts = [{"Item": item, "ConditionExpression": "attribute_not_exists(pk)"}, *claim]
        together = cast(
            "Any",
            [
                *({"Put": {"TableName": self.live, **put}} for put in puts),
                *({"Update": {"TableName": self.live, **update}} for update in listed),
            ],
        )
        pauses = iter(_PAUSES_S)
        while True:
            try:
                self.client.transact_write_items(TransactItems=together)
            except self.client.exceptions.TransactionCanceledException as error:
                reasons = cast("Item", error.response).get("CancellationReasons", [])
                codes = [reason.get("Code") for reason in reasons]
                if codes[:1] == [_REFUSED]:
                    return Fate.THERE
                if _REFUSED in codes:
                    return Fate.HELD
                pause_s = next(pauses, None)
                if pause_s is None or not _AGAIN.intersection(codes):
                    raise
                self.sleep(pause_s)
            else:
                return Fate.BROUGHT_BACK

    def _foretold(self, item: Item, claim: list[Item]) -> Fate:
        if self._found(item["pk"]):
            return Fate.THERE
        holders = [found["holder"] for put in claim if (found := self._found(put["Item"]["pk"]))]
        return Fate.HELD if any(holder != item["pk"] for holder in holders) else Fate.BROUGHT_BACK

    def _found(self, pk: Any) -> Item:  # noqa: ANN401 - an attribute
        answer = self.client.get_item(TableName=self.live, Key={"pk": pk}, ConsistentRead=True)
        return cast("Item", answer.get("Item", {}))


def _list_of(row: Item) -> Item:
    """Name the list of the grants of a row's Wise user."""
    return TEXT.encode(f"{USER}{TEXT.decode(row['wise_user_id'])}")


def main(arguments: Sequence[str], client: DynamoDBClient | None = None) -> int:
    """Do what the command line says. Gives 0, or 1 where somebody has to look at a row, or 2 where AWS refuses."""
    parser = argparse.ArgumentParser(prog="python -m ops.bring_back", description="Bring grants back, each in doubt.")
    parser.add_argument("restored", help="the table that was restored from a point in time")
    parser.add_argument("live", help="the table that the stack uses: its output GrantsTable")
    parser.add_argument("--dry-run", action="store_true", help="write nothing, say what would become of each row")
    told = parser.parse_args(arguments)
    if told.restored == told.live:
        parser.error("the two tables must be different ones")
    client = client or boto3.client("dynamodb", config=Config(max_pool_connections=_AT_ONCE))
    fates: Counter[Fate] = Counter()
    try:
        bring_back = BringBack(client, told.restored, told.live, lambda: datetime.now(UTC), dry_run=told.dry_run)
        for pk, fate in bring_back():
            fates[fate] += 1
            if fate in BAD:
                sys.stdout.write(f"{pk}: {fate.value}\n")
    except (ClientError, BotoCoreError) as error:
        sys.stderr.write(f"stopped, and safe to run again: {error}\n")
        return 2
    finally:
        sys.stdout.write("".join(f"{fates[fate]:>8} {fate.value}\n" for fate in Fate))
    if told.dry_run:
        sys.stdout.write("nothing was written\n")
    return int(any(fates[fate] for fate in BAD))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
