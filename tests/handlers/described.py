"""Holds answers to what docs/openapi.json says of them: partner services are built from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


@cache
def _described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


@cache
def _validator(path: str, method: str, status: str, media: str) -> Draft202012Validator:
    schema = _described()["paths"][path][method]["responses"][status]["content"][media]["schema"]
    return Draft202012Validator({**schema, "components": _described()["components"]})


def why_not(path: str, method: str, status: int, headers: Mapping[str, str], text: str) -> str | None:
    """Say what about an answer is not as described; `None` if nothing, or if the method is not described at all."""
    operation = _described()["paths"].get(path, {}).get(method.lower())
    if operation is None:
        return None
    response = operation["responses"].get(str(status))
    if response is None:
        return f"{status} is no answer of {method} {path}"
    if not text:
        return f"{status} of {method} {path} has a body" if "content" in response else None
    media = headers["Content-Type"].partition(";")[0]
    if media not in response.get("content", {}):
        return f"{status} of {method} {path} is no {media}"
    if not media.endswith("json"):
        return None
    wrong = [
        error.message for error in _validator(path, method.lower(), str(status), media).iter_errors(json.loads(text))
    ]
    return f"{status} of {method} {path}: {'; '.join(wrong)}" if wrong else None
