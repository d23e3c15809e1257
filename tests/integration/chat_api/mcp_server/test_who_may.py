"""Who may speak the protocol, and from which web page."""

from __future__ import annotations

from uuid import UUID

from tests.factories.chat import API, ChatApi, Person, chat_api, problem
from tests.stores import Database

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


async def test_nobody_without_a_credential(chat: ChatApi) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
        answer = await chat.client.post("/mcp", json=PING, headers=headers)
        assert problem(answer) == (401, "not-authenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_that_may_read_until_it_is_revoked(chat: ChatApi, ann: Person) -> None:
    async def key(scope: str) -> tuple[str, dict[str, str]]:
        made = await chat.client.post(f"{API}/api-keys", json={"name": "mcp", "scopes": [scope]}, headers=ann.headers)
        return made.json()["id"], {"Authorization": f"Bearer {made.json()['key']}"}

    key_id, reader = await key("chat:read")
    _, invoker = await key("agent:invoke")

    assert (await chat.client.post("/mcp", json=PING, headers=reader)).status_code == 200
    assert problem(await chat.client.post("/mcp", json=PING, headers=invoker)) == (403, "insufficient-scope")
    await chat.client.delete(f"{API}/api-keys/{key_id}", headers=ann.headers)
    assert problem(await chat.client.post("/mcp", json=PING, headers=reader)) == (401, "not-authenticated")


async def test_pages_of_the_settings_and_no_others(clean_database: Database) -> None:
    async with chat_api(clean_database.api_url, None, cors_origins=["https://spa.example.org"]) as chat:
        ann = await chat.person("ann")
        for origin, allowed in {
            "https://spa.example.org": True,
            "https://colloquy.test": True,
            # The name in the address may be one that was made to point here.
            "http://colloquy.test": False,
            "https://evil.example": False,
            "null": False,
        }.items():
            answer = await chat.client.post("/mcp", json=PING, headers=ann.headers | {"Origin": origin})
            if allowed:
                assert answer.status_code == 200, origin
            else:
                assert problem(answer) == (403, "origin-not-allowed"), origin


async def test_while_the_store_is_away_it_says_when_to_come_again() -> None:
    async with chat_api("postgresql://nobody:none@127.0.0.1:1/none", None) as chat:
        headers = {"Authorization": f"Bearer {chat.app.state.authenticator.mint_access_token(UUID(int=7))}"}
        message = {**PING, "method": "tools/call", "params": {"name": "list_bots", "arguments": {}}}
        answer = await chat.client.post("/mcp", json=message, headers=headers)

    assert problem(answer) == (503, "service-unavailable")
    assert answer.headers["retry-after"] == "1"
