"""The control port: plain HTTP and JSON on loopback, apart from what Wise's clients see.

=======  =================================  ================================================================
GET      /health                            ``{"status": "ok"}``
GET      /settings                          all but the client's secret
PATCH    /settings                          some of them
GET      /clock                             ``now_ms``, ``offset_s``
PATCH    /clock                             ``offset_s`` or ``advance_s``
POST     /client-secret                     ``secret``?, ``overlap_s``?, ``revoke_tokens``?
POST     /users                             ``user``, …: seeds a grant, answers with its tokens
GET      /users                             everybody, without tokens and codes
PUT      /users/{user}                      ``email``?, ``profiles``?, ``registration_code``?: makes or changes one
POST     /users/{user}/revocation           ``cause``?: ends a grant
POST     /users/{user}/reclaim              the user begins to use Wise directly
POST     /users/{user}/email                ``email``: the user changes the address, which ends the grant
POST     /users/{user}/deactivation         closes the account
DELETE   /users/{user}/deactivation         opens it again
POST     …/profiles/{id}/deactivation       closes one profile of the user
DELETE   …/profiles/{id}/deactivation       opens it again
POST     /users/{user}/refresh              ``profile_id``?: somebody else refreshes the grant and gets the tokens
POST     /users/{user}/personal-tokens      ``token``?, ``age_s``?: the user makes a personal token
DELETE   /users/{user}/personal-tokens      ``ordinal``?: the user revokes all of them, or one
POST     /users/{user}/authorization        ``redirect_uri``, ``state``?, ``profile_id``?, ``refuse``?: as at the page
GET      /subscriptions                     the application's webhook subscriptions
POST     /subscriptions                     ``url``, ``version``?: subscribes to all, without an application token
GET      /webhooks                          ``public_key`` (PEM), ``at_once``
PATCH    /webhooks                          ``at_once``: whether deliveries are sent as they come, or only when told to
GET      /webhooks/deliveries               body, headers and what each time was answered
POST     /webhooks/deliveries               ``ids``?, ``times``?: sends these in this order, or all that were not taken
POST     /certificates                      ``common_name``?, ``days``?, ``starts_in_days``?, ``key_type``?: issues one
GET      /certificates                      all of them, whether refused, and the requests that came with each
POST     /certificates/{serial}/refusal     refuses it from now on
DELETE   /certificates/{serial}/refusal     takes it again
GET      /faults                            what is still to be applied
POST     /faults                            a ``Fault``
DELETE   /faults, /faults/{id}              clears all, or one
GET      /chaos                             ``ChaosSettings``
PATCH    /chaos                             some of them
GET      /withheld                          how many answers are held back, by user
POST     /withheld/release                  ``user``?, ``deliver``?
GET      /truth?values=                     everything
GET      /truth/tokens?user=&values=        every token, ``values=true`` with the token itself
GET      /truth/requests?since=&user=       requests to the token endpoint
GET      /truth/uses?since=&user=           uses of access tokens
GET      /truth/overlaps                    refreshes of one user that were in flight at once
GET      /truth/authorizations?since=&user= visits to the authorization page that ended
GET      /truth/signups?since=&user=        requests to make a user
=======  =================================  ================================================================

Lists under ``/truth`` come with ``seq``: give it as ``since`` the next time. Errors are ``{"error": "…"}``
with 400, 404 or 405, and name the field that is wrong.
"""

from __future__ import annotations

import json
import re
import urllib.parse
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, cast

from local.wise.clients import KeyType
from local.wise.faults import Fault, Faults, Withheld
from local.wise.pages import AuthorizationRequest
from local.wise.server import LoopbackServer
from local.wise.settings import BadValueError, Json, RefreshTokenPolicy, number, whole_number
from local.wise.truth import (
    AuthorizationTruth,
    Death,
    OverlapTruth,
    RequestTruth,
    SignupTruth,
    TokenTruth,
    UseTruth,
    find_overlaps,
)
from local.wise.users import ProfileType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local.wise.certificates import ClientAuthority
    from local.wise.chaos import Chaos
    from local.wise.state import WiseState
    from local.wise.webhooks import Webhooks

_LONGEST_USER = 128
_LARGEST_BODY = 4 * 1024 * 1024
_SEED_NUMBERS = ("access_token_lifetime_s", "refresh_token_lifetime_s", "age_s")
_CERTIFICATE_DAYS = ("days", "starts_in_days")
_SEED_TEXTS = ("access_token", "refresh_token")
_CAUSES = (Death.REVOCATION, Death.ENHANCED_SECURITY, Death.SUSPECTED_BREACH, Death.OWNERSHIP_TRANSFER)


class Control:
    """The calls of the control port, without HTTP. They raise ``BadValueError`` and ``LookupError``."""

    def __init__(  # noqa: PLR0917 - the parts of the emulator, each of its own type
        self,
        state: WiseState,
        faults: Faults,
        chaos: Chaos,
        withheld: Withheld,
        authority: ClientAuthority,
        webhooks: Webhooks,
    ) -> None:
        self._hooks = webhooks
        self._authority = authority
        self._state = state
        self._faults = faults
        self._chaos = chaos
        self._withheld = withheld
        self._routes: tuple[tuple[str, re.Pattern[str], Callable[..., Json]], ...] = (
            ("GET", re.compile("/health"), self._health),
            ("GET", re.compile("/settings"), self._settings),
            ("PATCH", re.compile("/settings"), self._change_settings),
            ("GET", re.compile("/clock"), self._clock),
            ("PATCH", re.compile("/clock"), self._change_clock),
            ("POST", re.compile("/client-secret"), self._rotate_client_secret),
            ("POST", re.compile("/users"), self._seed),
            ("GET", re.compile("/users"), self._users),
            ("PUT", re.compile("/users/([^/]+)"), self._put_user),
            ("POST", re.compile("/users/([^/]+)/revocation"), self._revoke),
            ("POST", re.compile("/users/([^/]+)/reclaim"), self._reclaim),
            ("POST", re.compile("/users/([^/]+)/email"), self._change_email),
            ("POST", re.compile("/users/([^/]+)/deactivation"), self._deactivate),
            ("DELETE", re.compile("/users/([^/]+)/deactivation"), self._activate),
            ("POST", re.compile("/users/([^/]+)/profiles/([0-9]+)/deactivation"), self._deactivate_profile),
            ("DELETE", re.compile("/users/([^/]+)/profiles/([0-9]+)/deactivation"), self._activate_profile),
            ("POST", re.compile("/users/([^/]+)/refresh"), self._refresh_elsewhere),
            ("POST", re.compile("/users/([^/]+)/personal-tokens"), self._seed_personal_token),
            ("DELETE", re.compile("/users/([^/]+)/personal-tokens"), self._revoke_personal_tokens),
            ("POST", re.compile("/users/([^/]+)/authorization"), self._authorize),
            ("GET", re.compile("/subscriptions"), self._subscriptions),
            ("POST", re.compile("/subscriptions"), self._subscribe),
            ("GET", re.compile("/webhooks"), self._webhooks),
            ("PATCH", re.compile("/webhooks"), self._change_webhooks),
            ("GET", re.compile("/webhooks/deliveries"), self._deliveries),
            ("POST", re.compile("/webhooks/deliveries"), self._deliver),
            ("POST", re.compile("/certificates"), self._issue_certificate),
            ("GET", re.compile("/certificates"), self._certificates),
            ("POST", re.compile("/certificates/([^/]+)/refusal"), self._refuse_certificate),
            ("DELETE", re.compile("/certificates/([^/]+)/refusal"), self._accept_certificate),
            ("GET", re.compile("/faults"), self._waiting_faults),
            ("POST", re.compile("/faults"), self._add_fault),
            ("DELETE", re.compile("/faults"), self._clear_faults),
            ("DELETE", re.compile("/faults/([^/]+)"), self._clear_faults),
            ("GET", re.compile("/chaos"), self._chaos_settings),
            ("PATCH", re.compile("/chaos"), self._change_chaos),
            ("GET", re.compile("/withheld"), self._counts_withheld),
            ("POST", re.compile("/withheld/release"), self._release),
            ("GET", re.compile("/truth"), self._truth),
            ("GET", re.compile("/truth/tokens"), self._tokens),
            ("GET", re.compile("/truth/requests"), self._requests),
            ("GET", re.compile("/truth/uses"), self._uses),
            ("GET", re.compile("/truth/overlaps"), self._overlaps),
            ("GET", re.compile("/truth/authorizations"), self._authorizations),
            ("GET", re.compile("/truth/signups"), self._signups),
        )

    def call(self, method: str, path: str, arguments: Mapping[str, Json]) -> Json:
        """Do what ``method`` and ``path`` say. ``NotImplementedError`` for a method that the path has not."""
        there = [(name, match, call) for name, way, call in self._routes if (match := way.fullmatch(path))]
        if not there:
            raise LookupError("no such path")
        for name, match, call in there:
            if name == method:
                return call(arguments, *(urllib.parse.unquote(part) for part in match.groups()))
        raise NotImplementedError("allowed: " + ", ".join(name for name, _, _ in there))

    def _health(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        return {"status": "ok"}

    def _settings(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        return self._state.settings.as_json()

    def _change_settings(self, arguments: Mapping[str, Json]) -> Json:
        return self._state.change_settings(arguments).as_json()

    def _clock(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        now_ms, offset_s = self._state.clock()
        return {"now_ms": now_ms, "offset_s": offset_s}

    def _change_clock(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "offset_s", "advance_s")
        if len(arguments) != 1:
            raise BadValueError("offset_s, advance_s: one of them must be given")
        if "offset_s" in arguments:
            self._state.set_clock_offset(number("offset_s", arguments["offset_s"]))
        else:
            self._state.advance_clock(number("advance_s", arguments["advance_s"]))
        return self._clock({})

    def _rotate_client_secret(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "secret", "overlap_s", "revoke_tokens")
        return {
            "client_secret": self._state.rotate_client_secret(
                _text(arguments, "secret"),
                overlap_s=number("overlap_s", arguments.get("overlap_s", 0)),
                revoke_tokens=_flag(arguments, "revoke_tokens", default=False),
            )
        }

    def _seed(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "user", "refresh_token_policy", "profile_id", *_SEED_TEXTS, *_SEED_NUMBERS)
        user = _name(_text(arguments, "user"))
        texts = {name: _text(arguments, name) for name in _SEED_TEXTS}
        numbers = {name: number(name, arguments[name]) for name in _SEED_NUMBERS if arguments.get(name) is not None}
        policy = _policy(arguments.get("refresh_token_policy"))
        chosen = {"refresh_token_policy": policy, "profile_id": _profile_id(arguments)}
        grant = self._state.seed(user, **chosen, **texts, **numbers)  # type: ignore[arg-type]
        return asdict(grant)

    def _users(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        return {"users": [user.as_json() for user in self._state.users()]}

    def _put_user(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments, "email", "profiles", "registration_code")
        put = self._state.put_user(
            _name(user),
            email=_text(arguments, "email"),
            profiles=_profiles(arguments.get("profiles")),
            registration_code=_text(arguments, "registration_code"),
        )
        return put.as_json()

    def _revoke(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments, "cause")
        cause = arguments.get("cause", Death.REVOCATION)
        if cause not in list(_CAUSES):
            raise BadValueError(f"cause: must be one of {', '.join(_CAUSES)}")
        return {"killed": self._state.revoke(user, Death(str(cause)))}

    def _reclaim(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments)
        self._state.reclaim(user)
        return {}

    def _change_email(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments, "email")
        email = _text(arguments, "email")
        if not email:
            raise BadValueError("email: must be given")
        return {"killed": self._state.change_email(user, email)}

    def _deactivate(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments)
        return {"killed": self._state.deactivate(user)}

    def _activate(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments)
        self._state.activate(user)
        return {}

    def _deactivate_profile(self, arguments: Mapping[str, Json], user: str, profile_id: str) -> Json:
        _only(arguments)
        return {"killed": self._state.deactivate_profile(user, int(profile_id))}

    def _activate_profile(self, arguments: Mapping[str, Json], user: str, profile_id: str) -> Json:
        _only(arguments)
        self._state.activate_profile(user, int(profile_id))
        return {}

    def _subscriptions(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        return {"subscriptions": [asdict(subscription) for subscription in self._state.subscriptions()]}

    def _subscribe(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "url", "version")
        url, version = _text(arguments, "url") or "", _text(arguments, "version") or "4.0.0"
        return {"subscriptions": [asdict(made) for made in self._state.subscribe_to_all(url, version)]}

    def _webhooks(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        return {"public_key": self._hooks.public_key, "at_once": self._hooks.at_once}

    def _change_webhooks(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "at_once")
        self._hooks.at_once = _flag(arguments, "at_once", default=self._hooks.at_once)
        return self._webhooks({})

    def _deliveries(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        return {"deliveries": [delivery.as_json() for delivery in self._hooks.deliveries()]}

    def _deliver(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "ids", "times")
        ids, times = arguments.get("ids"), whole_number("times", arguments.get("times", 1))
        if ids is not None and not (isinstance(ids, list) and all(isinstance(one, str) for one in ids)):
            raise BadValueError("ids: must be a list of strings")
        chosen = None if ids is None else [str(one) for one in ids]
        return {"deliveries": [delivery.as_json() for delivery in self._hooks.deliver(chosen, times=times)]}

    def _refresh_elsewhere(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments, "profile_id")
        return asdict(self._state.refresh_elsewhere(user, profile_id=_profile_id(arguments)))

    def _seed_personal_token(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments, "token", "age_s")
        age_s = number("age_s", arguments.get("age_s", 0))
        return asdict(self._state.seed_personal_token(_name(user), token=_text(arguments, "token"), age_s=age_s))

    def _revoke_personal_tokens(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments, "ordinal")
        ordinal = arguments.get("ordinal")
        which = None if ordinal is None else whole_number("ordinal", ordinal)
        return {"killed": self._state.revoke_personal_tokens(user, which)}

    def _authorize(self, arguments: Mapping[str, Json], user: str) -> Json:
        _only(arguments, "redirect_uri", "state", "profile_id", "refuse")
        request = AuthorizationRequest(
            self._state.settings.client_id, _text(arguments, "redirect_uri") or "", _text(arguments, "state")
        )
        if self._state.turned_away(request) is not None:
            raise BadValueError("redirect_uri: must be one of the setting redirect_uris")
        refuse = _flag(arguments, "refuse", default=False)
        return {"location": self._state.authorize(request, user, profile_id=_profile_id(arguments), refuse=refuse)}

    def _issue_certificate(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "common_name", "key_type", *_CERTIFICATE_DAYS)
        days = {name: number(name, arguments[name]) for name in _CERTIFICATE_DAYS if arguments.get(name) is not None}
        key_type = arguments.get("key_type") or KeyType.EC_256
        if key_type not in list(KeyType):
            raise BadValueError(f"key_type: must be one of {', '.join(KeyType)}")
        name = _text(arguments, "common_name") or self._state.settings.client_id
        issued = self._authority.issue(name, key_type=KeyType(str(key_type)), **days)
        return {
            "serial": issued.serial,
            "common_name": issued.common_name,
            "certificate": issued.certificate,
            "private_key": issued.private_key,
            "not_after_ms": int(issued.not_after.timestamp()) * 1_000,
        }

    def _certificates(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        return {
            "certificates": [
                {
                    "serial": item.serial,
                    "common_name": item.common_name,
                    "not_after_ms": int(item.not_after.timestamp()) * 1_000,
                    "refused": refused,
                    "requests": requests,
                }
                for item, refused, requests in self._authority.listed()
            ]
        }

    def _refuse_certificate(self, arguments: Mapping[str, Json], serial: str) -> Json:
        _only(arguments)
        self._authority.refuse(serial)
        return {}

    def _accept_certificate(self, arguments: Mapping[str, Json], serial: str) -> Json:
        _only(arguments)
        self._authority.accept(serial)
        return {}

    def _waiting_faults(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        return {"faults": [fault.as_json() for fault in self._faults.waiting()]}

    def _add_fault(self, arguments: Mapping[str, Json]) -> Json:
        return {"id": self._faults.add(Fault.from_json(arguments)).id}

    def _clear_faults(self, arguments: Mapping[str, Json], fault_id: str | None = None) -> Json:
        _only(arguments)
        return {"cleared": self._faults.clear(fault_id)}

    def _chaos_settings(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        return self._chaos.settings.as_json()

    def _change_chaos(self, arguments: Mapping[str, Json]) -> Json:
        return self._chaos.change(arguments).as_json()

    def _counts_withheld(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        counts = self._withheld.counts()
        return {"total": sum(counts.values()), "by_user": dict(counts)}

    def _release(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "user", "deliver")
        deliver = _flag(arguments, "deliver", default=True)
        return {"released": self._withheld.release(_text(arguments, "user"), deliver=deliver)}

    def _truth(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "values")
        truth = self._state.truth(values=_flag(arguments, "values", default=False))
        return {
            "seq": truth.seq,
            "at_ms": truth.at_ms,
            "tokens": _plain(truth.tokens),
            "requests": _plain(truth.requests),
            "uses": _plain(truth.uses),
            "overlaps": _plain(truth.overlaps),
            "authorizations": _plain(truth.authorizations),
            "signups": _plain(truth.signups),
        }

    def _tokens(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "user", "values")
        seq = self._state.seq()
        values = _flag(arguments, "values", default=False)
        return {
            "seq": seq,
            "tokens": _plain(self._state.tokens(user=_text(arguments, "user"), values=values)),
        }

    def _requests(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "since", "user")
        seq = self._state.seq()
        found = self._state.requests(since=_since(arguments), user=_text(arguments, "user"))
        return {"seq": seq, "requests": _plain(found)}

    def _uses(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "since", "user")
        seq = self._state.seq()
        found = self._state.uses(since=_since(arguments), user=_text(arguments, "user"))
        return {"seq": seq, "uses": _plain(found)}

    def _overlaps(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments)
        seq = self._state.seq()
        return {"seq": seq, "overlaps": _plain(find_overlaps(self._state.requests()))}

    def _authorizations(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "since", "user")
        seq = self._state.seq()
        found = self._state.authorizations(since=_since(arguments), user=_text(arguments, "user"))
        return {"seq": seq, "authorizations": _plain(found)}

    def _signups(self, arguments: Mapping[str, Json]) -> Json:
        _only(arguments, "since", "user")
        seq = self._state.seq()
        found = self._state.signups(since=_since(arguments), user=_text(arguments, "user"))
        return {"seq": seq, "signups": _plain(found)}


class ControlServer(LoopbackServer):
    """Serves a ``Control``."""

    def __init__(self, port: int, control: Control) -> None:
        super().__init__(port, _ControlHandler)
        self.control = control


class _ControlHandler(BaseHTTPRequestHandler):
    server: ControlServer
    protocol_version = "HTTP/1.1"
    timeout = 30.0
    error_content_type = "text/plain"
    error_message_format = "%(code)d"

    def do_GET(self) -> None:
        status, value = self._call()
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815  (inherited names)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (inherited)
        """Nothing: request lines name users, bodies hold tokens."""

    def _call(self) -> tuple[HTTPStatus, Json]:
        path, _, query = self.path.partition("?")
        try:
            arguments = {**_query_arguments(query), **self._body()}
            return HTTPStatus.OK, self.server.control.call(self.command, path, arguments)
        except BadValueError as error:
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}
        except LookupError as error:
            return HTTPStatus.NOT_FOUND, {"error": str(error)}
        except NotImplementedError as error:
            return HTTPStatus.METHOD_NOT_ALLOWED, {"error": str(error)}

    def _body(self) -> dict[str, Json]:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _LARGEST_BODY:
            self.close_connection = True
            raise BadValueError("body: too large, or of unknown length")
        raw = self.rfile.read(int(length))
        try:
            value = json.loads(raw or b"{}")
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise BadValueError("body: must be a JSON object")
        return value


def _query_arguments(query: str) -> dict[str, Json]:
    values: dict[str, Json] = {}
    for name, text in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name == "since":
            values[name] = int(text) if text.isdecimal() else text
        elif name == "values":
            values[name] = {"true": True, "false": False}.get(text, text)
        else:
            values[name] = text
    return values


def _plain(
    records: Sequence[TokenTruth | RequestTruth | UseTruth | OverlapTruth | AuthorizationTruth | SignupTruth],
) -> list[Json]:
    return [cast("Json", asdict(record)) for record in records]


def _only(arguments: Mapping[str, Json], *known: str) -> None:
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise BadValueError(f"{unknown[0]}: no such field")


def _text(arguments: Mapping[str, Json], name: str) -> str | None:
    value = arguments.get(name)
    if value is not None and not isinstance(value, str):
        raise BadValueError(f"{name}: must be a string")
    return value


def _name(user: str | None) -> str:
    if not user or len(user) > _LONGEST_USER:
        raise BadValueError(f"user: must be 1 to {_LONGEST_USER} characters")
    return user


def _profile_id(arguments: Mapping[str, Json]) -> int | None:
    value = arguments.get("profile_id")
    return None if value is None else whole_number("profile_id", value)


def _profiles(value: Json) -> list[ProfileType] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(item in list(ProfileType) for item in value):
        raise BadValueError(f"profiles: must be a list of {', '.join(ProfileType)}")
    return [ProfileType(str(item)) for item in value]


def _policy(value: Json) -> RefreshTokenPolicy | None:
    if value is None:
        return None
    if value not in list(RefreshTokenPolicy):
        raise BadValueError(f"refresh_token_policy: must be one of {', '.join(RefreshTokenPolicy)}")
    return RefreshTokenPolicy(str(value))


def _flag(arguments: Mapping[str, Json], name: str, *, default: bool) -> bool:
    value = arguments.get(name, default)
    if not isinstance(value, bool):
        raise BadValueError(f"{name}: must be true or false")
    return value


def _since(arguments: Mapping[str, Json]) -> int:
    value = arguments.get("since", 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValueError("since: must be a whole number")
    return value
