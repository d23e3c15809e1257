"""Hints as they travel, and as this process hears its own."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from chat_api.sessions.hints import (
    Ephemeral,
    EventsAdded,
    Hint,
    PresenceChanged,
    SessionGone,
    SessionHints,
    channel_of,
    decode,
    encode,
    session_of,
)


class Ear:
    def __init__(self) -> None:
        self.hints: list[tuple[UUID, Hint]] = []

    def heard(self, session_id: UUID, hint: Hint) -> None:
        self.hints.append((session_id, hint))


@pytest.mark.parametrize(
    "hint",
    [
        EventsAdded(0),
        EventsAdded(2**63 - 1),
        SessionGone(),
        PresenceChanged(),
        Ephemeral("0a1b", b'{"type":"typing","data":{"username":"a b  c\\n"}}'),
        Ephemeral("", b""),
        Ephemeral("0a1b", '{"é": "\U0001f600"}'.encode()),
    ],
    ids=lambda hint: type(hint).__name__,
)
def test_what_is_said_is_what_is_heard(hint: Hint) -> None:
    assert decode(encode(hint, "origin")) == ("origin", hint)


@pytest.mark.parametrize(
    "message", [b"", b"e1", b"origin ", b"origin e", b"origin e1.5", b"origin ?", b"\xff e1", b"origin x\xff {}"]
)
def test_anything_else_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind: the listener catches them all
        decode(message)


def test_a_channel_names_its_session() -> None:
    session_id = uuid4()
    assert session_of(channel_of(session_id)) == session_id


async def test_this_process_hears_at_once_also_without_redis() -> None:
    hints, ear, session_id = SessionHints(None), Ear(), uuid4()
    hints.start()
    hints.listen(ear)
    for hint in (EventsAdded(2), EventsAdded(1), SessionGone()):
        hints.tell(session_id, hint)
    assert ear.hints == [(session_id, EventsAdded(2)), (session_id, EventsAdded(1)), (session_id, SessionGone())]
    await hints.close()
