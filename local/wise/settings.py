"""What the emulator can be told to do differently, at the start or while it runs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from local.wise.clients import HighestTls

if TYPE_CHECKING:
    from collections.abc import Mapping

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class BadValueError(ValueError):
    """A value that was given from outside cannot be used; the message begins with its name."""


TWELVE_HOURS_S = 43_200.0
THIRTY_MINUTES_S = 1_800.0
FIVE_MINUTES_S = 300.0
TWENTY_YEARS_S = 631_152_000.0
"""7,305 days, what the examples in Wise's documentation amount to."""
_INT32_MAX = 2**31 - 1
_QUARTER = re.compile(r"[0-9]{4}Q[1-4]")
_URI = re.compile(r"https?://[!\"$-~]+")
_CLIENT_ERRORS = range(400, 500)
_FRACTION_DIGITS = (0, 3, 5, 6, 9)


class RefreshTokenPolicy(StrEnum):
    """What a refresh does with the refresh token. Wise does not say, so all three exist."""

    SAME = "same"
    """The same value comes back and its expiry does not move, as the dates in Wise's examples imply."""
    ROTATED = "rotated"
    """A new value with a full lifetime comes back; the one that was presented is dead."""
    OMITTED = "omitted"
    """The three fields of the refresh token are missing; the old one stays valid (RFC 6749, section 6)."""


class TokenFormat(StrEnum):
    """The looks of new tokens, access and refresh alike. Wise promises neither a size nor a form."""

    UUID = "uuid"
    """36 characters, as in Wise's older examples."""
    JWE = "jwe"
    """800 characters in five parts, what Wise announces for ``client_credentials`` tokens
    (docs.wise.com/guides/developer/auth-and-security/client-credentials-token-migration)."""
    LONG = "long"
    """8,000 characters in five parts."""


class ApplicationTokenFormat(StrEnum):
    """The looks of application tokens (``client_credentials``), which Wise changes from one form to the other.

    Source: docs.wise.com/guides/developer/auth-and-security/client-credentials-token-migration.
    """

    UUID = "uuid"
    JWE = "jwe"
    LONG = "long"
    """8,000 characters, for whoever counts on less."""
    MIX = "mix"
    """One of the first two, as production may answer while Wise migrates."""


class ExpiredRefresh(StrEnum):
    """What an expired refresh token is answered with. Wise documents the error, not the status."""

    INVALID_GRANT = "invalid_grant"
    """The status of ``unknown_refresh_status`` and ``invalid_grant``, as for any other dead refresh token."""
    INVALID_TOKEN = "invalid_token"
    """401 ``invalid_token``, and the user's access token dies with it, as Spring's token endpoint does."""


class WrongClientError(StrEnum):
    """The ``error`` for a wrong client id or secret; undocumented."""

    INVALID_CLIENT = "invalid_client"
    UNAUTHORIZED = "unauthorized"


class RefusedGrantError(StrEnum):
    """The ``error`` for a grant type that the client may not use; undocumented."""

    INVALID_CLIENT = "invalid_client"
    UNAUTHORIZED_CLIENT = "unauthorized_client"


class ApplicationAsUser(StrEnum):
    """What a user's resource answers an application token that lives. Wise does not say."""

    ACCESS_DENIED = "access_denied"
    """403, Spring's words."""
    UNAUTHORIZED = "unauthorized"
    """401, as if there were no token."""
    INVALID_TOKEN = "invalid_token"
    """401, as if the token were dead."""


class DeactivatedError(StrEnum):
    """What the token endpoint's 401 says of a deactivated account. Wise documents the status, not the body."""

    INVALID_GRANT = "invalid_grant"
    UNAUTHORIZED = "unauthorized"
    EMPTY = "empty"
    """No body."""


class RefusedCertificate(StrEnum):
    """How the mutual listener refuses a certificate that it is told to refuse; undocumented."""

    ALERT = "alert"
    """By a TLS alert: within the handshake of TLS 1.2, after that of TLS 1.3."""
    FORBIDDEN = "forbidden"
    """By 403 and a page of HTML, as an edge that checks certificates on its own."""
    RESET = "reset"
    """By a reset once the handshake is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WiseSettings:
    """Every switch of the emulator.

    Lifetimes are in seconds. A change holds for what happens after it: tokens that exist keep their dates.
    Raises ``BadValueError`` naming the field that is wrong.
    """

    client_id: str = "emulator-client-id"
    client_secret: str = field(default="emulator-client-secret", repr=False)
    client_key: str = "emulator-client-key"
    """What the application is called in the path of its webhook subscriptions: not always the client's id."""
    refresh_token_policy: RefreshTokenPolicy = RefreshTokenPolicy.SAME
    token_format: TokenFormat = TokenFormat.UUID
    application_token_format: ApplicationTokenFormat = ApplicationTokenFormat.MIX
    application_tokens_coexist: bool = True
    """A new application token leaves the earlier ones alive. Wise does not say; false: it kills them."""
    application_as_user: ApplicationAsUser = ApplicationAsUser.ACCESS_DENIED
    client_credentials_allowed: bool = True
    """This client may use ``client_credentials``; if not, that is a ``refused_grant``."""
    authorization_code_allowed: bool = True
    registration_code_allowed: bool = True
    redirect_uris: tuple[str, ...] = ("https://partner.example.com/wise/callback",)
    """Registered for the authorization page; one that is asked for must be equal, its query included."""
    authorization_code_lifetime_s: float = THIRTY_MINUTES_S
    claim_account_code_lifetime_s: float = FIVE_MINUTES_S
    tokens_survive_deactivation: bool = False
    """The tokens of an account, or of a profile, that is opened again are as good as before. Wise does not say; false:
    they are dead for good."""
    profiles_coexist: bool = False
    """Grants of one user for different profiles live side by side. Wise does not say; false: a new grant ends the
    user's earlier one, whatever its profile."""
    new_grant_keeps_access_token: bool = False
    """A new grant answers with the user's living access token, if there is one, and what is left of its time, as an
    example of ``expires_in`` below 43,199 on an older page implies; false: with a new one, and both live."""
    access_token_lifetime_s: float = TWELVE_HOURS_S
    """Of users' access tokens and of application tokens."""
    refresh_token_lifetime_s: float = TWENTY_YEARS_S
    created_at_digits: int = 5
    """Digits of the fraction of ``created_at``: 0, 3, 5, 6 or 9. Wise's pages show 5, 6 and 9."""
    quarters: tuple[str, ...] = ("2026Q3", "2026Q4", "2027Q1")
    """Versions that exist in the path (docs.wise.com/guides/developer/global-versioning); others are 404."""
    unknown_refresh_status: int = 400
    """For a refresh token that is unknown, revoked or replaced: 400, 401 or 403, always ``invalid_grant``."""
    expired_refresh: ExpiredRefresh = ExpiredRefresh.INVALID_GRANT
    registration_refused_status: int = 401
    """For a registration code that is wrong or whose user reclaimed the account: Wise's pages say 401 and 400."""
    email_changed_status: int = 400
    """After the user changed their address: Wise's pages say 400 and 403."""
    deactivated_error: DeactivatedError = DeactivatedError.INVALID_GRANT
    bad_code_status: int = 400
    """For an authorization code that is unknown, used, too old or asked for with another ``redirect_uri``."""
    echo_refresh_token: bool = False
    """Append the refresh token to the ``error_description``, as old releases of Spring's endpoint do."""
    unsupported_grant_status: int = 400
    missing_parameter_status: int = 400
    foreign_body_status: int = 400
    """For a JSON or multipart body: 400 as if ``grant_type`` were missing, or 415."""
    no_client_status: int = 401
    wrong_client_status: int = 401
    wrong_client_error: WrongClientError = WrongClientError.INVALID_CLIENT
    refused_grant_status: int = 401
    refused_grant_error: RefusedGrantError = RefusedGrantError.INVALID_CLIENT
    mtls_only: bool = False
    """The plain listener refuses the API, as after the enforcement that Wise announces; the authorization page stays
    (docs.wise.com/guides/developer/auth-and-security/mtls)."""
    mtls_highest: HighestTls = HighestTls.TLS_1_3
    refused_certificate: RefusedCertificate = RefusedCertificate.ALERT

    def __post_init__(self) -> None:
        _require(self.client_id != "" and ":" not in self.client_id, "client_id", "not empty, without ':'")
        _require(self.client_secret != "", "client_secret", "not empty")
        _require(self.client_key != "" and "/" not in self.client_key, "client_key", "not empty, without '/'")
        _require(self.access_token_lifetime_s > 0, "access_token_lifetime_s", "more than 0")
        _require(self.authorization_code_lifetime_s > 0, "authorization_code_lifetime_s", "more than 0")
        _require(self.claim_account_code_lifetime_s > 0, "claim_account_code_lifetime_s", "more than 0")
        _require(
            0 < self.refresh_token_lifetime_s <= _INT32_MAX,
            "refresh_token_lifetime_s",
            "more than 0 and within 32 bits, as Wise's refresh_token_expires_in is",
        )
        _require(self.created_at_digits in _FRACTION_DIGITS, "created_at_digits", "one of 0, 3, 5, 6, 9")
        for quarter in self.quarters:
            _require(_QUARTER.fullmatch(quarter) is not None, "quarters", "like 2026Q4")
        for uri in self.redirect_uris:
            _require(_URI.fullmatch(uri) is not None, "redirect_uris", "absolute, http or https, without a fragment")
        for name in STATUSES:
            _require(getattr(self, name) in _CLIENT_ERRORS, name, "a status from 400 to 499")

    def changed(self, changes: Mapping[str, Json]) -> WiseSettings:
        """A copy with some fields replaced by values as JSON has them.

        Raises ``BadValueError`` naming the field that is unknown, of a wrong type or out of range. The
        client's id is fixed, and its secret is rotated by its own call.
        """
        values: dict[str, object] = {}
        for name, value in changes.items():
            if name not in CHANGEABLE:
                raise BadValueError(f"{name}: no such setting, or not one that can be changed")
            values[name] = _read(name, value)
        return replace(self, **values)  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Json]:
        """All settings but the client's secret."""
        values = asdict(self)
        del values["client_secret"]
        for name in _LISTS:
            values[name] = list(values[name])
        return values


STATUSES = (
    "registration_refused_status",
    "email_changed_status",
    "bad_code_status",
    "unknown_refresh_status",
    "unsupported_grant_status",
    "missing_parameter_status",
    "foreign_body_status",
    "no_client_status",
    "wrong_client_status",
    "refused_grant_status",
)
_CHOICES: dict[str, type[StrEnum]] = {
    "refresh_token_policy": RefreshTokenPolicy,
    "token_format": TokenFormat,
    "application_token_format": ApplicationTokenFormat,
    "expired_refresh": ExpiredRefresh,
    "wrong_client_error": WrongClientError,
    "refused_grant_error": RefusedGrantError,
    "deactivated_error": DeactivatedError,
    "application_as_user": ApplicationAsUser,
    "mtls_highest": HighestTls,
    "refused_certificate": RefusedCertificate,
}
_FLAGS = (
    "mtls_only",
    "echo_refresh_token",
    "application_tokens_coexist",
    "client_credentials_allowed",
    "authorization_code_allowed",
    "registration_code_allowed",
    "profiles_coexist",
    "tokens_survive_deactivation",
    "new_grant_keeps_access_token",
)
_SECONDS = (
    "access_token_lifetime_s",
    "refresh_token_lifetime_s",
    "authorization_code_lifetime_s",
    "claim_account_code_lifetime_s",
)
_LISTS = ("quarters", "redirect_uris")
CHANGEABLE = tuple(f.name for f in fields(WiseSettings) if f.name not in ("client_id", "client_secret"))
"""The settings that the control port can change while the emulator runs."""


def _require(holds: bool, name: str, what: str) -> None:  # noqa: FBT001  (a condition, not a mode)
    if not holds:
        raise BadValueError(f"{name}: must be {what}")


def _read(name: str, value: Json) -> object:
    if name in _CHOICES:
        choices = _CHOICES[name]
        _require(value in list(choices), name, "one of " + ", ".join(choices))
        return choices(str(value))
    if name in _SECONDS:
        return number(name, value)
    if name in _FLAGS:
        _require(isinstance(value, bool), name, "true or false")
        return value
    if name == "client_key":
        _require(isinstance(value, str), name, "a string")
        return value
    if name in _LISTS:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadValueError(f"{name}: must be a list of strings")
        return tuple(value)
    return whole_number(name, value)


def number(name: str, value: Json) -> float:
    """``value`` as a number, else ``BadValueError`` naming ``name``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValueError(f"{name}: must be a number")
    return float(value)


def whole_number(name: str, value: Json) -> int:
    """``value`` as a whole number, else ``BadValueError`` naming ``name``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValueError(f"{name}: must be a whole number")
    return value
