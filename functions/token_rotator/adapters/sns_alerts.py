"""Alerts over SNS: a JSON message for people and machines, and attributes to filter by.

| field | holds |
|---|---|
| `incident_id` | stable for one incident: deduplicate by it |
| `kind`, `reason`, `environment`, `raised_at` | what happened, where, when (UTC) |
| `tenant`, `grant_id` | to whom; both null where it is about the whole deployment |
| `summary`, `runbook` | one sentence, and where to read on |
| `correlation_id`, `wise_trace_id` | what Wise's support asks for |
| `reminder` | whether it was told before, and nothing has changed since |
| `ends` | the ids of incidents whose place this one takes |

Subscribers by e-mail get the same as text. No token is ever in it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from token_rotator.domain.errors import PublishRefused, PublishUnknown
from token_rotator.domain.grant import APPLICATION, AlertKind
from token_rotator.domain.instants import show_instant

if TYPE_CHECKING:
    from types_boto3_sns import SNSClient

    from token_rotator.domain.grant import Alert, GrantKey

_CLIENT_FAULTS: Final = range(400, 500)
_DEPLOYMENT: Final = "this deployment"
_SUMMARIES: Final = {
    AlertKind.REAUTHORIZATION_REQUIRED: (
        "Wise no longer accepts the refresh token of {whose}: the user has to authorize again. No access token is "
        "served for it until then."
    ),
    AlertKind.HELD: (
        "Wise refuses to refresh {whose}, without saying that its refresh token is dead, and goes on serving us "
        "otherwise. It is tried again at long intervals; no access token is served for it once the present one ends."
    ),
    AlertKind.FOREIGN_REFRESHER: (
        "Somebody else refreshes {whose}: its access token died before its time, and its refresh token still works. "
        "Find the other refresher and switch it off."
    ),
    AlertKind.REISSUED: (
        "The refresh token of {whose} died, and its registration code brought new tokens. Nobody has to do anything."
    ),
    AlertKind.REFRESH_TOKEN_EXPIRING: (
        "The refresh token of {whose} ends soon, by the date that Wise gave. Refreshing does not make it last longer: "
        "the user has to authorize again before that, unless a registration code is kept."
    ),
    AlertKind.PERSONAL_TOKEN_OLD: (
        "The personal API token of {whose} is as old as it should get. It goes on being served: make another one at "
        "Wise, adopt that, and revoke this one there."
    ),
    AlertKind.MANY_GRANTS_DYING: (
        "Many grants of {whose} have died within ten minutes; each has an alert of its own. That looks like one cause."
    ),
    AlertKind.PROVIDER_UNAVAILABLE: (
        "Wise has given no usable answer to {whose} for minutes: nothing is refreshed until it does. Access tokens are "
        "served as long as they live."
    ),
    AlertKind.CLIENT_REFUSED: (
        "Wise refuses the client credentials of {whose}: nothing is refreshed until it accepts them. Access tokens are "
        "served as long as they live."
    ),
    AlertKind.WE_ARE_WRONG: (
        "Wise refuses the requests of {whose} as such: nothing is refreshed until it takes them. Access tokens are "
        "served as long as they live."
    ),
    AlertKind.CERTIFICATE_EXPIRING: (
        "The client certificate that {whose} shows to Wise ends soon, or has ended: `reason` says in how many days. "
        "Without a new one nothing is refreshed from then on. Access tokens are served as long as they live."
    ),
    AlertKind.RECOVERED: "What on-call was told about {whose} is over.",
}
_SUMMARIES_OF: Final = {
    "personal_token_rejected": (
        "Wise no longer accepts the personal API token of {whose}: its owner has to make another one. No access token "
        "is served for it until that is adopted."
    ),
}
"""By the reason of a grant that needs its user, where it says more than the kind."""
_FACTS: Final = (
    "environment",
    "tenant",
    "grant_id",
    "kind",
    "reason",
    "raised_at",
    "incident_id",
    "ends",
    "correlation_id",
    "wise_trace_id",
)
_REMINDER: Final = "Nothing has changed since this was told: {told}"


class SnsAlerts:
    """`AlertPublisher` over one topic. A client without retries is expected: each could make a copy."""

    def __init__(self, client: SNSClient, topic_arn: str, environment: str, runbooks: str) -> None:
        self._client = client
        self._topic_arn = topic_arn
        self._environment = environment
        self._runbooks = runbooks.rstrip("/")

    def publish(self, key: GrantKey | None, alert: Alert) -> None:
        """See `AlertPublisher.publish`."""
        whose = _whose(key)
        summary = _summary(alert).format(whose=whose)
        if alert.reminder:
            summary = _REMINDER.format(told=summary)
        message: dict[str, Any] = {
            "incident_id": alert.incident_id,
            "kind": alert.kind.value,
            "reason": alert.reason,
            "environment": self._environment,
            "tenant": (key.tenant or None) if key else None,
            "grant_id": key.grant_id if key else None,
            "raised_at": show_instant(alert.raised_at),
            "summary": summary,
            "runbook": f"{self._runbooks}/{alert.kind.value.replace('_', '-')}.md",
            "correlation_id": alert.attempt_id,
            "wise_trace_id": alert.trace_id,
            "reminder": alert.reminder,
            "ends": list(alert.ends),
        }
        attributes = {
            "kind": alert.kind.value,
            "environment": self._environment,
            "incident_id": alert.incident_id,
            "reminder": "true" if alert.reminder else "false",
        }
        if key and key != APPLICATION:  # an attribute takes no empty text
            attributes["tenant"] = key.tenant
        subject = f"[{self._environment}] {alert.kind.value.replace('_', ' ')}"
        try:
            self._client.publish(
                TopicArn=self._topic_arn,
                Subject=f"{subject}{', again' if alert.reminder else ''}"[:100],
                MessageStructure="json",
                Message=json.dumps({"default": json.dumps(message, indent=2), "email": _text(message)}),
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


def _summary(alert: Alert) -> str:
    if alert.kind is AlertKind.REAUTHORIZATION_REQUIRED and alert.reason in _SUMMARIES_OF:
        return _SUMMARIES_OF[alert.reason]
    return _SUMMARIES[alert.kind]


def _whose(key: GrantKey | None) -> str:
    if key == APPLICATION:
        return "our application's own token"
    return f"grant {key.grant_id} of tenant {key.tenant}" if key else _DEPLOYMENT


def _text(message: dict[str, Any]) -> str:
    """Give the message as somebody reads it who has just been woken: what, what to do, then the facts."""
    facts = [f"{name.replace('_', ' ')}: {_shown(message[name])}" for name in _FACTS if message[name]]
    return "\n".join([message["summary"], "", f"What to do: {message['runbook']}", "", *facts, ""])


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
