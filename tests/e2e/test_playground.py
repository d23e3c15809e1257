"""Two people and the assistant on one page, in a real browser, over a real server and its stores."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, FilePayload, Locator, Page, expect
from playwright.async_api import Error as BrowserError
from pydantic import SecretStr

from chat_api.config import ApiSettings
from chat_api.main import create_app
from shared.contracts.chat import ChatEvent, ChatRequest, DeltaEvent
from shared.settings import Environment
from tests.factories.attachments import PNG
from tests.factories.browser import watched_page
from tests.factories.served import served
from tests.fakes.agent import DONE, ScriptedAgent, echo, saying
from tests.fakes.password_hasher import RecordingHasher
from tests.fakes.tool_agent import ToolAgent, Wish
from tests.stores import Database, Stores

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPLAYED = 8
"""Most events that are replayed, so that a test can be further behind."""
MARKUP = "<img src=x onerror=\"document.title='hurt'\">"


class Gate:
    """A reply that stops after its first piece until the test lets it go on. The agent runs in another thread."""

    def __init__(self, first: str, rest: str) -> None:
        self._first = first
        self._rest = rest
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    async def __call__(self, _: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        yield DeltaEvent(text=self._first)
        while not self._opened.is_set():
            await asyncio.sleep(0.01)
        yield DeltaEvent(text=self._rest)
        yield DONE


@dataclass(frozen=True)
class Service:
    address: str
    database: Database
    agent: ScriptedAgent


@pytest.fixture(scope="module")
def service(
    new_database: Callable[..., Database],
    stores: Stores,
    worker_number: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """For the whole module: every test brings people of its own."""
    database = new_database()
    agent = ScriptedAgent()
    settings = ApiSettings(
        environment=Environment.TEST,
        database_url=SecretStr(database.api_url),
        redis_url=SecretStr(stores.redis_url(worker_number + 1)),
        redis_command_seconds=10,  # a busy machine is no reason to do without it
        data_dir=tmp_path_factory.mktemp("data"),
        ws_replay_events=REPLAYED,
    )
    with served(create_app(settings, agent_transport=agent, passwords=RecordingHasher())) as address:
        yield Service(address, database, agent)


@dataclass
class Half:
    """What one person sees and does."""

    pane: Locator
    username: str = field(init=False)

    @property
    def texts(self) -> Locator:
        return self.pane.locator(".message .text")

    @property
    def calls(self) -> Locator:
        return self.pane.locator(".call")

    @property
    def composer(self) -> Locator:
        return self.pane.get_by_label("Message", exact=True)

    def message(self, text: str) -> Locator:
        return self.pane.locator(".message", has=self.pane.page.get_by_text(text, exact=True))

    def button(self, name: str) -> Locator:
        return self.pane.get_by_role("button", name=name)

    async def say(self, text: str) -> None:
        await self.composer.fill(text)
        await self.composer.press("Enter")

    async def attach(self, name: str, content_type: str, content: bytes) -> None:
        file = FilePayload(name=name, mimeType=content_type, buffer=content)
        await self.pane.locator("input[type=file]").set_input_files([file])
        await self.button(f"Take {name} off").wait_for()


@dataclass
class Room:
    page: Page
    ann: Half
    bob: Half
    agent: ScriptedAgent

    async def start(self, button: str) -> None:
        """Have both signed in, in a session that is new, and connected."""
        for half in (self.ann, self.bob):
            if await half.button("Reconnect").is_visible():
                await half.button("Reconnect").click()
        await self.page.get_by_role("button", name=button).click()
        # Before that the page still shows the session before, where both are online as well.
        await expect(self.page.locator("#start")).to_be_enabled()
        for half in (self.ann, self.bob):
            await expect(half.pane.locator(".people .online")).to_have_count(2)
            await expect(half.texts).to_have_count(1)
            half.username = await half.pane.locator("h2").inner_text()


@contextlib.asynccontextmanager
async def opened(browser: Browser, service: Service) -> AsyncIterator[Room]:
    async with watched_page(browser) as page:
        await page.goto(f"{service.address}/playground")
        yield Room(page, Half(page.locator(".person-a")), Half(page.locator(".person-b")), service.agent)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(browser: Browser, service: Service) -> AsyncIterator[Room]:
    """Signing in takes longer than most tests, so it is done once."""
    async with opened(browser, service) as room:
        await room.start("Sign both in and start")
        yield room


@pytest_asyncio.fixture(loop_scope="module")
async def room(both: Room) -> Room:
    await both.start("Start a new session")
    return both


@pytest_asyncio.fixture(loop_scope="module")
async def new_page(browser: Browser, service: Service) -> AsyncIterator[Room]:
    """The page as it is when it is opened: nobody has signed in."""
    async with opened(browser, service) as room:
        yield room


async def test_what_one_says_the_other_sees_while_it_is_written_and_after(room: Room) -> None:
    await expect(room.bob.texts).to_have_text([f"{room.ann.username} added {room.bob.username}"])
    # He speaks first: then he also hears what is told only to those who are there, and to nobody later.
    await room.bob.say("Good morning")
    await expect(room.ann.message("Good morning").locator("b")).to_have_text(room.bob.username)
    await room.ann.composer.press_sequentially("Hel")
    await expect(room.bob.pane.locator(".typing")).to_have_text(f"{room.ann.username} is typing…")
    await room.ann.composer.press_sequentially("lo")
    await room.ann.composer.press("Enter")

    await expect(room.bob.message("Hello").locator("b")).to_have_text(room.ann.username)
    await expect(room.bob.pane.locator(".typing")).to_be_empty()
    await expect(room.ann.message("Hello")).to_have_count(1)
    await room.bob.button("Disconnect").click()
    await expect(room.ann.pane.locator(".people .offline")).to_contain_text(room.bob.username)


async def test_a_reply_grows_in_front_of_both_and_either_may_stop_it(room: Room) -> None:
    room.agent.next_scripts = [gate := Gate("One 🎉 ", "two 🎉 three"), Gate("No end", "")]
    await room.bob.say("@assistant count")
    for half in (room.ann, room.bob):
        await expect(half.pane.locator(".streaming .text")).to_have_text("One 🎉")
    gate.open()
    for half in (room.ann, room.bob):
        await expect(half.message("One 🎉 two 🎉 three").locator("b")).to_have_text("assistant")
        await expect(half.button("Stop the assistant")).to_be_hidden()

    await room.bob.say("@assistant count on")
    await expect(room.ann.pane.locator(".streaming .text")).to_have_text("No end")
    await room.ann.button("Stop the assistant").click()
    for half in (room.ann, room.bob):
        await expect(half.message("No end").locator(".note")).to_have_text("stopped")


async def test_a_risky_call_waits_for_somebody_and_both_see_what_became_of_it(room: Room) -> None:
    room.agent.script = agent = ToolAgent([Wish("two <b>"), Wish("three")], before="May I?")
    try:
        await room.bob.say("@assistant note two and three")
        for half in (room.ann, room.bob):
            await expect(half.calls.locator(".note")).to_have_text(["waits for approval", "waits for approval"])
        # Who comes later reads it over REST.
        await room.ann.button("Disconnect").click()
        await room.ann.button("Reconnect").click()
        first, second = room.ann.calls.nth(0), room.bob.calls.nth(1)
        await expect(first.locator("code")).to_have_text('{"text":"two <b>"}')
        await second.get_by_label("Reason").fill("Not that one")
        await second.get_by_role("button", name="Reject").click()
        await first.get_by_role("button", name="Approve").click()
        for half in (room.ann, room.bob):
            await expect(half.pane.locator(".message.assistant .text")).to_have_text("May I?\n\nDone.")
            await expect(half.calls.locator(".note")).to_have_text(["done", "rejected"])
            await expect(half.calls.locator(".result")).to_have_text(["noted two <b>", "Not that one"])
            await expect(half.calls.get_by_role("button")).to_have_count(0)
        assert [done["text"] for done in agent.executed] == ["two <b>"]
    finally:
        room.agent.script = echo


async def test_reactions_edits_and_deletes_arrive_at_once(room: Room) -> None:
    await room.ann.say("Helo")
    hers, his = room.ann.pane.locator(".message").last, room.bob.pane.locator(".message").last
    await his.get_by_role("button", name="👍").click()
    await expect(hers.get_by_role("button", name="👍")).to_have_text("👍 1")
    await expect(his.get_by_role("button", name="👍")).to_have_attribute("aria-pressed", "true")
    await his.get_by_role("button", name="👍").click()
    await expect(hers.get_by_role("button", name="👍")).to_have_text("👍")

    await hers.get_by_role("button", name="Edit").click()
    await expect(hers.get_by_label("New text")).to_be_focused()
    await hers.get_by_label("New text").fill("Hello")
    await hers.get_by_role("button", name="Save").click()
    await expect(his.locator(".text")).to_have_text("Hello")
    await expect(his.locator(".note")).to_have_text("edited")
    await expect(his.get_by_role("button", name="Edit")).to_have_count(0)

    await hers.get_by_role("button", name="Delete").click()
    await expect(his.locator(".text")).to_have_text("This message was deleted.")


async def test_who_comes_back_has_everything_once_and_in_order(room: Room) -> None:
    await room.ann.say("one")
    await expect(room.bob.message("one")).to_be_visible()
    await room.bob.button("Disconnect").click()
    for text in ("two", "three", "four"):
        await room.ann.say(text)
        await expect(room.ann.message(text)).to_have_count(1)
    # Written without a connection: it waits, and is sent when there is one.
    await room.bob.say("five")
    await expect(room.bob.pane.locator(".waiting")).to_have_text("five · sending…")
    await room.bob.button("Reconnect").click()

    joined = f"{room.ann.username} added {room.bob.username}"
    for half in (room.ann, room.bob):
        await expect(half.texts).to_have_text([joined, "one", "two", "three", "four", "five"])
    await expect(room.bob.pane.locator(".recovery")).to_contain_text("recovered: true")
    await expect(room.bob.pane.locator(".waiting")).to_have_count(0)


async def test_who_is_too_far_behind_reads_the_session_anew(room: Room) -> None:
    await room.bob.button("Disconnect").click()
    said = [f"number {number}" for number in range(REPLAYED + 1)]
    for text in said:
        await room.ann.say(text)
    await expect(room.ann.texts).to_have_count(1 + len(said))
    await room.bob.button("Reconnect").click()

    await expect(room.bob.pane.locator(".recovery")).to_contain_text("recovered: false")
    await expect(room.bob.texts).to_have_text([f"{room.ann.username} added {room.bob.username}", *said])


async def test_what_is_unread_is_marked_until_one_looks(room: Room) -> None:
    await room.ann.composer.click()
    await expect(room.bob.pane.locator(".message .readers")).to_have_text(f"Read by {room.ann.username}")
    await room.bob.composer.click()
    await room.bob.say("Are you there?")
    await room.bob.say("Hello?")
    await expect(room.ann.pane.locator(".unread")).to_have_text("2 unread")
    await expect(room.ann.pane.locator(".divider + .message .text")).to_have_text("Are you there?")
    await expect(room.bob.message("Hello?").locator(".readers")).to_be_empty()

    await room.ann.composer.click()

    await expect(room.ann.pane.locator(".unread")).to_be_hidden()
    await expect(room.bob.message("Hello?").locator(".readers")).to_have_text(f"Read by {room.ann.username}")


async def test_files_reach_the_other(room: Room) -> None:
    await room.ann.attach("harbour.png", "image/png", PNG)
    await room.ann.attach("fees <b>.txt", "text/plain", b"Twelve crowns")
    await room.ann.say("See these")

    message = room.bob.message("See these")
    await expect(message.get_by_alt_text("harbour.png")).to_have_js_property("naturalWidth", 1)
    async with room.page.expect_download() as download:
        await message.get_by_role("button", name="fees <b>.txt (1 KiB)").click()
    downloaded = await (await download.value).path()
    assert await asyncio.to_thread(downloaded.read_bytes) == b"Twelve crowns"


async def test_names_and_texts_are_never_markup(new_page: Room, service: Service) -> None:
    room = new_page
    await room.start("Sign both in and start")
    connection = await asyncpg.connect(Database.dsn(service.database.owner_url), timeout=30)
    await connection.execute("UPDATE chat.users SET username = $1 WHERE username = $2", MARKUP, room.ann.username)
    await connection.close()
    room.agent.next_scripts = [saying(MARKUP)]
    await room.bob.button("Disconnect").click()
    await room.bob.button("Reconnect").click()
    await expect(room.bob.pane.locator(".people")).to_contain_text(MARKUP)
    await room.ann.attach("<img src=x>.txt", "text/plain", b"x")
    await room.ann.say(f"@assistant {MARKUP}")

    for half in (room.ann, room.bob):
        await expect(half.pane.locator(".message.assistant .text")).to_have_text(MARKUP)
        await expect(half.pane.locator(".message.user .text")).to_have_text(f"@assistant {MARKUP}")
        await expect(half.pane.locator(".message.user b")).to_have_text(MARKUP)
    await expect(room.page.locator("img")).to_have_count(0)
    assert await room.page.title() == "Colloquy playground"


async def test_the_browser_itself_refuses_markup(browser: Browser, service: Service) -> None:
    # Not watched: it complains of this on its console.
    page = await browser.new_page()
    await page.goto(f"{service.address}/playground")

    with pytest.raises(BrowserError, match="TrustedHTML"):
        await page.evaluate("document.body.innerHTML = '<b>markup</b>'")

    await page.context.close()


async def test_it_can_be_used_with_a_keyboard_and_on_a_telephone(new_page: Room) -> None:
    page, half = new_page.page, new_page.ann
    await page.set_viewport_size({"width": 400, "height": 800})
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Sign both in and start")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(half.pane.locator(".people .online")).to_have_count(2)
    await half.composer.focus()
    await page.keyboard.type("A long word: " + "x" * 200)
    await page.keyboard.press("Enter")
    await expect(new_page.bob.pane.locator(".message.user")).to_have_count(1)

    assert await page.evaluate("document.documentElement.scrollWidth") <= 400
    nameless = await page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, [role=log]")].filter((control) =>
            !control.textContent.trim() && !control.labels?.length && !control.ariaLabel
        ).map((control) => control.outerHTML)"""
    )
    assert nameless == []


async def test_a_wrong_password_is_said_where_it_was_typed(new_page: Room) -> None:
    ann, bob = new_page.ann.pane, new_page.bob.pane
    await ann.get_by_role("button", name="Register and sign in").click()
    await expect(ann.get_by_text("Connected")).to_be_visible()
    await bob.get_by_label("Username").fill(await ann.locator("h2").inner_text())
    await bob.get_by_label("Password").press("Enter")

    await expect(bob.get_by_role("alert")).to_contain_text("password")
    await expect(bob.get_by_label("Password")).to_be_visible()
