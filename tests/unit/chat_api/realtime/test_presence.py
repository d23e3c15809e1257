"""Without Redis only the people of this process are known, and nothing is kept of those who left."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from chat_api.realtime.presence import Presence
from chat_api.sessions.hints import SessionHints

ANN, BOB = uuid4(), uuid4()


class Alone(Presence):
    """A process without Redis, and what it tells its sockets."""

    def __init__(self) -> None:
        self.changes: list[tuple[UUID, UUID, bool]] = []
        super().__init__(None, SessionHints(None), seconds=15, changed=self._changes)

    def _changes(self, session_id: UUID, user_id: UUID, username: str, online: bool) -> None:
        self.changes.append((session_id, user_id, online))

    @property
    def kept(self) -> int:
        return len(self._here) + len(self._known) + len(self._to_look_at) + len(self._to_announce) + len(self._leaving)


@pytest.fixture
def presence() -> Alone:
    presence = Alone()
    presence.start()
    return presence


async def test_who_comes_and_goes_is_told_once_for_all_their_sockets(presence: Alone) -> None:
    session_id = uuid4()
    await presence.arrived(session_id, ANN, "ann")
    for _ in range(3):
        await presence.arrived(session_id, BOB, "bob")
    assert presence.of(session_id) == {ANN: "ann", BOB: "bob"}
    for _ in range(3):
        presence.left(session_id, BOB)
    assert presence.of(session_id) == {ANN: "ann"}
    assert presence.changes == [(session_id, ANN, True), (session_id, BOB, True), (session_id, BOB, False)]


async def test_nothing_is_kept_of_those_who_left(presence: Alone) -> None:
    for _ in range(100):
        session_id = uuid4()
        await presence.arrived(session_id, ANN, "ann")
        presence.left(session_id, ANN)
    assert presence.kept == 0


async def test_leaving_once_too_often_changes_nothing(presence: Alone) -> None:
    session_id = uuid4()
    presence.left(session_id, ANN)
    await presence.arrived(session_id, ANN, "ann")
    presence.left(session_id, ANN)
    presence.left(session_id, ANN)
    await presence.arrived(session_id, ANN, "ann")
    assert presence.of(session_id) == {ANN: "ann"}


async def test_the_end_takes_everybody_back(presence: Alone) -> None:
    for user_id in (ANN, BOB):
        await presence.arrived(uuid4(), user_id, "somebody")
    await presence.close()
    assert presence.kept == 0
