"""Asking the refresh function, from the function that serves. What crosses is ids and a word, never a token.

| direction | JSON |
|---|---|
| request | `{"tenant", "grant_id", "rejected": version or null}` |
| of our application's own token | `{"application": true, "rejected": version or null}` |
| answer | `{"outcome", "version": number or null, "retry_after_s": number or null}` |
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from token_rotator.domain.grant import APPLICATION
from token_rotator.service.journal import Trouble
from token_rotator.service.ports import RefreshReport, Rejected

if TYPE_CHECKING:
    from types_boto3_lambda import LambdaClient

    from token_rotator.domain.grant import GrantKey
    from token_rotator.service.journal import Journal
    from token_rotator.service.ports import Cause

_FAILED: Final = RefreshReport("failed")


class LambdaRefresher:
    """`Refresher` over a synchronous invocation.

    The client must make one attempt in all, with a read timeout longer than the refresh function runs: a retry by the
    SDK would start a second refresh.
    """

    def __init__(self, client: LambdaClient, function: str, journal: Journal) -> None:
        self._client = client
        self._function = function
        self._journal = journal

    def refresh(self, key: GrantKey, cause: Cause) -> RefreshReport:
        """See `Refresher.refresh`."""
        rejected = cause.version if isinstance(cause, Rejected) else None
        whose = {"application": True} if key == APPLICATION else {"tenant": key.tenant, "grant_id": key.grant_id}
        question = {**whose, "rejected": rejected}
        try:
            answer = self._client.invoke(FunctionName=self._function, Payload=json.dumps(question).encode())
            if answer.get("FunctionError"):
                return self._no_answer(key, "function-error")
            return _read(answer["Payload"].read())
        except ClientError as error:
            return self._no_answer(key, error.response.get("Error", {}).get("Code", "unknown"))
        except (BotoCoreError, ValueError, KeyError, TypeError, OverflowError) as error:
            return self._no_answer(key, type(error).__name__)

    def _no_answer(self, key: GrantKey, detail: str) -> RefreshReport:
        self._journal.record(Trouble(key=key, code="refresh-unreachable", detail=detail))
        return _FAILED


def _read(content: bytes) -> RefreshReport:
    """Read an answer. Raises `ValueError`, `KeyError`, `TypeError` or `OverflowError` for what is none."""
    told = json.loads(content)
    outcome, version, retry_after_s = told["outcome"], told["version"], told["retry_after_s"]
    if not isinstance(outcome, str) or not isinstance(version, int | None):
        msg = "not a report"
        raise TypeError(msg)
    return RefreshReport(outcome, version, None if retry_after_s is None else timedelta(seconds=retry_after_s))
