"""What a deployment may be told through the CDK context, parsed and checked once.

Values come from `cdk.json`, where they have their JSON types, or from `cdk deploy -c key=value`, where every
value is a string; lists, objects, numbers and booleans are then read as JSON.

The keys `sandbox` and `production` each hold settings of that environment alone, which go before those at the top
level: one `cdk.json` describes both. The CDK puts what `-c` says at the top level too, and nobody can tell the two
apart any more, so an environment's own settings go before `-c` as well.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SHARDS: Final = 16
"""How many partitions the index of due grants has: a constant of the table's format."""

Environment = Literal["sandbox", "production"]
"""Wise's word: each has hosts and credentials of its own."""

ENVIRONMENTS: Final[tuple[Environment, ...]] = ("sandbox", "production")

FUNCTIONS: Final = ("sweep", "refresh", "serve", "admin", "callback")
MAY: Final = ("read", "manage", "link", "operate", "application")

WISE_API_URLS: Final = {"sandbox": "https://api.wise-sandbox.com", "production": "https://api.wise.com"}
WISE_MTLS_URLS: Final = {
    "sandbox": "https://api-mtls.wise-sandbox.com",
    "production": "https://api-mtls.transferwise.com",
}
"""The hosts that demand a client certificate (docs.wise.com/guides/developer/auth-and-security/mtls)."""
WISE_WEB_HOSTS: Final = {"sandbox": "wise-sandbox.com", "production": "wise.com"}
WISE_DOMAINS: Final = {
    "sandbox": ("wise-sandbox.com", "sandbox.transferwise.tech", "sandbox.wise.tech"),
    "production": ("wise.com", "transferwise.com"),
}

PARTNERS_LIMIT: Final = 3000
"""Characters of the PARTNERS variable. Lambda takes 4 KB for all variables of a function, names included."""

CALLS_LIMIT: Final = 100_000
"""The most calls a minute that a lane may be given. Wise's documented default is 1,000 for a whole partner."""

AUDIT_DAYS: Final = (90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
"""How long the lines that say who was given what may be kept: what CloudWatch Logs takes, from a quarter on."""

ROLE_POLICY_LIMIT: Final = 10_240
"""Characters of all inline policies of one IAM role, white space not counted."""

_ROLE_ID_LENGTH: Final = 21
_PATH_ARN_LENGTH: Final = 100
_ARNS_OF: Final = {"read": 4, "manage": 6, "link": 3, "operate": 6, "application": 0}
"""How many ARNs of methods a permission takes in the policy of a role, for each tenant."""
_ARNS_OF_NO_TENANT: Final = {"application": 3, "operate": 5}
"""How many it takes besides, for what is of no tenant: our application's own token, orders about everything."""
_POLICY_FRAME_LENGTH: Final = 800

_PARTNER_NAME_LENGTH: Final = 32

_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PARTNER_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_PRINCIPAL_ARN: Final = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):(?:root|(?:role|user)/[\w+=,.@/-]+)", re.ASCII)
_EXTERNAL_ID: Final = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_VERSION: Final = re.compile(r"20[0-9]{2}Q[1-4]")
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?", re.ASCII)
_CLIENT_ID: Final = re.compile(r"[!-9;-~]{1,256}", re.ASCII)
_URL: Final = re.compile(r"[!-~]{1,512}", re.ASCII)
_OWN_MACHINE: Final = ("127.0.0.1", "localhost")
_SECRET_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
_PEM: Final = re.compile(r"-----BEGIN PUBLIC KEY-----\s([A-Za-z0-9+/=\s]+)\s-----END PUBLIC KEY-----", re.ASCII)
_SANDBOX_EVENTS: Final = "30bfe2d6312e1b03eedca03db05ee5d0ba3b57e648757b57d0d89a593f710edf"
"""SHA-256 of the key by which Wise signs the sandbox's events (docs.wise.com/guides/developer/webhooks/event-handling).

Anybody may have a sandbox, and its accounts have ids like those of production.
"""
_LEAST_BITS: Final = 2048
_MOST_BITS: Final = 4096
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")

Choice = TypeVar("Choice", bound=str)


class ConfigError(ValueError):
    """A context value that cannot be deployed. Its text names the field and what is wrong with it."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"context {name}: {problem}")
        self.name = name


@dataclass(frozen=True)
class Partner:
    """A partner service: who may take its role, and what the role may do to which tenants."""

    name: str
    principal: str
    external_id: str
    tenants: tuple[str, ...]
    may: tuple[str, ...] = ("read",)
    return_urls: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name as part of a CloudFormation id: `acme-payroll` is `AcmePayroll`."""
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def account(self) -> str:
        """The account of the principal."""
        match = _PRINCIPAL_ARN.fullmatch(self.principal)
        return match.group(1) if match else self.principal

    @property
    def principal_arns(self) -> tuple[str, ...]:
        """The forms in which `aws:PrincipalArn` may show the principal; empty: anybody of the account.

        On AWS it is the role's ARN. An emulator may show the session's, which AWS never does.
        """
        kind, _, path = self.principal.rpartition(":")[2].partition("/")
        if not path:
            return ()
        if kind == "user":
            return (self.principal,)
        partition = self.principal.split(":")[1]
        role = path.rpartition("/")[2]
        return (self.principal, f"arn:{partition}:sts::{self.account}:assumed-role/{role}/*")

    def setting(self, role_id: str) -> dict[str, Any]:
        """This partner as the functions know it, in their PARTNERS variable."""
        told = {"name": self.name, "role_id": role_id, "tenants": list(self.tenants), "may": list(self.may)}
        return {**told, "return_urls": list(self.return_urls)} if self.return_urls else told


@dataclass(frozen=True)
class DeployConfig:
    """One environment's deployment. Defaults are those of a first sandbox."""

    environment: Environment
    wise_api_url: str
    wise_secret_name: str
    wise_web_host: str
    wise_client_id: str | None = None
    redirect_uri: str | None = None
    public_callback: bool = True
    wise_api_version: str = ""
    wise_ca_file: str | None = None
    wise_mtls: bool = False
    architecture: Literal["arm64", "x86_64", "host"] = "arm64"
    schedules: int = 1
    settle_s: int | None = None
    sweep_calls_per_minute: int = 900
    demand_calls_per_minute: int = 100
    remind_after_h: int = 24
    many_grants_dying: int = 100
    personal_token_days: int = 90
    audit_days: int = 400
    log_level: str = "INFO"
    alert_emails: tuple[str, ...] = ()
    runbook_base_url: str | None = None
    partners: tuple[Partner, ...] = ()
    wise_webhook_keys: tuple[str, ...] = ()
    api_gateway_account: bool = True
    reserved_concurrency: Mapping[str, int] = field(default_factory=dict)

    @property
    def stack_name(self) -> str:
        """One stack per environment."""
        return f"TokenRotator-{self.environment}"

    @property
    def shards(self) -> tuple[tuple[int, ...], ...]:
        """The shards of the due index, divided among the schedules."""
        each = SHARDS // self.schedules
        return tuple(tuple(range(n * each, (n + 1) * each)) for n in range(self.schedules))

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> DeployConfig:
        """Parse the whole context of an app.

        The CDK's own keys are left alone: flags (`@aws-cdk/…`), settings and cached look-ups, all of which contain
        a colon or a slash. Any other key that is not ours raises ConfigError. What the deployed environment's own
        key holds goes before what stands at the top level; the other environment's is not read.
        """
        given = {key: value for key, value in context.items() if not set(key) & set(":/")}
        _known("", given, {*cls.__dataclass_fields__, *ENVIRONMENTS})
        environment: Environment = _Values(given).choice("environment", ENVIRONMENTS, "sandbox")
        own = _Values(given).mapping(environment)
        _known(f"{environment}.", own, set(cls.__dataclass_fields__) - {"environment"})
        values = _Values({**given, **own})
        schedules = values.number("schedules", least=1, most=SHARDS) or 1
        if SHARDS % schedules:
            raise ConfigError("schedules", f"must be 1, 2, 4, 8 or {SHARDS}, not {schedules}")
        partners = _partners(values.items("partners"), environment)
        public_callback = values.switch("public_callback", default=True)
        client_id = values.matching("wise_client_id", _CLIENT_ID, "the client id that Wise gave you, without a colon")
        mtls = values.switch("wise_mtls", default=False)
        redirect_uri = _redirect_uri(values.text("redirect_uri"), environment)
        if any("link" in partner.may for partner in partners):
            if client_id is None:
                raise ConfigError("wise_client_id", "is needed where a partner may link: users are asked about it")
            if redirect_uri is None and not public_callback:
                raise ConfigError("redirect_uri", "is needed where a partner may link and public_callback is false")
        return cls(
            environment=environment,
            wise_api_url=_wise_api_url(values.text("wise_api_url"), environment, mtls=mtls),
            wise_secret_name=_secret_name(values.text("wise_secret_name") or f"token-rotator/{environment}/wise"),
            wise_web_host=_wise_web_host(values.text("wise_web_host") or WISE_WEB_HOSTS[environment], environment),
            wise_client_id=client_id,
            redirect_uri=redirect_uri,
            public_callback=public_callback,
            wise_api_version=values.matching("wise_api_version", _VERSION, "a quarter like 2026Q4") or "",
            wise_ca_file=values.text("wise_ca_file"),
            wise_mtls=mtls,
            architecture=values.choice("architecture", ("arm64", "x86_64", "host"), "arm64"),
            schedules=schedules,
            settle_s=values.number("settle_s", least=1, most=120),
            sweep_calls_per_minute=values.calls("sweep_calls_per_minute", cls.sweep_calls_per_minute),
            demand_calls_per_minute=values.calls("demand_calls_per_minute", cls.demand_calls_per_minute),
            remind_after_h=values.number("remind_after_h", least=1, most=24 * 90) or cls.remind_after_h,
            many_grants_dying=values.calls("many_grants_dying", cls.many_grants_dying),
            personal_token_days=values.number("personal_token_days", least=1, most=3650) or cls.personal_token_days,
            audit_days=values.one_of("audit_days", AUDIT_DAYS, cls.audit_days),
            log_level=values.choice("log_level", ("DEBUG", "INFO", "WARNING", "ERROR"), "INFO"),
            alert_emails=_alert_emails(values.items("alert_emails")),
            runbook_base_url=_runbook_base_url(values.text("runbook_base_url")),
            partners=partners,
            wise_webhook_keys=_webhook_keys(values.items("wise_webhook_keys"), partners, environment),
            api_gateway_account=values.switch("api_gateway_account", default=True),
            reserved_concurrency=_reserved_concurrency(values.mapping("reserved_concurrency"), schedules),
        )


@dataclass(frozen=True)
class _Values:
    """Typed look-ups in the context. A value of another type raises ConfigError."""

    given: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        value = self.given.get(name)
        if value is not None and not isinstance(value, str):
            raise ConfigError(name, f"must be a string, not {_kind(value)}")
        return value or None

    def matching(self, name: str, pattern: re.Pattern[str], meaning: str) -> str | None:
        value = self.text(name)
        if value is not None and not pattern.fullmatch(value):
            raise ConfigError(name, f"must be {meaning}, not {value!r}")
        return value

    def choice(self, name: str, choices: tuple[Choice, ...], default: Choice) -> Choice:
        value = self.text(name)
        if value is None:
            return default
        for choice in choices:
            if choice == value:
                return choice
        raise ConfigError(name, f"must be one of {', '.join(choices)}, not {value!r}")

    def number(self, name: str, *, least: int, most: int) -> int | None:
        value = self._read(name, None)
        return None if value is None else _whole(name, value, least, most)

    def calls(self, name: str, default: int) -> int:
        return self.number(name, least=1, most=CALLS_LIMIT) or default

    def one_of(self, name: str, choices: tuple[int, ...], default: int) -> int:
        value = self._read(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value not in choices:
            raise ConfigError(name, f"must be one of {', '.join(map(str, choices))}, not {value!r}")
        return value

    def switch(self, name: str, *, default: bool) -> bool:
        value = self._read(name, default)
        if not isinstance(value, bool):
            raise ConfigError(name, f"must be true or false, not {_kind(value)}")
        return value

    def items(self, name: str) -> list[Any]:
        value = self._read(name, [])
        if not isinstance(value, list):
            raise ConfigError(name, f"must be a list, not {_kind(value)}")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._read(name, {})
        if not isinstance(value, dict):
            raise ConfigError(name, f"must be an object, not {_kind(value)}")
        return value

    def _read(self, name: str, default: object) -> object:
        value = self.given.get(name, default)
        if not isinstance(value, str):
            return value
        try:
            parsed: object = json.loads(value)
        except ValueError as error:
            raise ConfigError(name, f"must be JSON, not {value!r}") from error
        return parsed


def _known(prefix: str, given: Mapping[str, Any], keys: set[str]) -> None:
    unknown = sorted(set(given) - keys)
    if unknown:
        raise ConfigError(f"{prefix}{unknown[0]}", f"unknown; the keys are {', '.join(sorted(keys))}")


def _kind(value: object) -> str:
    kinds: dict[type, str] = {
        str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"
    }  # fmt: skip
    return kinds.get(type(value), "null")


def _whole(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(name, f"must be a whole number, not {value!r}")
    if not least <= value <= most:
        raise ConfigError(name, f"must be {least} to {most}, not {value}")
    return value


def _https(name: str, url: str) -> str:
    """The host of an https URL without user, query or fragment."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(name, f"must be a URL, not {url!r}") from error
    if parts.scheme != "https" or not host:
        raise ConfigError(name, f"must be an https URL, not {url!r}")
    if parts.username or parts.password or parts.query or parts.fragment or not url.isascii() or " " in url:
        raise ConfigError(name, "must have no user, query or fragment")
    return host


def _wise_api_url(given: str | None, environment: str, *, mtls: bool) -> str:
    """The URL to call Wise at: of Wise's own hosts the one that demands a certificate, or the one that does not."""
    name = "wise_api_url"
    url = given or (WISE_MTLS_URLS if mtls else WISE_API_URLS)[environment]
    host = _https(name, url)
    if urlsplit(url).path:
        raise ConfigError(name, f"must have no path (not even a slash), not {url!r}")
    _of_environment(name, host, environment)
    wises = any(host == domain or host.endswith(f".{domain}") for domain in WISE_DOMAINS[environment])
    if wises and host.startswith("api-mtls.") != mtls:
        right = (WISE_MTLS_URLS if mtls else WISE_API_URLS)[environment]
        raise ConfigError(name, f"must be {right} while wise_mtls is {str(mtls).lower()}, not {url!r}")
    return url


def _wise_web_host(host: str, environment: str) -> str:
    name = "wise_web_host"
    if not _HOST.fullmatch(host):
        raise ConfigError(name, f"must be a host, with a port where it needs one, not {host!r}")
    _of_environment(name, host.partition(":")[0].lower(), environment)
    return host


def _of_environment(name: str, host: str, environment: str) -> None:
    for other, domains in WISE_DOMAINS.items():
        if other != environment and any(host == domain or host.endswith(f".{domain}") for domain in domains):
            raise ConfigError(name, f"{host} is Wise's {other} host, and the environment is {environment}")


def _browser_url(name: str, url: str, environment: str) -> None:
    """Refuse a URL that no browser should be sent to: unencrypted beyond its own machine, or with more in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(name, f"must be a URL, not {url!r}") from error
    plain = environment == "sandbox" and parts.scheme == "http" and host in _OWN_MACHINE
    if not host or not (parts.scheme == "https" or plain):
        raise ConfigError(name, f"must be an https URL (in a sandbox also http on this machine), not {url!r}")
    if parts.username or parts.password or "#" in url or "\\" in url or "@" in url or not _URL.fullmatch(url):
        raise ConfigError(name, "must be 512 ASCII characters at most, without user or fragment")


def _redirect_uri(url: str | None, environment: str) -> str | None:
    if url is not None:
        _browser_url("redirect_uri", url, environment)
    return url


def _runbook_base_url(url: str | None) -> str | None:
    if url is not None:
        _https("runbook_base_url", url)
    return url


def _secret_name(name: str) -> str:
    if not _SECRET_NAME.fullmatch(name):
        raise ConfigError("wise_secret_name", f"must be the name of a secret, not {name!r}")
    return name


def _alert_emails(values: list[Any]) -> tuple[str, ...]:
    for index, value in enumerate(values):
        if not isinstance(value, str) or not _EMAIL.fullmatch(value):
            raise ConfigError(f"alert_emails[{index}]", f"must be an e-mail address, not {value!r}")
    _no_duplicates("alert_emails", values)
    return tuple(values)


def _reserved_concurrency(values: dict[str, Any], schedules: int) -> dict[str, int]:
    for key, value in values.items():
        name = f"reserved_concurrency.{key}"
        if key not in FUNCTIONS:
            raise ConfigError(name, f"unknown; the functions are {', '.join(FUNCTIONS)}")
        # One minute's sweep may still be finishing while the next begins.
        _whole(name, value, 2 * schedules if key == "sweep" else 1, 1000)
    return values


def _webhook_keys(values: list[Any], partners: Sequence[Partner], environment: str) -> tuple[str, ...]:
    """Give the keys in DER as base64, which is PEM without what is around it: a function's environment is small."""
    keys = tuple(_public_key(f"wise_webhook_keys[{index}]", value) for index, value in enumerate(values))
    _no_duplicates("wise_webhook_keys", keys, "a key that is in it twice")
    for index, key in enumerate(keys):
        if environment == "production" and hashlib.sha256(base64.b64decode(key)).hexdigest() == _SANDBOX_EVENTS:
            raise ConfigError(f"wise_webhook_keys[{index}]", "is Wise's sandbox key, and the environment is production")
    length = len(" ".join(keys)) + len(json.dumps([partner.setting("A" * _ROLE_ID_LENGTH) for partner in partners]))
    if keys and length > PARTNERS_LIMIT:
        raise ConfigError(
            "wise_webhook_keys", f"take, with the partners, {length} characters of {PARTNERS_LIMIT} in an environment"
        )
    return keys


def _public_key(name: str, value: object) -> str:
    found = _PEM.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ConfigError(name, "must be a public key in PEM: -----BEGIN PUBLIC KEY----- and so on")
    der = "".join(found.group(1).split())
    try:
        key = load_der_public_key(base64.b64decode(der, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey) or not _LEAST_BITS <= key.key_size <= _MOST_BITS:
        raise ConfigError(name, f"must be an RSA key of {_LEAST_BITS} to {_MOST_BITS} bits")
    return der


def _partners(values: list[Any], environment: str) -> tuple[Partner, ...]:
    partners = tuple(_partner(f"partners[{index}]", value, environment) for index, value in enumerate(values))
    _no_duplicates("partners", [partner.title for partner in partners], "the name of two partners")
    length = len(json.dumps([partner.setting("A" * _ROLE_ID_LENGTH) for partner in partners]))
    if length > PARTNERS_LIMIT:
        raise ConfigError("partners", f"take {length} characters in a function's environment of {PARTNERS_LIMIT}")
    return partners


def _partner(name: str, value: object, environment: str) -> Partner:
    if not isinstance(value, dict):
        raise ConfigError(name, f"must be an object, not {_kind(value)}")
    fields = Partner.__dataclass_fields__
    for key in value:
        if key not in fields:
            raise ConfigError(f"{name}.{key}", f"unknown; the fields are {', '.join(fields)}")
    may = _texts(f"{name}.may", value.get("may", ["read"]), MAY.__contains__, f"one of {', '.join(MAY)}")
    partner = Partner(
        name=_text(f"{name}.name", value.get("name"), _is_partner_name, "words of a-z and 0-9 joined by hyphens"),
        principal=_text(f"{name}.principal", value.get("principal"), _is_principal,
                        "an account id, or the ARN of an IAM role or user without wildcards"),
        external_id=_text(f"{name}.external_id", value.get("external_id"), _is_external_id,
                          "2 to 1224 letters, digits and _+=,.@:/-"),
        tenants=_tenants(f"{name}.tenants", value.get("tenants"), may),
        may=may,
        return_urls=_return_urls(f"{name}.return_urls", value.get("return_urls"), environment),
    )  # fmt: skip
    if partner.return_urls and "link" not in partner.may:
        raise ConfigError(f"{name}.return_urls", "are for a partner that may link")
    arns = sum(_ARNS_OF[may] for may in partner.may)
    length = _POLICY_FRAME_LENGTH + sum(_ARNS_OF_NO_TENANT.get(may, 0) for may in partner.may) * _PATH_ARN_LENGTH
    length += sum(arns * (_PATH_ARN_LENGTH + len(tenant)) for tenant in partner.tenants)
    if length > ROLE_POLICY_LIMIT:
        raise ConfigError(f"{name}.tenants", "too many for the policy of one role; divide them between two partners")
    return partner


def _tenants(name: str, value: object, may: tuple[str, ...]) -> tuple[str, ...]:
    if may == ("application",):  # the only permission that is about no tenant
        if value:
            raise ConfigError(name, "are for a partner that may more than application")
        return ()
    return _texts(
        name, value, _is_tenant, "a tenant: a letter or digit, then up to 127 letters, digits and ._- without '..'"
    )


def _return_urls(name: str, value: object, environment: str) -> tuple[str, ...]:
    if value is None:
        return ()
    urls = _texts(name, value, lambda url: "?" not in url, "a URL without a query, which each link may add")
    for index, url in enumerate(urls):
        _browser_url(f"{name}[{index}]", url, environment)
        if not urlsplit(url).path:
            raise ConfigError(f"{name}[{index}]", "must have a path, if only a slash")
    return urls


def _is_partner_name(text: str) -> bool:
    return len(text) <= _PARTNER_NAME_LENGTH and bool(_PARTNER_NAME.fullmatch(text))


def _is_principal(text: str) -> bool:
    return bool(_ACCOUNT.fullmatch(text) or _PRINCIPAL_ARN.fullmatch(text))


def _is_external_id(text: str) -> bool:
    return bool(_EXTERNAL_ID.fullmatch(text))


def _is_tenant(text: str) -> bool:
    return ".." not in text and bool(_TENANT.fullmatch(text))


def _text(name: str, value: object, accepts: Callable[[str], bool], meaning: str) -> str:
    if not isinstance(value, str) or not accepts(value):
        raise ConfigError(name, f"must be {meaning}; " + ("it is missing" if value is None else f"not {value!r}"))
    return value


def _texts(name: str, value: object, accepts: Callable[[str], bool], meaning: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(name, "must be a list of at least one")
    texts = tuple(_text(f"{name}[{index}]", item, accepts, meaning) for index, item in enumerate(value))
    _no_duplicates(name, texts)
    return texts


def _no_duplicates(name: str, values: Sequence[str], meaning: str = "in it twice") -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(name, f"{value!r} is {meaning}")
