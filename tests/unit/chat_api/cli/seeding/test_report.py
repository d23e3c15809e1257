"""What `colloquy seed` says at its end."""

from __future__ import annotations

from uuid import UUID

from chat_api.cli.seeding.documents import DocumentsSeeded
from chat_api.cli.seeding.seed import Seeded, left_waiting, report

ONE = UUID(int=1)


def test_one_of_a_thing_is_one() -> None:
    documents = DocumentsSeeded(ready=1, passages=1, embedded=1, waiting=0, reason=None)
    assert report(Seeded([ONE], 1, 1, documents), 0.5) == (
        "1 person, 1 conversation with 1 message, 1 document with 1 passage (1 had to be embedded): seeded in 0.50 s"
    )


def test_several_are_several() -> None:
    documents = DocumentsSeeded(ready=0, passages=0, embedded=0, waiting=0, reason=None)
    assert report(Seeded([ONE, ONE], 2, 1_200, documents), 0.5) == (
        "2 people, 2 conversations with 1,200 messages, 0 documents with 0 passages (0 had to be embedded):"
        " seeded in 0.50 s"
    )
    assert report(Seeded([ONE]), 1) == "1 person: seeded in 1.00 s"


def test_an_agent_that_is_not_there_is_looked_for_where_the_settings_say() -> None:
    away = DocumentsSeeded(ready=0, passages=0, embedded=0, waiting=1, reason="It is away.", is_agent_away=True)
    told = left_waiting(away, "http://127.0.0.1:8001")
    assert told.startswith("1 document waits for the worker: It is away.\n")
    assert "http://127.0.0.1:8001" in told
    assert "COLLOQUY_AGENT_URL" in told

    refused = DocumentsSeeded(ready=0, passages=0, embedded=0, waiting=2, reason="It said no.")
    assert left_waiting(refused, "http://127.0.0.1:8001") == "2 documents wait for the worker: It said no."
