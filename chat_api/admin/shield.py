"""What stands before every admin page, whatever the library behind it does.

Who may see it, which scripts a browser may run, from where a form may come. The library checks a token of its own on
every change as well; this does not rely on it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_api.admin.desk import ADMIN
from chat_api.admin.door import PREFIX
from chat_api.admin.sign_in import AdminSignIns
from shared.logging import get_logger

log = get_logger("admin")

COOKIE = "colloquy_admin"
nonce_var: ContextVar[str] = ContextVar("admin_nonce", default="")
"""The word that a script in a page needs to be run; another one for each answer."""

MAX_QUERY_BYTES = 8_000
ACTIONS = PREFIX + "/_api/"
_STATIC = PREFIX + "/static/"
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_METHODS = _SAFE_METHODS | {"POST"}
_FIXED_HEADERS = {
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def _policy(nonce: str) -> str:
    # Attributes may set a style, since the library's own markup does so; they cannot run anything.
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src-elem 'self' 'nonce-{nonce}';"
        " style-src-attr 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


class Shield:
    """Pure ASGI. `is_secure`: browsers send the cookies over TLS alone."""

    def __init__(self, pages: ASGIApp, sign_ins: AdminSignIns, *, is_secure: bool) -> None:
        self._pages = pages
        self._sign_ins = sign_ins
        self._is_secure = is_secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        nonce = secrets.token_urlsafe(16)
        nonce_var.set(nonce)
        is_static = scope["path"].startswith(_STATIC)

        async def send_shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_FIXED_HEADERS)
                headers["Content-Security-Policy"] = _policy(nonce)
                headers["Cache-Control"] = "public, max-age=3600" if is_static else "no-store"
                _harden_cookies(message, is_secure=self._is_secure)
            await send(message)

        refusal = _refusal(scope)
        if refusal is not None:
            log.info("admin.refused", status=refusal.status_code)
            await refusal(scope, receive, send_shielded)
            return
        cookie = cookie_of(Headers(scope=scope))
        if cookie is not None and not is_static:
            try:
                admin = await self._sign_ins.current(cookie)
            except HTTPException as error:
                await PlainTextResponse(error.detail, error.status_code)(scope, receive, send_shielded)
                return
            if admin is not None:
                scope[ADMIN] = admin
        await self._pages(scope, receive, send_shielded)


def cookie_of(headers: Headers) -> str | None:
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)


def _refusal(scope: Scope) -> PlainTextResponse | None:
    if scope["method"] not in _METHODS:
        return PlainTextResponse("Method Not Allowed", 405, {"Allow": ", ".join(sorted(_METHODS))})
    if len(scope["query_string"]) > MAX_QUERY_BYTES:
        return PlainTextResponse("The address is too long.", 400)
    is_action = scope["method"] == "POST" and scope["path"].startswith(ACTIONS)
    if is_action and b"name" not in parse_qs(scope["query_string"]):
        return PlainTextResponse("The action has no name.", 400)
    if scope["method"] not in _SAFE_METHODS and not is_same_origin(Headers(scope=scope)):
        return PlainTextResponse("This was sent from another site.", 403)
    return None


def is_same_origin(headers: Headers) -> bool:
    """Whether a browser says that a page of ours sent this. What is no browser says nothing, and needs the token."""
    origin = headers.get("origin")
    if origin is not None:
        try:
            host = urlsplit(origin).netloc
        except ValueError:
            return False  # no browser's: brackets that hold no address
        return host != "" and host.lower() == headers.get("host", "").lower()
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _harden_cookies(message: Message, *, is_secure: bool) -> None:
    message["headers"] = list(_hardened(message["headers"], is_secure=is_secure))


def _hardened(headers: Iterable[tuple[bytes, bytes]], *, is_secure: bool) -> Iterable[tuple[bytes, bytes]]:
    """The library sets cookies for the whole host, and to be sent from other sites' links."""
    for name, value in headers:
        if name.lower() == b"set-cookie":
            first, *rest = value.decode("latin-1").split("; ")
            kept = [part for part in rest if part.lower().split("=")[0] not in ("path", "samesite", "secure")]
            value = "; ".join(
                [first, *kept, f"Path={PREFIX}", "SameSite=Strict", *(["Secure"] if is_secure else [])]
            ).encode("latin-1")
        yield name, value
