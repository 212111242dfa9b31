"""Calls the API as a partner service does: with a role taken by its external id, and a signature."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from local.aws.ministack import ROOT_CREDENTIALS, Credentials, MiniStack

STAGE: Final = "live"


@dataclass(frozen=True)
class Answer:
    """What the API said."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError where it is none."""
        return json.loads(self.body)


def assume(
    emulator: MiniStack,
    role_arn: str,
    *,
    external_id: str | None = None,
    session_name: str = "partner-session",
    by: Credentials = ROOT_CREDENTIALS,
) -> Credentials:
    """Take a role. Raises botocore's ClientError where its trust policy refuses."""
    request = {"RoleArn": role_arn, "RoleSessionName": session_name}
    if external_id is not None:
        request["ExternalId"] = external_id
    found = emulator.client("sts", by).assume_role(**request)["Credentials"]
    return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])


@dataclass(frozen=True)
class Api:
    """The deployed API, in the form of its URL that needs no name resolution."""

    emulator: MiniStack
    api_id: str
    stage: str = STAGE

    @property
    def url(self) -> str:
        """What stands in for https://{api_id}.execute-api.{region}.amazonaws.com/{stage}."""
        return f"{self.emulator.url}/_aws/execute-api/{self.api_id}/{self.stage}"

    def call(
        self,
        method: str,
        path: str,
        *,
        credentials: Credentials | None,
        json_body: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 40.0,
    ) -> Answer:
        """Send one request, signed by Signature Version 4 unless there are no credentials.

        The path, a query included, goes out byte for byte: nothing is normalized or encoded. One attempt.
        """
        content = json.dumps(json_body).encode() if json_body is not None else body
        sent = dict(headers or {})
        if json_body is not None:
            sent.setdefault("Content-Type", "application/json")
        if credentials is not None:
            sent = self._signed(method, path, credentials, content, sent)
        connection = http.client.HTTPConnection("127.0.0.1", self.emulator.port, timeout=timeout_s)
        try:
            target = f"/_aws/execute-api/{self.api_id}/{self.stage}{path}"
            connection.request(method, target, body=content, headers=sent)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def _signed(
        self, method: str, path: str, credentials: Credentials, content: bytes | None, headers: dict[str, str]
    ) -> dict[str, str]:
        request = AWSRequest(method=method, url=f"{self.url}{path}", data=content or b"", headers=headers)
        keys = ReadOnlyCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
        SigV4Auth(keys, "execute-api", self.emulator.region).add_auth(request)
        return dict(request.headers.items())
