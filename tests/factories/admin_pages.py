"""A browser's side of the admin pages over HTTP: its cookies, its token, what it clicks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from fastapi import FastAPI

ADDRESS = "http://colloquy.test"
PASSWORD = "the tide comes in at nine"
HASH = f"v1:{PASSWORD}"
"""Of the password, as `RecordingHasher` stores it."""

_TOKEN = re.compile(r'name="csrftoken" value="([^"]+)"')
_ROW = re.compile(r'<tr data-sa-pk="([^"]+)"')
_NEXT = re.compile(r'rel="next"\s+href="([^"]+)"')
TOKEN_COOKIE = "starlette_admin_csrftoken"


@dataclass
class AdminBrowser:
    client: httpx.AsyncClient

    async def open(self, path: str, **query: Any) -> httpx.Response:
        return await self.client.get(f"/admin{path}", params=query)

    async def sign_in(self, name: str, password: str = PASSWORD, **query: str) -> httpx.Response:
        page = await self.open("/login", **query)
        [token] = _TOKEN.findall(page.text)
        form = {"username": name, "password": password, "csrftoken": unescape(token)}
        return await self.client.post("/admin/login", params=query, data=form)

    async def is_signed_in(self) -> bool:
        return (await self.open("/")).status_code == 200

    async def keys(self, view: str, **query: Any) -> list[str]:
        """Of the rows on a page of a list."""
        answer = await self.open(f"/{view}/list", **query)
        assert answer.status_code == 200, answer.text
        return _ROW.findall(answer.text)

    async def all_pages(self, view: str, **query: Any) -> list[list[str]]:
        """The keys of every page, following the links to the next."""
        pages: list[list[str]] = []
        while True:
            answer = await self.open(f"/{view}/list", **query)
            assert answer.status_code == 200, answer.text
            pages.append(_ROW.findall(answer.text))
            following = _NEXT.search(answer.text)
            if following is None:
                return pages
            query = {name: values[0] for name, values in parse_qs(urlsplit(unescape(following[1])).query).items()}

    async def act(self, view: str, name: str, *keys: str, **headers: str) -> httpx.Response:
        """What the list does with the rows that are ticked."""
        return await self.client.post(
            f"/admin/_api/{view}/action", params={"name": name, "pks": list(keys)}, headers=self.token | headers
        )

    async def act_on(self, view: str, name: str, key: str, **form: str) -> httpx.Response:
        """A button on the page of one thing."""
        return await self.client.post(
            f"/admin/_api/{view}/row-action", params={"name": name, "pk": key}, headers=self.token, data=form
        )

    @property
    def token(self) -> dict[str, str]:
        return {"X-CSRFToken": self.client.cookies.get(TOKEN_COOKIE) or ""}


@asynccontextmanager
async def admin_browser(app: FastAPI) -> AsyncIterator[AdminBrowser]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, timeout=30) as client:
        yield AdminBrowser(client)


def text_of(page: httpx.Response) -> str:
    """What a person reads on it."""
    without = re.sub(r"<(script|style)[\s>].*?</\1>", " ", page.text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", without)).split())
