"""The admin pages in a real browser: what only one can tell, its policy and its colours above all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from pydantic import SecretStr

from chat_api.config import ApiSettings
from chat_api.kit.models import new_id
from chat_api.main import create_app
from shared.settings import Environment
from tests.factories.admin_pages import HASH, PASSWORD
from tests.factories.browser import watched_page
from tests.factories.served import served
from tests.fakes.agent import ScriptedAgent
from tests.fakes.password_hasher import RecordingHasher
from tests.stores import Database, Stores

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKUP = "<img src=x onerror=\"document.title='hurt'\">"
_SESSIONS = """
    WITH s AS (
        INSERT INTO chat.sessions (id, title, owner_id, message_count, last_seq, last_activity_at)
        SELECT uuidv7(), 'Harbour ' || n || $2, $1, 1, 1, now() - make_interval(mins => n)
        FROM generate_series(1, 30) AS n RETURNING id
    ), p AS (
        INSERT INTO chat.participants (session_id, user_id, role) SELECT id, $1, 'owner' FROM s
    )
    INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content)
    SELECT id, 1, uuidv7(), 'user', $1, 'How deep is it? ' || $2 FROM s
"""


@dataclass(frozen=True)
class Service:
    address: str
    dsn: str
    bob: UUID

    async def rows(self, statement: str, *args: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.dsn, timeout=30)
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement, *args)
            return found
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def service(
    new_database: Callable[..., Database],
    stores: Stores,
    worker_number: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    database = new_database()
    settings = ApiSettings(
        environment=Environment.TEST,
        database_url=SecretStr(database.api_url),
        redis_url=SecretStr(stores.redis_url(worker_number + 1)),
        redis_command_seconds=10,  # a busy machine is no reason to do without it
        data_dir=tmp_path_factory.mktemp("data"),
    )
    with served(create_app(settings, agent_transport=ScriptedAgent(), passwords=RecordingHasher())) as address:
        yield Service(address, Database.dsn(database.owner_url), new_id())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(browser: Browser, service: Service) -> AsyncIterator[Page]:
    """Ada, an administrator, has signed in. Whatever the policy of the pages refuses fails the test."""
    for user_id, name in ((new_id(), "ada"), (service.bob, "bob")):
        await service.rows(
            "INSERT INTO chat.users (id, email, username, password_hash, is_admin)"
            " VALUES ($1, $2 || '@example.org', $2, $3, $2 = 'ada')",
            user_id,
            name,
            HASH,
        )
    await service.rows(_SESSIONS, service.bob, MARKUP)
    async with watched_page(browser) as page:
        await page.goto(f"{service.address}/admin/sessions/list")
        await page.get_by_label("Username or email").fill("ada")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
        yield page


async def test_the_first_page_draws_what_was_used(page: Page, service: Service) -> None:
    await page.goto(f"{service.address}/admin/")

    chart = page.get_by_role("img", name="Messages by day, 30 in all")
    await expect(chart.locator("rect").last).to_have_attribute("height", "122.0")
    await expect(page.get_by_role("row", name="bob 30")).to_be_visible()
    await page.get_by_role("link", name="7 days").click()
    await expect(chart.locator("rect")).to_have_count(7)


async def test_a_list_is_searched_filtered_sorted_and_turned(page: Page, service: Service) -> None:
    rows = page.locator("tbody tr")
    await page.goto(f"{service.address}/admin/sessions/list")
    await expect(rows).to_have_count(25)
    await page.get_by_role("link", name="Next page").click()
    await expect(rows).to_have_count(5)
    await page.get_by_role("link", name="First page").click()
    await page.get_by_role("link", name="Title").click()
    await expect(rows.first).to_contain_text("Harbour 10<img")
    await page.get_by_role("searchbox").fill("harbour 7")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(1)

    await page.goto(f"{service.address}/admin/messages/list")
    await page.get_by_role("button", name="Filters").click()
    await page.get_by_label("Field").select_option("Role")
    await page.locator("[data-sa-hook=filter-row-value-select]").first.select_option("assistant", force=True)
    await page.get_by_role("button", name="Apply filters").click()
    await expect(page.get_by_text("Nothing found")).to_be_visible()


async def test_ticked_sessions_are_archived_after_a_question(page: Page, service: Service) -> None:
    await page.goto(f"{service.address}/admin/sessions/list")
    for row in (0, 1):
        await page.get_by_label("Select row").nth(row).check()
    await page.get_by_role("button", name="With selected").click()
    await page.get_by_text("Archive", exact=True).click()
    await page.get_by_role("button", name="Yes, Proceed").click()

    await expect(page.get_by_text("2 of 2 sessions are now archived")).to_be_visible()
    await expect(page.locator(".word-archived")).to_have_count(2)
    entries = await service.rows("SELECT 1 FROM chat.audit_log WHERE action = 'session.archived'")
    assert len(entries) == 2


async def test_ticked_sessions_are_downloaded(page: Page, service: Service) -> None:
    await page.goto(f"{service.address}/admin/sessions/list")
    await page.get_by_label("Select row").nth(3).check()
    await page.get_by_role("button", name="With selected").click()
    await page.get_by_text("Export", exact=True).click()
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Download").click()

    file = await (await download.value).path()
    [exported] = json.loads(await asyncio.to_thread(file.read_bytes))
    assert exported["session"]["title"].startswith("Harbour 4")


async def test_a_plan_is_changed_on_a_persons_page(page: Page, service: Service) -> None:
    await page.goto(f"{service.address}/admin/users/list")
    await page.get_by_role("row", name="bob@example.org").click()
    await page.get_by_role("button", name="Change the plan").click()
    await page.get_by_label("Plan").select_option("pro")
    await page.get_by_role("button", name="Change", exact=True).click()

    await expect(page.get_by_text("The plan is now pro.")).to_be_visible()
    [row] = await service.rows("SELECT plan FROM chat.users WHERE id = $1", service.bob)
    assert row["plan"] == "pro"


async def test_words_are_never_markup_and_foreign_scripts_do_not_run(page: Page, service: Service) -> None:
    for view in ("sessions", "messages"):
        await page.goto(f"{service.address}/admin/{view}/list")
        await page.locator("tbody tr").first.click()
        await expect(page.locator("dl").get_by_text(MARKUP).first).to_be_visible()
        assert await page.title() != "hurt"
        await expect(page.locator("img")).to_have_count(0)


async def test_the_browser_itself_refuses_scripts(browser: Browser, service: Service) -> None:
    # Not watched: it complains of this on its console.
    page = await browser.new_page()
    await page.goto(f"{service.address}/admin/login")

    await page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hurt = 1";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="window.hurt = 1">');
    }""")
    await asyncio.sleep(0.2)
    assert await page.evaluate("window.hurt === undefined")

    await page.context.close()


async def test_it_fits_a_telephone_and_follows_the_systems_colours(page: Page, service: Service) -> None:
    colours = []
    await page.set_viewport_size({"width": 400, "height": 800})
    for path in ("", "sessions/list", f"users/detail?pk={service.bob}"):
        await page.goto(f"{service.address}/admin/{path}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 400, path
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        await expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
        colours.append(await page.evaluate("getComputedStyle(document.body).getPropertyValue('--tblr-body-bg')"))
    assert colours[0] != colours[1]
    await page.get_by_label("Toggle navigation").first.click()
    await expect(page.get_by_role("link", name="Audit log")).to_be_visible()
    await page.set_viewport_size({"width": 1280, "height": 900})


async def test_signing_out_leads_back_to_the_form(page: Page, service: Service) -> None:
    await page.goto(f"{service.address}/admin/")
    await page.get_by_label("Open user menu").last.click()
    await page.get_by_role("button", name="Logout").last.click()
    await expect(page.get_by_text("For administrators.")).to_be_visible()
    await page.goto(f"{service.address}/admin/users/list")
    await expect(page.get_by_label("Password")).to_be_visible()
