"""The reference client over sockets that the test speaks for, in a real browser whose clock stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from playwright.async_api import Browser, Page

from chat_api.playground.router import router
from tests.factories.browser import watched_page
from tests.factories.served import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAKE_SOCKET = Path(__file__).with_name("fake_socket.js").read_text()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    app = FastAPI()
    app.include_router(router)
    with served(app) as address:
        yield address


class Client:
    def __init__(self, page: Page) -> None:
        self._page = page

    async def does(self, *steps: str) -> None:
        for step in steps:
            await self._page.evaluate(f"async () => {{ await client.{step}; await client.settle(); }}")

    async def value(self, expression: str) -> Any:
        return await self._page.evaluate(f"() => client.{expression}")

    async def sent(self, kind: str | None = None) -> list[Any]:
        """Frames over the socket of now, without those of other types where one is named."""
        frames: list[Any] = await self.value("socket.sent")
        return [frame for frame in frames if kind in (None, frame["type"])]

    async def passes(self, milliseconds: int) -> None:
        await self._page.clock.run_for(milliseconds)
        await self.does("settle()")

    async def loses(self, code: int = 1006) -> None:
        await self.does(f"socket.onclose({{ code: {code} }})")

    async def comes_back(self) -> None:
        """Wait out the delay, and let the server say that it is ready."""
        sockets = await self.value("sockets.length")
        await self.passes(20_000)
        assert await self.value("sockets.length") == sockets + 1
        await self.does('say({ type: "ready", connection_id: "c", user: { id: "me", username: "me" } })')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stopped_page(browser: Browser, address: str) -> AsyncIterator[Page]:
    """One page for all, because its making takes longer than a test. Its clock moves when a test moves it."""
    async with watched_page(browser) as page:
        await page.clock.install(time=0)
        await page.goto(f"{address}/playground")
        await page.clock.pause_at(60_000)
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def client(stopped_page: Page) -> Client:
    await stopped_page.evaluate(FAKE_SOCKET)
    return Client(stopped_page)


async def test_every_socket_is_opened_with_a_ticket_of_its_own(client: Client) -> None:
    await client.does("open()")
    await client.loses()
    await client.comes_back()

    assert await client.value("sockets.map(({ url }) => url)") == [
        "ws://fake/api/v1/ws?ticket=ticket%201",
        "ws://fake/api/v1/ws?ticket=ticket%202",
    ]
    states = [change["state"] for change in await client.value("states")]
    assert states == ["connecting", "online", "waiting", "connecting", "online"]


async def test_a_session_is_loaded_once_and_then_followed_from_where_one_is(client: Client) -> None:
    await client.does("open()", "follow()", "subscribed(false, 7)")
    # What comes while the session is loaded belongs after it.
    await client.does("say(client.event(8), client.typing)", 'loads[0].resolve("loaded")', "say(client.event(9))")
    await client.loses()
    await client.comes_back()
    await client.does("subscribed(true, 11)", "say(client.event(10), client.event(11))")

    assert await client.value("told") == ["loaded", 8, "typing", 9, 10, 11]
    assert await client.sent("subscribe") == [{"type": "subscribe", "session_id": "s", "after_seq": 9}]


async def test_what_comes_twice_is_dropped_and_what_is_missing_is_asked_for(client: Client) -> None:
    await client.does("open()", "follow()", "subscribed(false, 0)", 'loads[0].resolve("loaded")')

    await client.does("say(client.event(1), client.event(1), client.event(4), client.event(5))")
    assert (await client.sent("subscribe"))[1:] == [{"type": "subscribe", "session_id": "s", "after_seq": 1}]
    await client.does("subscribed(true, 5)", "say(...[2, 3, 4, 5, 5, 6].map(client.event))")

    assert await client.value("told") == ["loaded", 1, 2, 3, 4, 5, 6]


async def test_a_load_that_a_lost_socket_overtook_counts_for_nothing(client: Client) -> None:
    await client.does("open()", "follow()", "subscribed(false, 7)", "say(client.event(8))")
    await client.loses()
    await client.comes_back()
    assert await client.sent("subscribe") == [{"type": "subscribe", "session_id": "s"}]

    await client.does("subscribed(false, 9)", 'loads[1].resolve("new")', 'loads[0].resolve("old")')
    await client.does("say(client.event(10))")

    assert await client.value("told") == ["new", 10]


async def test_a_load_that_failed_is_tried_again_over_a_new_socket(client: Client) -> None:
    await client.does("open()", "follow()", "subscribed(false, 7)", "loads[0].reject(new Error('away'))")
    await client.comes_back()
    assert await client.sent("subscribe") == [{"type": "subscribe", "session_id": "s"}]

    await client.does("subscribed(false, 7)", 'loads[1].resolve("loaded")')

    assert await client.value("told") == ["loaded"]


async def test_a_message_is_sent_until_it_is_acknowledged(client: Client) -> None:
    await client.does(
        'send("first")', "open()", 'send("second")', 'say({ type: "ack", client_id: "first", message: 1 })'
    )
    await client.loses()
    await client.comes_back()

    assert [frame["client_id"] for frame in await client.sent("message.send")] == ["second"]
    await client.does('say({ type: "ack", client_id: "second", message: 2 })')
    assert await client.value("outcomes") == {"first": 1, "second": 2}
    await client.loses()
    await client.comes_back()
    assert await client.sent("message.send") == []


async def test_a_message_that_is_refused_is_given_up_unless_the_refusal_will_pass(client: Client) -> None:
    def error(client_id: str, status: int) -> str:
        problem = f'{{ title: "No", status: {status}, code: "code-{status}" }}'
        return (
            f'say({{ type: "error", problem: {problem},'
            f' in_reply_to: {{ type: "message.send", client_id: "{client_id}" }} }})'
        )

    await client.does("open()", 'send("busy")', 'send("archived")', error("busy", 429), error("archived", 409))
    await client.passes(5_000)

    assert await client.value("outcomes") == {"archived": "code-409"}
    assert [frame["client_id"] for frame in await client.sent("message.send")] == ["busy", "archived", "busy"]


async def test_what_no_frame_can_hold_is_refused_before_it_costs_the_socket(client: Client) -> None:
    await client.does("open()", 'send("long", "é".repeat(40_000))', 'send("short", "é".repeat(30_000))')

    assert [frame["client_id"] for frame in await client.sent("message.send")] == ["short"]
    assert "too long" in (await client.value("outcomes"))["long"]


async def test_attempts_are_further_and_further_apart_up_to_a_limit(client: Client) -> None:
    await client.does("connection.open()")
    for _ in range(40):
        await client.loses()
        await client.passes(20_000)

    delays = [change["retryInMs"] for change in await client.value("states") if change["state"] == "waiting"]
    assert len(delays) == 40
    assert delays[0] < 500
    assert max(delays[:3]) < 2_000
    assert 7_500 < max(delays) < 15_000
    assert len(set(delays)) == 40, "clients of one server must not come back together"


async def test_after_a_rate_limit_nobody_comes_back_at_once(client: Client) -> None:
    await client.does("open()")
    await client.loses(4429)

    assert (await client.value("states.at(-1)"))["retryInMs"] >= 2_000


@pytest.mark.parametrize("refusal", ["socket", "ticket"])
async def test_who_is_not_let_in_does_not_try_again(client: Client, refusal: str) -> None:
    if refusal == "socket":
        await client.does("open()")
        await client.loses(4403)
    else:
        await client.does(
            "settle((async () => { const { ServerProblem } = await import('./playground/problem.js');"
            " client.ticketProblem = new ServerProblem({ title: 'No', status: 401, code: 'no' }); })())"
        )
        await client.passes(100)
        await client.does("connection.open()")
    tickets = await client.value("tickets")
    await client.passes(60_000)

    assert (await client.value("states.at(-1)"))["state"] == "refused"
    assert await client.value("tickets") == tickets


async def test_a_silent_socket_is_asked_and_then_given_up(client: Client) -> None:
    await client.does("open()")
    await client.passes(30_000)
    assert await client.sent() == [{"type": "ping"}]
    await client.does('say({ type: "pong" })')
    await client.passes(30_000)
    assert await client.sent() == [{"type": "ping"}] * 2
    assert await client.value("sockets.length") == 1

    await client.passes(15_000)

    assert await client.value("sockets[0].isClosed")
    assert "waiting" in [change["state"] for change in await client.value("states")]


async def test_closing_is_for_good_and_keeps_what_is_needed_to_come_back(client: Client) -> None:
    await client.does("open()", "follow()", "subscribed(false, 3)", 'loads[0].resolve("loaded")', "connection.close()")
    await client.does('send("meanwhile")', 'connection.read("s", 2)', "socket.onclose?.({ code: 1000 })")
    await client.passes(60_000)
    assert (await client.value("states.at(-1)"))["state"] == "offline"
    assert await client.value("sockets.length") == 1

    await client.does("open()")

    assert [frame["type"] for frame in await client.sent()] == ["subscribe", "read", "message.send"]
    assert (await client.sent("subscribe"))[0]["after_seq"] == 3


async def test_who_closes_while_waiting_is_not_connected_again(client: Client) -> None:
    await client.does("open()")
    await client.loses()
    await client.does("connection.close()")
    await client.passes(60_000)

    assert (await client.value("states.at(-1)"))["state"] == "offline"
    assert await client.value("sockets.length") == 1


async def test_who_was_removed_follows_no_more(client: Client) -> None:
    await client.does("open()", "follow()", "subscribed(false, 0)", 'loads[0].resolve("loaded")')
    await client.does('say({ type: "unsubscribed", session_id: "s", reason: "session-not-found" }, client.event(1))')
    await client.loses()
    await client.comes_back()

    assert await client.value("told") == ["loaded", "session-not-found"]
    assert await client.sent("subscribe") == []


async def test_offsets_count_characters_and_not_what_javascript_counts(client: Client) -> None:
    grown = 'grown("🎉🎉", { offset: %d, text: "!" })'

    assert await client.value(grown % 2) == "🎉🎉!"
    assert await client.value(grown % 1) == "🎉!"
    assert await client.value(grown % 3) == "🎉🎉", "something before it has not come yet"
