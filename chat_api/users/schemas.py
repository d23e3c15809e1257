"""What the routes of accounts take and give."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, EmailStr, Field, StringConstraints, model_validator
from pydantic.config import JsonDict

from chat_api.users.models import UserType
from shared.schema import ReadSchema, Timestamp, WriteSchema, check_storable

_NOBODYS_NAMES = frozenset(("assistant", "system", "tool"))
"""Roles of a conversation: whoever was called so could be taken for one, by people and by models."""


def _not_a_role(name: str) -> str:
    if name.lower() in _NOBODYS_NAMES:
        raise ValueError("This name is taken by a role in conversations")
    return name


Username = Annotated[
    str,
    StringConstraints(min_length=3, max_length=32, pattern=r"^[A-Za-z0-9_.-]{3,32}$"),
    AfterValidator(_not_a_role),
]
Password = Annotated[str, StringConstraints(min_length=8, max_length=256)]

_SHOWN_AS_DOTS: JsonDict = {"format": "password"}
_USER: JsonDict = {
    "id": "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
    "email": "ada@example.org",
    "username": "ada",
    "user_type": "owner",
    "plan": "free",
    "is_admin": False,
    "created_at": "2026-01-31T09:30:00.000000Z",
    "updated_at": "2026-01-31T09:30:00.000000Z",
}
_REFRESH_TOKEN = "cqr_5d1f0a7c3b9e4f2a8c6d1e0f9b7a5c3d_Zk3b0uYq4w7v1s9t2xRm5n8p6cLdJhGfEaQoWiTyUbV"  # noqa: S105 - an example


class Registration(WriteSchema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"email": "ada@example.org", "username": "ada", "password": "correct horse battery staple"}
        },
    )

    email: EmailStr
    username: Username
    password: Password = Field(description="8 to 256 characters, of any kind.", json_schema_extra=_SHOWN_AS_DOTS)
    user_type: UserType = UserType.OWNER


class TokenForm(BaseModel):
    """The form of OAuth2's password grant (RFC 6749, section 4.3). Fields beyond these are ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"grant_type": "password", "username": "ada", "password": "correct horse battery staple"}
        }
    )

    grant_type: Literal["password"] = "password"
    username: str = Field(min_length=1, max_length=320, description="Username or email address, in any case.")
    password: str = Field(min_length=1, max_length=256, json_schema_extra=_SHOWN_AS_DOTS)
    scope: str = Field(default="", description="Accepted from OAuth2 clients, and not used.")
    client_id: str | None = Field(default=None, description="Accepted from OAuth2 clients, and not used.")
    client_secret: str | None = Field(default=None, description="Accepted from OAuth2 clients, and not used.")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        check_storable(data)
        return data


class RefreshTokenBody(WriteSchema):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"refresh_token": _REFRESH_TOKEN}})

    refresh_token: str = Field(min_length=1, max_length=200)


class Tokens(ReadSchema):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.4jX…",
                "refresh_token": _REFRESH_TOKEN,
                "token_type": "bearer",
                "expires_in": 900,
            }
        }
    )

    access_token: str
    refresh_token: str = Field(description="Good once: `POST /auth/refresh` gives the next.")
    token_type: Literal["bearer"]
    expires_in: int = Field(description="Seconds until the access token expires.")


class UserRead(ReadSchema):
    """A person, as they see themselves."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _USER})

    id: UUID
    email: str
    username: str
    user_type: UserType
    plan: str
    is_admin: bool
    created_at: Timestamp
    updated_at: Timestamp


class UserPatch(WriteSchema):
    """Only the fields that are sent are changed; `model_fields_set` tells them, so the defaults mean nothing."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"username": "ada.lovelace"}})

    email: EmailStr = Field(default_factory=str, description="Needs `current_password`.")
    username: Username = Field(default_factory=str)
    password: Password = Field(
        default_factory=str,
        description="8 to 256 characters. Needs `current_password`, and ends every other sign-in.",
        json_schema_extra=_SHOWN_AS_DOTS,
    )
    current_password: str = Field(default_factory=str, min_length=1, max_length=256, json_schema_extra=_SHOWN_AS_DOTS)

    @property
    def needs_password(self) -> bool:
        return not self.model_fields_set.isdisjoint({"email", "password"})

    @model_validator(mode="after")
    def _has_current_password(self) -> Self:
        if self.needs_password and "current_password" not in self.model_fields_set:
            raise ValueError("Changing the email address or the password needs `current_password`")
        return self


class UserAdminPatch(WriteSchema):
    """What an administrator may change of somebody's account. Only what is sent is changed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"plan": "pro"}})

    plan: str = Field(default_factory=str, min_length=1, max_length=64, description="Name of one of `GET /plans`.")


class UserSummary(ReadSchema):
    """A person, as others see them."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"example": {key: _USER[key] for key in ("id", "username", "user_type")}},
    )

    id: UUID
    username: str
    user_type: UserType
