"""Alerts over SNS: a JSON message for people and machines, and attributes to filter by.

| field | holds |
|---|---|
| `incident_id` | stable for one incident: deduplicate by it |
| `kind`, `reason`, `environment`, `tenant`, `grant_id`, `raised_at` | what happened, to whom, when (UTC) |
| `summary`, `runbook` | one sentence, and where to read on |
| `correlation_id`, `wise_trace_id` | what Wise's support asks for |

No token is ever in it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from token_rotator.domain.errors import PublishRefused, PublishUnknown
from token_rotator.domain.grant import AlertKind
from token_rotator.domain.instants import show_instant

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient

    from token_rotator.domain.grant import Alert, Grant

_CLIENT_FAULTS: Final = range(400, 500)
_SUMMARIES: Final = {
    AlertKind.REAUTHORIZATION_REQUIRED: (
        "Wise no longer accepts the refresh token of grant {grant_id} of tenant {tenant}: the user has to authorize "
        "again. No access token is served for it until then."
    ),
}


class SnsAlerts:
    """`AlertPublisher` over one topic. A client without retries is expected: each could make a copy."""

    def __init__(self, client: SNSClient, topic_arn: str, environment: str, runbooks: str) -> None:
        self._client = client
        self._topic_arn = topic_arn
        self._environment = environment
        self._runbooks = runbooks.rstrip("/")

    def publish(self, grant: Grant, alert: Alert) -> None:
        """See `AlertPublisher.publish`."""
        tenant, grant_id = grant.key.tenant, grant.key.grant_id
        message = {
            "incident_id": alert.incident_id,
            "kind": alert.kind.value,
            "reason": alert.reason,
            "environment": self._environment,
            "tenant": tenant,
            "grant_id": grant_id,
            "raised_at": show_instant(alert.raised_at),
            "summary": _SUMMARIES[alert.kind].format(tenant=tenant, grant_id=grant_id),
            "runbook": f"{self._runbooks}/{alert.kind.value.replace('_', '-')}.md",
            "correlation_id": alert.attempt_id,
            "wise_trace_id": alert.trace_id,
        }
        attributes = {
            "kind": alert.kind.value,
            "environment": self._environment,
            "tenant": tenant,
            "incident_id": alert.incident_id,
        }
        try:
            self._client.publish(
                TopicArn=self._topic_arn,
                Subject=f"[{self._environment}] {alert.kind.value.replace('_', ' ')}"[:100],
                Message=json.dumps(message, indent=2),
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = error.response.get("Error", {}).get("Code", "unknown")
            msg = f"SNS: {code}"
            raise (PublishRefused if status in _CLIENT_FAULTS else PublishUnknown)(msg) from None
        except BotoCoreError as error:
            msg = f"SNS: {type(error).__name__}"
            raise PublishUnknown(msg) from None
