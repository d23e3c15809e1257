"""A chat API with its worker's part in webhooks."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from chat_api.kit.outbox import Jobs
from chat_api.webhooks.models import DELIVER_TOPIC
from chat_api.worker import webhook_runner
from tests.factories.chat import API, ChatApi, Json, Person
from tests.fakes.webhooks import FakeSender

URL = "https://hooks.example.com/colloquy"


class Webhooks:
    """Makes webhooks as their owners do, and delivers when it is told to."""

    def __init__(self, chat: ChatApi) -> None:
        self._chat = chat
        self.sender = FakeSender()
        self.runner = webhook_runner(chat.settings, chat.app.state.database, self.sender, chat.clock)

    async def make(self, owner: Person, **fields: Any) -> Json:
        answer = await self.post(owner, "", json={"url": URL, **fields})
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    async def post(self, person: Person, path: str, **request: Any) -> Any:
        return await self._chat.client.post(f"{API}/webhooks{path}", headers=self._headers(person), **request)

    async def get(self, person: Person, path: str) -> Any:
        return await self._chat.client.get(f"{API}/webhooks{path}", headers=self._headers(person))

    async def patch(self, person: Person, hook: Json, **fields: Any) -> Json:
        path = f"{API}/webhooks/{hook['id']}"
        answer = await self._chat.client.patch(path, json=fields, headers=self._headers(person))
        assert answer.status_code == 200, answer.text
        changed: Json = answer.json()
        return changed

    def _headers(self, person: Person) -> dict[str, str]:
        # Tests let days pass, and an access token lasts for minutes.
        token = self._chat.app.state.authenticator.mint_access_token(person.id)
        return {"Authorization": f"Bearer {token}"}

    async def deliveries(self, owner: Person, hook: Json) -> list[Json]:
        """The oldest first."""
        answer = await self.get(owner, f"/{hook['id']}/deliveries")
        assert answer.status_code == 200, answer.text
        items: list[Json] = answer.json()["items"]
        return items[::-1]

    async def deliver(self) -> None:
        """Everything that is due, once."""
        due = await Jobs(self._chat.app.state.database).due([DELIVER_TOPIC], 100)
        await asyncio.gather(*(self.runner.run(entry.id) for entry in due))

    async def later(self, **step: float) -> None:
        """Let time pass, for us and for the outbox."""
        self._chat.clock.advance(timedelta(**step))
        await self._chat.rows("UPDATE chat.outbox SET available_at = now()")

    async def waiting(self) -> list[Any]:
        return await self._chat.rows("SELECT * FROM chat.outbox WHERE topic = $1", DELIVER_TOPIC)

    @property
    def told(self) -> list[Json]:
        return [received.told for received in self.sender.received]
