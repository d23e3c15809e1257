"""The way to the admin pages: nothing of them is imported or built before somebody asks for one.

The library, its templates and its fields take memory that a process without an administrator never needs.
"""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.datastructures import URLPath
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.logging import get_logger

log = get_logger("admin")

PREFIX = "/admin"


class AdminDoor(BaseRoute):
    """Everything at and below `/admin`, whatever the method: the pages answer for themselves."""

    name = "admin_pages"
    path = PREFIX + "/{path}"
    """How the metrics name it: one name for all pages."""

    def __init__(self) -> None:
        self._pages: ASGIApp | None = None
        self._building = asyncio.Lock()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_ours = scope["type"] == "http" and (scope["path"] == PREFIX or scope["path"].startswith(PREFIX + "/"))
        return (Match.FULL, {"route": self}) if is_ours else (Match.NONE, {})

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._pages is None:
            async with self._building:
                if self._pages is None:
                    # The imports take half a second of a core, which the other requests should not wait for.
                    self._pages = await asyncio.to_thread(_build, scope["app"])
        # An application of its own: what it notes in its scope, the name of its router above all, stays there.
        inner = {key: value for key, value in scope.items() if key not in ("router", "route", "endpoint")}
        inner["state"] = dict(scope.get("state", {}))
        await self._pages(inner, receive, send)


def _build(app: Starlette) -> ASGIApp:
    from chat_api.admin.site import build_site  # noqa: PLC0415 - the whole point: not before it is needed

    site = build_site(app.state)
    log.info("admin.built")
    return site
