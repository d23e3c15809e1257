"""How values look in the lists and on the pages of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette_admin.fields import BaseField, EnumField


@dataclass
class TextField(BaseField):
    """One line in a list, all of it on a page of its own."""

    list_template: str = "fields/short.html"
    detail_template: str = "fields/text.html"


@dataclass
class MomentField(BaseField):
    """A moment, in UTC, to the second. PostgreSQL wrote some of them as text."""

    async def serialize_value(self, request: Request, value: datetime | str) -> str:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


@dataclass
class CountField(BaseField):
    """A number with its thousands set apart."""

    async def serialize_value(self, request: Request, value: float) -> str:
        return f"{value:,}"


@dataclass
class YesNoField(BaseField):
    async def serialize_value(self, request: Request, value: bool) -> str:
        return "yes" if value else "no"


@dataclass
class JsonField(BaseField):
    """A document as it is stored, laid out for reading."""

    detail_template: str = "fields/long.html"

    async def serialize_value(self, request: Request, value: Any) -> str | None:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode() if value else None


@dataclass
class WordField(EnumField):
    """One word of a finite set."""

    list_template: str = "fields/word.html"
    detail_template: str = "fields/word.html"

    async def serialize_value(self, request: Request, value: Any) -> str:
        return str(value)


@dataclass
class LinkField(BaseField):
    """Leads to the page of another thing. `name` is its id's column, `shown` the column to show in its place."""

    view: str = ""
    shown: str | None = None
    list_template: str = "fields/link.html"
    detail_template: str = "fields/link.html"

    async def parse_obj(self, request: Request, obj: Any) -> dict[str, str] | None:
        target = getattr(obj, self.name, None)
        if target is None:
            return None
        text = getattr(obj, self.shown, None) if self.shown is not None else target
        return {
            "text": str(text if text is not None else target),
            "href": _address(request, "detail", self.view, pk=target),
        }


@dataclass
class ListLinkField(BaseField):
    """Leads to a list of what belongs to this. The column holds what to search it for."""

    view: str = ""
    text: str = ""
    detail_template: str = "fields/link.html"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.exclude_from_list = True

    async def parse_obj(self, request: Request, obj: Any) -> dict[str, str]:
        return {"text": self.text, "href": _address(request, "list", self.view, q=obj.id)}


def _address(request: Request, page: str, view: str, **query: object) -> str:
    address = request.url_for(f"{request.app.state.ROUTE_NAME}:{page}", key=view)
    return str(address.include_query_params(**{name: str(value) for name, value in query.items()}))
