"""Settings of each family of handlers: parsed once from the environment, or an error that names the variable."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from .domain.errors import InvalidInput, SettingsError
from .domain.grant import checked_id
from .domain.lease import Budgets

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENTS: Final = ("sandbox", "production")
PERMISSIONS: Final = frozenset({"read", "manage", "link", "operate", "application"})
_QUARTER: Final = re.compile(r"20\d\dQ[1-4]", re.ASCII)
_WEB_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?", re.ASCII)
_API_URL: Final = re.compile(r"https://([A-Za-z0-9][A-Za-z0-9.-]*)(?::\d{1,5})?", re.ASCII)
_HOSTS_OF: Final = {
    "wise-sandbox.com": "sandbox",
    "sandbox.transferwise.tech": "sandbox",
    "sandbox.wise.tech": "sandbox",
    "wise.com": "production",
    "transferwise.com": "production",
}
_MTLS_HOST: Final = "api-mtls."
"""What Wise's hosts that demand a client certificate begin with."""
_CLIENT_ID: Final = re.compile(r"[\x21-\x39\x3b-\x7e]{1,256}", re.ASCII)
_BROWSER_URL: Final = re.compile(r"(?:https://[A-Za-z0-9]|http://(?:127\.0\.0\.1|localhost)[:/])[\x21-\x7e]*", re.ASCII)
"""Where a browser is sent: encrypted, or not beyond its own machine."""
_QUEUE_URL: Final = re.compile(r"https?://[^\s/?#@]+/[^\s?#@]+", re.ASCII)
_WHOLE: Final = re.compile(r"[1-9]\d{0,5}", re.ASCII)
_DEFAULT_RUNBOOKS: Final = "docs/runbooks"


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        msg = f"{name} is not set"
        raise SettingsError(msg)
    return value


def _environment(environ: Mapping[str, str]) -> str:
    value = _required(environ, "ROTATOR_ENVIRONMENT")
    if value not in ENVIRONMENTS:
        msg = f"ROTATOR_ENVIRONMENT must be one of {', '.join(ENVIRONMENTS)}"
        raise SettingsError(msg)
    return value


def _flag(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "").strip()
    if value not in ("", "true", "false"):
        msg = f"{name} must be true or false"
        raise SettingsError(msg)
    return value == "true"


def _api_url(environ: Mapping[str, str], environment: str) -> str:
    value = _required(environ, "WISE_API_URL").rstrip("/")
    found = _API_URL.fullmatch(value)
    if found is None:
        msg = "WISE_API_URL must be https:// and a host, without path, query or credentials"
        raise SettingsError(msg)
    host = found.group(1)
    _of_environment("WISE_API_URL", host, environment)
    if host.lower().startswith(_MTLS_HOST) != _flag(environ, "WISE_MTLS") and _is_of_wise(host):
        msg = "WISE_API_URL must be an api-mtls host of Wise's where WISE_MTLS is true, and only there"
        raise SettingsError(msg)
    return value


def _is_of_wise(host: str) -> bool:
    host = host.lower().rstrip(".")
    return any(host == domain or host.endswith(f".{domain}") for domain in _HOSTS_OF)


def _of_environment(name: str, host: str, environment: str) -> None:
    host = host.lower().rstrip(".")
    for domain, owner in _HOSTS_OF.items():
        ours = host == domain or host.endswith(f".{domain}")
        if ours and owner != environment:
            msg = f"{name} is a {owner} host, and ROTATOR_ENVIRONMENT is {environment}"
            raise SettingsError(msg)


def _api_version(environ: Mapping[str, str]) -> str:
    value = environ.get("WISE_API_VERSION", "").strip()
    if value and not _QUARTER.fullmatch(value):
        msg = "WISE_API_VERSION must be empty or a quarter such as 2026Q4"
        raise SettingsError(msg)
    return value


def _budgets(environ: Mapping[str, str]) -> Budgets:
    value = environ.get("WISE_SETTLE_S", "").strip()
    if not value:
        return Budgets()
    try:
        return Budgets(settle=timedelta(seconds=float(value)))
    except (ValueError, OverflowError):
        msg = "WISE_SETTLE_S must be a number of seconds"
        raise SettingsError(msg) from None
    except SettingsError as error:
        msg = f"WISE_SETTLE_S: {error}"
        raise SettingsError(msg) from None


def _wise_web_url(environ: Mapping[str, str], environment: str) -> str:
    value = _required(environ, "WISE_WEB_HOST")
    if not _WEB_HOST.fullmatch(value):
        msg = "WISE_WEB_HOST must be a host, with a port where it needs one"
        raise SettingsError(msg)
    _of_environment("WISE_WEB_HOST", value.partition(":")[0], environment)
    return f"https://{value}"


def _redirect_uri(environ: Mapping[str, str]) -> str:
    value = _required(environ, "REDIRECT_URI")
    if not _BROWSER_URL.fullmatch(value) or "#" in value:
        msg = "REDIRECT_URI must be an https URL without a fragment"
        raise SettingsError(msg)
    return value


def _client_id(environ: Mapping[str, str], partners: Mapping[str, Partner]) -> str:
    """Read the client id that users are asked about; needed where somebody may link."""
    value = environ.get("WISE_CLIENT_ID", "").strip()
    if not value and any("link" in partner.may for partner in partners.values()):
        return _required(environ, "WISE_CLIENT_ID")
    if value and not _CLIENT_ID.fullmatch(value):
        msg = "WISE_CLIENT_ID must be visible ASCII characters without a colon"
        raise SettingsError(msg)
    return value


def _parked_queue(environ: Mapping[str, str]) -> str:
    value = _required(environ, "PARKED_QUEUE_URL")
    if not _QUEUE_URL.fullmatch(value):
        msg = "PARKED_QUEUE_URL must be the URL of a queue"
        raise SettingsError(msg)
    return value


def _webhook_keys(environ: Mapping[str, str]) -> tuple[bytes, ...]:
    """Read public keys: DER in base64, which is PEM without its first and last line, with spaces between."""
    try:
        return tuple(base64.b64decode(key, validate=True) for key in environ.get("WISE_WEBHOOK_KEYS", "").split())
    except ValueError:
        msg = "WISE_WEBHOOK_KEYS must be public keys in base64, with spaces between"
        raise SettingsError(msg) from None


def _whole(environ: Mapping[str, str], name: str, default: int, most: int = 100_000) -> int:
    value = environ.get(name, "").strip()
    if value and (not _WHOLE.fullmatch(value) or int(value) > most):
        msg = f"{name} must be a whole number from 1 to {most}"
        raise SettingsError(msg)
    return int(value) if value else default


@dataclass(frozen=True, slots=True)
class Partner:
    """A caller of the API, known by the unique id of its IAM role (`AROA…`).

    `return_urls`: where its users' browsers may be sent after linking, without a query.
    """

    name: str
    role_id: str
    tenants: frozenset[str]
    may: frozenset[str]
    return_urls: frozenset[str] = frozenset()


def _partner(index: int, entry: object) -> Partner:
    where = f"PARTNERS[{index}]"
    if not isinstance(entry, dict):
        msg = f"{where} must be an object"
        raise SettingsError(msg)
    fields: dict[str, Any] = entry
    for name in ("name", "role_id"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            msg = f"{where}.{name} must be a string"
            raise SettingsError(msg)
    for name in ("tenants", "may"):
        values = fields.get(name)
        if name == "tenants" and values == [] and fields.get("may") == ["application"]:
            continue  # the only permission that is about no tenant
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            msg = f"{where}.{name} must be a list of strings"
            raise SettingsError(msg)
    return_urls = fields.get("return_urls", [])
    if not isinstance(return_urls, list) or not all(
        isinstance(url, str) and _BROWSER_URL.fullmatch(url) and not set(url) & set("?#@\\") for url in return_urls
    ):
        msg = f"{where}.return_urls must be a list of https URLs without query, fragment or user"
        raise SettingsError(msg)
    unknown = set(fields["may"]) - PERMISSIONS
    if unknown:
        msg = f"{where}.may holds unknown permissions: {', '.join(sorted(unknown))}"
        raise SettingsError(msg)
    try:
        tenants = frozenset(checked_id("tenants", tenant) for tenant in fields["tenants"])
    except InvalidInput as error:
        msg = f"{where}.{error}"
        raise SettingsError(msg) from None
    return Partner(fields["name"], fields["role_id"], tenants, frozenset(fields["may"]), frozenset(return_urls))


def _partners(environ: Mapping[str, str]) -> dict[str, Partner]:
    """Give the partners by role id."""
    try:
        entries = json.loads(_required(environ, "PARTNERS"))
    except ValueError:
        msg = "PARTNERS is not JSON"
        raise SettingsError(msg) from None
    if not isinstance(entries, list):
        msg = "PARTNERS must be a list"
        raise SettingsError(msg)
    partners = [_partner(index, entry) for index, entry in enumerate(entries)]
    by_role = {partner.role_id: partner for partner in partners}
    if len(by_role) != len(partners):
        msg = "PARTNERS names one role twice"
        raise SettingsError(msg)
    return by_role


@dataclass(frozen=True, slots=True, kw_only=True)
class WiseSettings:
    """What all are told who call Wise and keep what it issues."""

    environment: str
    table: str
    access_tokens_key: str
    refresh_tokens_key: str
    wise_api_url: str
    wise_api_version: str
    wise_ca_file: str | None
    wise_mtls: bool
    wise_secret_name: str
    budgets: Budgets


def _of_wise(environ: Mapping[str, str]) -> dict[str, Any]:
    """Parse what `WiseSettings` holds."""
    environment = _environment(environ)
    return {
        "environment": environment,
        "table": _required(environ, "GRANTS_TABLE"),
        "access_tokens_key": _required(environ, "ACCESS_TOKENS_KEY_ARN"),
        "refresh_tokens_key": _required(environ, "REFRESH_TOKENS_KEY_ARN"),
        "wise_api_url": _api_url(environ, environment),
        "wise_api_version": _api_version(environ),
        "wise_ca_file": environ.get("WISE_CA_FILE", "").strip() or None,
        "wise_mtls": _flag(environ, "WISE_MTLS"),
        "wise_secret_name": _required(environ, "WISE_SECRET_NAME"),
        "budgets": _budgets(environ),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshSettings(WiseSettings):
    """What `sweep` and `refresh` are told. The calls are to Wise, in any minute, of all processes together.

    `remind_after`: when people are told once more about a grant that is still dead or held. `many_grants_dying`: so
    many grants that die within minutes raise an alert beside their own. `wise_client_id`: the only client to act as,
    where it is told.
    """

    wise_client_id: str | None
    alerts_topic: str
    parked_queue: str
    sweep_calls_per_minute: int
    demand_calls_per_minute: int
    runbooks: str
    remind_after: timedelta
    many_grants_dying: int

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> RefreshSettings:
        """Parse the environment. Raises `SettingsError`."""
        return cls(
            **_of_wise(environ),
            wise_client_id=_client_id(environ, {}) or None,
            alerts_topic=_required(environ, "ALERTS_TOPIC_ARN"),
            parked_queue=_parked_queue(environ),
            sweep_calls_per_minute=_whole(environ, "SWEEP_CALLS_PER_MINUTE", 900),
            demand_calls_per_minute=_whole(environ, "DEMAND_CALLS_PER_MINUTE", 100),
            runbooks=environ.get("RUNBOOK_BASE_URL", "").strip() or _DEFAULT_RUNBOOKS,
            remind_after=timedelta(hours=_whole(environ, "REMIND_AFTER_H", 24, 24 * 90)),
            many_grants_dying=_whole(environ, "MANY_GRANTS_DYING", 100),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """What `serve` is told."""

    environment: str
    table: str
    access_tokens_key: str
    refresh_function: str
    partners: dict[str, Partner]
    budgets: Budgets

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> ServeSettings:
        """Parse the environment. Raises `SettingsError`."""
        return cls(
            environment=_environment(environ),
            table=_required(environ, "GRANTS_TABLE"),
            access_tokens_key=_required(environ, "ACCESS_TOKENS_KEY_ARN"),
            refresh_function=_required(environ, "REFRESH_FUNCTION"),
            partners=_partners(environ),
            budgets=_budgets(environ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """What `admin` is told. Users are sent to `wise_web_url`, and from there to `redirect_uri`.

    `personal_for`: how old a personal token gets before people are told to replace it.
    """

    environment: str
    table: str
    access_tokens_key: str
    refresh_tokens_key: str
    partners: dict[str, Partner]
    wise_web_url: str
    wise_client_id: str
    redirect_uri: str
    personal_for: timedelta
    budgets: Budgets

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> AdminSettings:
        """Parse the environment. Raises `SettingsError`."""
        environment, partners = _environment(environ), _partners(environ)
        return cls(
            environment=environment,
            table=_required(environ, "GRANTS_TABLE"),
            access_tokens_key=_required(environ, "ACCESS_TOKENS_KEY_ARN"),
            refresh_tokens_key=_required(environ, "REFRESH_TOKENS_KEY_ARN"),
            partners=partners,
            wise_web_url=_wise_web_url(environ, environment),
            wise_client_id=_client_id(environ, partners),
            redirect_uri=_redirect_uri(environ),
            personal_for=timedelta(days=_whole(environ, "PERSONAL_TOKEN_DAYS", 90, 3650)),
            budgets=_budgets(environ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackSettings(WiseSettings):
    """What `callback` is told. `wise_webhook_keys`: with which Wise signs its events; none: there are no events."""

    partners: dict[str, Partner]
    wise_webhook_keys: tuple[bytes, ...]

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> CallbackSettings:
        """Parse the environment. Raises `SettingsError`."""
        return cls(**_of_wise(environ), partners=_partners(environ), wise_webhook_keys=_webhook_keys(environ))
