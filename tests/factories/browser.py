"""A browser for the tests of pages: Debian's Chromium, driven over the protocol of its developer tools."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

REQUIRED = "COLLOQUY_REQUIRE_BROWSER"
"""Set to 1 where tests must fail, rather than be skipped, without a browser."""

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # It stays on this machine, as all tests do.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_PATIENCE_MS = 30_000
"""Long, because browsers are slow on a machine that is busy. What succeeds does not wait for it."""


def chromium_path() -> Path:
    """Where Chromium is. Skips the test without one, or fails it where one is required."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        reason = "there is no Chromium: `make browser` installs it on Debian"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{reason}, and {REQUIRED} is set")
        pytest.skip(reason)
    return Path(path)


@contextlib.asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """One browser, with a profile folder of its own that goes with it."""
    path = chromium_path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_ARGUMENTS, chromium_sandbox=False)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def watched_page(browser: Browser) -> AsyncIterator[Page]:
    """A page in a window of its own. Whatever it throws, or complains of on its console, fails the test.

    Refusals of the API are answers, and none of the page's mistakes: what it makes of them is for the test to see.
    """
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "/api/" not in message.location["url"]:
            complaints.append(message.text)

    context = await browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    page = await context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page
    finally:
        await context.close()
    assert complaints == [], complaints
