"""The same conversations each time, of every kind that there should be."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from chat_api.cli.seeding.conversations import DAYS, Conversations, Ids, Rows
from chat_api.cli.seeding.size import Size, amount_of
from chat_api.cli.seeding.writing import passages

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PEOPLE = [UUID(int=number) for number in range(20)]


def price(provider: str, model: str, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
    return None


def written(count: int) -> Rows:
    return Conversations(random.Random("conversations"), PEOPLE, NOW, price).write(count)


def test_the_same_number_gives_the_same_rows() -> None:
    assert list(written(30).tables()) == list(written(30).tables())


def test_there_are_rooms_failures_tools_and_archived_ones() -> None:
    rows = written(amount_of(Size.LARGE).conversations)
    assert len(rows.sessions) == 500
    assert {row["status"] for row in rows.sessions} == {"active", "archived"}
    assert any(row["participant_count"] > 2 for row in rows.sessions)
    assert {row["status"] for row in rows.runs} == {"completed", "failed"}
    assert rows.tool_executions
    owned = Counter(row["owner_id"] for row in rows.sessions)
    assert len(owned) == len(PEOPLE)
    assert max(owned.values()) > 4 * min(owned.values()), "some talk much more than others"


def test_ids_and_messages_rise_with_time() -> None:
    rows = written(50)
    by_session: dict[UUID, list[datetime]] = {}
    for row in rows.messages:
        assert (row["id"].version, row["id"].variant) == (7, "specified in RFC 4122")
        by_session.setdefault(row["session_id"], []).append(row["created_at"])
        assert NOW - timedelta(days=DAYS + 1) < row["created_at"] < NOW
    assert all(times == sorted(times) for times in by_session.values())
    ids = Ids(random.Random(1))
    assert ids.at(NOW) < ids.at(NOW + timedelta(milliseconds=1))


def test_documents_share_passages_of_which_none_is_like_another() -> None:
    found = passages()
    assert found == passages()
    assert len(set(found)) == len({text for _, text in found}) == 240
    assert amount_of(Size.LARGE).chunks <= 240
