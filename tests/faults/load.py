"""Several writers in several sessions, who send in every way there is and never give up."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.faults.person import Mode, Person, script
from tests.faults.streams import Reader

SESSIONS = 4
WRITERS_PER_SESSION = 3


def reply_to(client_id: str) -> str:
    """What the model is told to answer: nobody else's answer has it in it."""
    return f"{client_id} — «Grüße», 你好 👩‍👩‍👧 {client_id}\nand the rest of it, {client_id}."


@dataclass
class Load:
    """What was acknowledged, and what was read. The keys of `acknowledged` are sessions, then client ids."""

    sessions: list[str]
    acknowledged: dict[str, dict[str, str]] = field(default_factory=dict)
    streamed: dict[str, Reader] = field(default_factory=dict)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def count(self) -> int:
        return sum(len(messages) for messages in self.acknowledged.values())

    def stop(self) -> None:
        self._stop.set()

    async def write(self, person: Person, session: str, writer: int) -> None:
        """Send one message after the other, each until it is acknowledged."""
        modes = itertools.cycle(Mode)
        for _ in range(writer % 3):
            next(modes)
        for number in itertools.count():
            if self._stop.is_set():
                return
            client_id = f"w{writer}-{number}"
            message_id = await self._send(person, session, client_id, next(modes))
            self.acknowledged[session][client_id] = message_id

    async def _send(self, person: Person, session: str, client_id: str, mode: Mode) -> str:
        content = script(reply_to(client_id), chunk=3, delay_ms=15)
        match mode:
            case Mode.SSE:
                reader, _ = await person.stream(session, content, client_id)
                self.streamed[client_id + session] = reader
                return str(reader.events[0].data["id"])
            case Mode.JSON | Mode.ASYNC:
                sent = await person.send(session, content, client_id=client_id, mode=mode)
                if mode is Mode.ASYNC:
                    await asyncio.sleep(0.3)
                return str(sent["message"]["id"])


@asynccontextmanager
async def load(person: Person) -> AsyncIterator[Load]:
    """Load for the time of the block; every message that was begun is acknowledged at its end."""
    sessions = [await person.session() for _ in range(SESSIONS)]
    running = Load(sessions, {session: {} for session in sessions})
    async with asyncio.TaskGroup() as writers:
        for writer in range(SESSIONS * WRITERS_PER_SESSION):
            writers.create_task(running.write(person, sessions[writer % SESSIONS], writer))
        try:
            yield running
        finally:
            running.stop()
