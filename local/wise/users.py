"""Wise's users as the emulator knows them: their profiles, their tokens, and what they consented to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from local.wise.settings import BadValueError
from local.wise.truth import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.wise.settings import Json, RefreshTokenPolicy
    from local.wise.truth import AuthorizationTruth, TokenTruth

_FIRST_USER_ID = 1_000_001
_FIRST_PROFILE_ID = 20_000_001
_MOST_PROFILES = 10


class ProfileType(StrEnum):
    """What a profile stands for (docs.wise.com/api-reference/profile)."""

    PERSONAL = "PERSONAL"
    BUSINESS = "BUSINESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One of a user's accounts at Wise; a partner is let into one of them."""

    id: int
    type: ProfileType
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WiseUser:
    """A user, without tokens and codes."""

    user: str
    wise_user_id: int
    email: str
    profiles: tuple[Profile, ...]
    by_partner: bool
    """Made with a registration code; false: came to Wise by themselves."""
    reclaimed: bool
    """Uses Wise's own site or apps since, so that the registration code is worth nothing."""
    active: bool
    closed_profiles: tuple[int, ...] = ()
    """Ids of the profiles that are deactivated."""

    def as_json(self) -> dict[str, Json]:
        """All fields."""
        return {
            **asdict(self),
            "profiles": [asdict(profile) for profile in self.profiles],
            "closed_profiles": list(self.closed_profiles),
        }


@dataclass(slots=True)
class User:
    """A user and everything of theirs."""

    name: str
    wise_user_id: int
    email: str
    profiles: tuple[Profile, ...]
    refresh_token_policy: RefreshTokenPolicy | None = None
    """What a refresh does with this user's refresh token; none: what the setting says."""
    registration_code: str | None = field(default=None, repr=False)
    signup_email: str | None = None
    """The address that the registration code goes with, whatever the user's own became since."""
    reclaimed: bool = False
    active: bool = True
    closed_profiles: set[int] = field(default_factory=set)
    access_tokens: list[TokenTruth] = field(default_factory=list)
    refresh_tokens: list[TokenTruth] = field(default_factory=list)
    personal_tokens: list[TokenTruth] = field(default_factory=list)

    def tokens(self, kind: Kind) -> list[TokenTruth]:
        """The tokens of a kind, in the order of their making."""
        if kind is Kind.PERSONAL:
            return self.personal_tokens
        return self.access_tokens if kind is Kind.ACCESS else self.refresh_tokens

    def profile(self, profile_id: int | None) -> Profile | None:
        """The user's profile of this id, if it is theirs."""
        return next((profile for profile in self.profiles if profile.id == profile_id), None)

    def lets_in(self, token: TokenTruth) -> bool:
        """Whether the account, and the profile that a token is good for, are open."""
        return self.active and token.profile_id not in self.closed_profiles

    def told(self) -> WiseUser:
        """What the control port tells of them."""
        return WiseUser(
            user=self.name,
            wise_user_id=self.wise_user_id,
            email=self.email,
            profiles=self.profiles,
            by_partner=self.registration_code is not None,
            reclaimed=self.reclaimed,
            active=self.active,
            closed_profiles=tuple(sorted(self.closed_profiles)),
        )


@dataclass(frozen=True, slots=True)
class ClaimCode:
    """With it a user takes over the account that the partner made for them."""

    user: str
    expires_ns: int
    """On Wise's clock."""


@dataclass(slots=True)
class Code:
    """An authorization code and what a user consented to."""

    user: str
    profile_id: int | None
    redirect_uri: str
    expires_ns: int
    """On Wise's clock."""
    consent: AuthorizationTruth
    spent: bool = False


def new_user(number: int, name: str, email: str | None, types: Sequence[ProfileType]) -> User:
    """The ``number``-th user, counted from 0, with ids that nobody else has."""
    wise_user_id = _FIRST_USER_ID + number
    user = User(name, wise_user_id, email or f"user-{wise_user_id}@example.com", ())
    user.profiles = profiles_of(user, types)
    return user


def profiles_of(user: User, types: Sequence[ProfileType]) -> tuple[Profile, ...]:
    """A profile of each of these types; whoever had the first ones keeps their ids."""
    if len(types) > _MOST_PROFILES:
        raise BadValueError(f"profiles: must be at most {_MOST_PROFILES}")
    first = _FIRST_PROFILE_ID + (user.wise_user_id - _FIRST_USER_ID) * _MOST_PROFILES
    return tuple(
        Profile(id=first + place, type=profile_type, name=f"{user.name}, {profile_type.lower()}")
        for place, profile_type in enumerate(types)
    )
