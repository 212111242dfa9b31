"""Everything that can go wrong, as one small tree.

Each error has a `code`, the same word in logs, metrics and the API, and says whether trying again can help. No message
ever holds a token, a secret or a provider's body.
"""

from __future__ import annotations

from typing import ClassVar


class RotatorError(Exception):
    """Root of all errors that this package raises on purpose."""

    code: ClassVar[str] = "internal-error"
    retryable: ClassVar[bool] = False


class SettingsError(RotatorError):
    """A setting is missing or wrong; the message names the variable. The function must not start."""

    code = "settings"


class InvalidInput(RotatorError):
    """What a caller sent cannot be understood. `field` names the part at fault, `reason` says what it must be."""

    code = "bad-request"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


class StoreUnavailable(RotatorError):
    """DynamoDB gave no usable answer. A write may or may not have taken effect: only a condition can tell."""

    code = "store-unavailable"
    retryable = True


class StoreRefused(StoreUnavailable):
    """DynamoDB refused the function or its table or key: a fault of the deployment, which on-call must mend."""

    code = "store-refused"


class CorruptGrant(RotatorError):
    """A stored item is not one that this version wrote or can read. It is not served and not refreshed."""

    code = "corrupt-grant"


class KeyUnavailable(RotatorError):
    """KMS gave no data key. Nothing was sealed or opened; nothing was sent to anybody."""

    code = "key-unavailable"
    retryable = True


class KeyRefused(KeyUnavailable):
    """KMS refused the function or its key: a fault of the deployment, which on-call must mend."""

    code = "key-refused"


class Unsealable(RotatorError):
    """A sealed value does not open here: altered, moved from another row, field or environment, or another key's."""

    code = "unsealable"


class WiseSecretUnusable(RotatorError):
    """The secret with Wise's client credentials is missing, empty, malformed or another environment's."""

    code = "wise-secret-unusable"


class PublishRefused(RotatorError):
    """SNS certainly did not take the message."""

    code = "publish-refused"
    retryable = True


class PublishUnknown(RotatorError):
    """Nobody knows whether SNS took the message; publishing again may make a second copy."""

    code = "publish-unknown"
    retryable = True


class ParkingUnavailable(RotatorError):
    """SQS gave no usable answer. A message may have been sent all the same: a second copy of it does no harm."""

    code = "parking-unavailable"
    retryable = True
