"""Serves the page at `/playground`, and the modules that it is made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi import Path as PathParameter

from chat_api.auth.permissions import Public
from chat_api.config import ApiSettings
from shared.problems import Problem
from shared.settings import Environment

router = APIRouter(prefix="/playground", dependencies=[Public], include_in_schema=False)
"""Pages for people, and no part of the API: they are not in its document."""

_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_PAGE = "page.html"
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob: data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    # The browser itself refuses to make markup of a text.
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class NoSuchFile(Problem):
    status = 404
    code = "not-found"
    title = "Not Found"
    detail = "The page has no such file."


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    etag: str


def _read_files() -> dict[str, _File]:
    """All that may be served, by name. What is not in here is not there: no path is ever made of a request."""
    files = {}
    for path in Path(__file__).parent.iterdir():
        content_type = _CONTENT_TYPES.get(path.suffix)
        if content_type is not None:
            body = path.read_bytes()
            files[path.name] = _File(body, content_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return files


_FILES = _read_files()


def is_served(settings: ApiSettings) -> bool:
    """Everywhere but in production, where a page that registers people has no place."""
    return settings.environment is not Environment.PRODUCTION


@router.get("")
async def show_playground(if_none_match: Annotated[str, Header()] = "") -> Response:
    """The page."""
    return _serve(_PAGE, if_none_match)


@router.get("/{name}")
async def get_playground_file(
    name: Annotated[str, PathParameter()], if_none_match: Annotated[str, Header()] = ""
) -> Response:
    """A module or the style sheet of the page."""
    return _serve(name, if_none_match)


def _serve(name: str, if_none_match: str) -> Response:
    file = _FILES.get(name)
    if file is None:
        raise NoSuchFile
    headers = _HEADERS | {"ETag": file.etag}
    if file.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers, media_type=file.content_type)
