"""What stands before the admin pages, before a page of somebody else's."""

from __future__ import annotations

import re
from datetime import timedelta

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_api.admin.shield import Shield, is_same_origin, nonce_var
from chat_api.admin.sign_in import AdminSignIns, cookie_signer
from chat_api.kit.clock import SystemClock
from shared.security import KeyRing


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    answer = PlainTextResponse(nonce_var.get(), headers={"Cache-Control": "public"})
    answer.set_cookie("token", "x", samesite="lax")
    answer.delete_cookie("flash")
    await answer(scope, receive, send)


def shield(app: ASGIApp, *, is_secure: bool) -> Shield:
    signer = cookie_signer(KeyRing("k" * 32), timedelta(hours=1), SystemClock())
    # Without a cookie nobody is looked up, so there is nothing to look in.
    sign_ins = AdminSignIns(None, None, signer)  # type: ignore[arg-type]  # neither is reached
    return Shield(app, sign_ins, is_secure=is_secure)


async def ask(is_secure: bool = True, method: str = "GET", path: str = "/admin/", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=shield(page, is_secure=is_secure))
    async with httpx.AsyncClient(transport=transport, base_url="http://pages.test") as client:
        return await client.request(method, path, headers=headers)


async def test_every_answer_has_a_policy_with_a_nonce_of_its_own() -> None:
    first, second = await ask(), await ask()

    nonces = [re.findall(r"'nonce-([\w-]+)'", answer.headers["content-security-policy"]) for answer in (first, second)]
    assert nonces[0] == [first.text] * 2
    assert nonces[0] != nonces[1]
    assert "unsafe-inline" not in first.headers["content-security-policy"].partition("style-src-attr")[0]
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("is_secure", [True, False])
async def test_all_cookies_are_strict_and_outside_development_secure(is_secure: bool) -> None:
    cookies = (await ask(is_secure)).headers.get_list("set-cookie")

    assert len(cookies) == 2
    for cookie in cookies:
        parts = cookie.split("; ")
        assert parts.count("Path=/admin") == parts.count("SameSite=Strict") == 1
        assert ("Secure" in parts) is is_secure
        assert "Path=/" not in parts


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({"origin": "https://pages.test"}, True),
        ({"origin": "http://PAGES.test"}, True),
        ({"origin": "https://pages.test.evil.example"}, False),
        ({"origin": "https://pages.test:8443"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://["}, False),
        ({"origin": "http://pages.test@evil.example"}, False),
        ({"origin": "http://evil.example#pages.test"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({}, True),
    ],
)
def test_what_a_browser_says_about_where_it_comes_from(headers: dict[str, str], is_ours: bool) -> None:
    assert is_same_origin(Headers({"host": "pages.test", **headers})) is is_ours


async def test_methods_and_addresses_that_no_page_uses_are_refused() -> None:
    assert (await ask(method="PUT")).status_code == 405
    assert (await ask(method="OPTIONS")).status_code == 405
    assert (await ask(path="/admin/?q=" + "x" * 9000)).status_code == 400
    assert (await ask(method="POST", path="/admin/_api/sessions/action")).status_code == 400
    assert (await ask(method="POST", path="/admin/_api/sessions/action?xname=archive")).status_code == 400
    assert (await ask(method="POST", path="/admin/", origin="http://[")).status_code == 403
