"""Parked answers in an SQS queue. A message is JSON; what is secret in it is sealed.

| field | holds |
|---|---|
| `schema` | the version of this form |
| `tenant`, `grant_id`, `attempt_id`, `base_version` | whose answer, to which attempt, and the grant's version then |
| `access_token`, `refresh_token` | the sealed values in base64; no refresh token where the answer left it as it was |
| `issued_at`, `expires_at`, `refresh_expires_at` | epoch milliseconds |
| `scope` | as Wise gave it |
| `reissued` | why the tokens were had for the registration code, where on-call should know |
| `foreign` | whether somebody else refreshes the same grant |
| `trace_id` | Wise's of the request that on-call is told of |

What an answer does not have is null.
"""

from __future__ import annotations

import base64
import functools
import json
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from token_rotator.domain.answer import SealedAnswer
from token_rotator.domain.errors import InvalidInput, ParkingUnavailable
from token_rotator.domain.grant import GrantKey
from token_rotator.domain.tokens import Sealed
from token_rotator.service.ports import Parked

from .dynamo_items import from_ms, to_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.literals import QueueAttributeNameType

P = ParamSpec("P")
T = TypeVar("T")

SCHEMA: Final = 1
VISIBILITY_S: Final = 30
WAIT_S: Final = 1
"""A receive that waits asks all of the queue's servers, so that an empty answer means an empty queue."""
AT_MOST: Final = 10


def _failures(call: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except ClientError as error:
            msg = f"SQS: {error.response.get('Error', {}).get('Code', 'unknown')}"
            raise ParkingUnavailable(msg) from None
        except BotoCoreError as error:
            msg = f"SQS: {type(error).__name__}"
            raise ParkingUnavailable(msg) from None

    return wrapped


_COUNTS: Final[Sequence[QueueAttributeNameType]] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class SqsParking:
    """`ParkingQueue` over one standard queue.

    A client that makes one try is expected. The one that parks must give up within the budget `park`; `receive` waits
    a second on purpose, and needs a read timeout of more than that.
    """

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    @_failures
    def park(self, answer: SealedAnswer) -> None:
        """See `Parking.park`."""
        self._client.send_message(QueueUrl=self._queue_url, MessageBody=_written(answer))

    @_failures
    def receive(self) -> Sequence[Parked]:
        """See `ParkingQueue.receive`."""
        answer = self._client.receive_message(
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=AT_MOST,
            VisibilityTimeout=VISIBILITY_S,
            WaitTimeSeconds=WAIT_S,
        )
        return [Parked(_read(message["Body"]), message["ReceiptHandle"]) for message in answer.get("Messages", [])]

    @_failures
    def remove(self, parked: Parked) -> None:
        """See `ParkingQueue.remove`."""
        self._client.delete_message(QueueUrl=self._queue_url, ReceiptHandle=parked.receipt)

    @_failures
    def holds_any(self) -> bool:
        """See `ParkingQueue.holds_any`. SQS calls its counts approximate, and settled a minute after the last message.

        docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
        """
        found = self._client.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=list(_COUNTS))["Attributes"]
        return any(int(found[name]) for name in _COUNTS)


def _written(answer: SealedAnswer) -> str:
    refresh_expires_at = answer.refresh_expires_at
    return json.dumps(
        {
            "schema": SCHEMA,
            "tenant": answer.key.tenant,
            "grant_id": answer.key.grant_id,
            "attempt_id": answer.attempt_id,
            "base_version": answer.base_version,
            "access_token": _text(answer.access_token),
            "refresh_token": None if answer.refresh_token is None else _text(answer.refresh_token),
            "issued_at": to_ms(answer.issued_at),
            "expires_at": to_ms(answer.expires_at),
            "refresh_expires_at": None if refresh_expires_at is None else to_ms(refresh_expires_at),
            "scope": answer.scope,
            "reissued": answer.reissued,
            "foreign": answer.foreign,
            "trace_id": answer.trace_id,
        }
    )


def _text(sealed: Sealed) -> str:
    return base64.b64encode(sealed.blob).decode()


def _read(text: str) -> SealedAnswer | None:
    """Read a message; `None` for what this version did not write."""
    try:
        told = json.loads(text)
        if told["schema"] != SCHEMA:
            return None
        refresh_token, refresh_expires_at = told["refresh_token"], told["refresh_expires_at"]
        return SealedAnswer(
            key=GrantKey.written(told["tenant"], told["grant_id"]),
            attempt_id=_of(str, told["attempt_id"]),
            base_version=_of(int, told["base_version"]),
            access_token=_sealed(told["access_token"]),
            refresh_token=None if refresh_token is None else _sealed(refresh_token),
            issued_at=from_ms(_of(int, told["issued_at"])),
            expires_at=from_ms(_of(int, told["expires_at"])),
            refresh_expires_at=None if refresh_expires_at is None else from_ms(_of(int, refresh_expires_at)),
            scope=None if told["scope"] is None else _of(str, told["scope"]),
            reissued=None if told.get("reissued") is None else _of(str, told["reissued"]),
            foreign=_flag(told.get("foreign", False)),
            trace_id=None if told.get("trace_id") is None else _of(str, told["trace_id"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, InvalidInput):
        return None


def _of(kind: type[T], value: Any) -> T:  # noqa: ANN401 - JSON
    if not isinstance(value, kind) or isinstance(value, bool):
        msg = f"not of type {kind.__name__}"
        raise TypeError(msg)
    return value


def _flag(value: Any) -> bool:  # noqa: ANN401 - JSON
    if not isinstance(value, bool):
        msg = "not a flag"
        raise TypeError(msg)
    return value


def _sealed(value: Any) -> Sealed:  # noqa: ANN401 - JSON
    return Sealed(base64.b64decode(_of(str, value), validate=True))
