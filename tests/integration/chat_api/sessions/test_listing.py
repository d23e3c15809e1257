"""The list of sessions: mine only, filtered, sorted, and paged without loss while others are made."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from chat_api.kit.pagination import encode_cursor
from tests.factories.chat import API, ChatApi, Json, Person, problem

SORTS = ("-last_activity_at", "last_activity_at", "-created_at", "created_at")


async def page(chat: ChatApi, person: Person, **query: Any) -> Json:
    answer = await chat.client.get(f"{API}/sessions", params=query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    assert set(found) == {"items", "next_cursor"}
    return found


async def titles(chat: ChatApi, person: Person, **query: Any) -> list[str]:
    return [item["title"] for item in (await page(chat, person, **query))["items"]]


async def walk(chat: ChatApi, person: Person, **query: Any) -> list[str]:
    """Titles of every page, in order."""
    found: list[str] = []
    cursor: Json = {}
    while True:
        one = await page(chat, person, **query, **cursor)
        found += [item["title"] for item in one["items"]]
        if one["next_cursor"] is None:
            return found
        cursor = {"cursor": one["next_cursor"]}


async def spread(chat: ChatApi, person: Person, count: int) -> list[Json]:
    """Sessions "0", "1", … made a minute apart, whose last activity runs the other way."""
    sessions = [await chat.session(person, title=str(number)) for number in range(count)]
    for number, session in enumerate(sessions):
        await chat.rows(
            "UPDATE chat.sessions SET created_at = now() + make_interval(mins => $2),"
            " last_activity_at = now() - make_interval(mins => $2) WHERE id = $1",
            UUID(session["id"]),
            number,
        )
    return sessions


async def test_nobody_has_sessions_at_first(chat: ChatApi, ann: Person) -> None:
    assert await page(chat, ann) == {"items": [], "next_cursor": None}


async def test_it_holds_only_those_i_take_part_in(chat: ChatApi, ann: Person, bob: Person) -> None:
    mine = await chat.session(ann, title="Ann's")
    await chat.session(bob, title="Bob's")
    shared = await chat.session(bob, title="Ours")
    await chat.join(shared, ann)
    assert sorted(await titles(chat, ann)) == ["Ann's", "Ours"]
    assert sorted(await titles(chat, bob)) == ["Bob's", "Ours"]
    assert mine in (await page(chat, ann))["items"]


async def test_the_filter_by_status(chat: ChatApi, ann: Person) -> None:
    await chat.session(ann, title="Open")
    archived = await chat.session(ann, title="Put away")
    await chat.client.post(f"{API}/sessions/{archived['id']}/archive", headers=ann.headers)
    assert await titles(chat, ann, status="active") == ["Open"]
    assert await titles(chat, ann, status="archived") == ["Put away"]
    assert len(await titles(chat, ann)) == 2


async def test_the_filter_by_tag_is_exact(chat: ChatApi, ann: Person) -> None:
    await chat.session(ann, title="One", tags=["red", "blue"])
    await chat.session(ann, title="Two", tags=["reddish"])
    assert await titles(chat, ann, tag="red") == ["One"]
    assert await titles(chat, ann, tag="RED") == []
    assert await titles(chat, ann, tag="r%") == []


async def test_the_filter_by_text_takes_wildcards_as_they_are(chat: ChatApi, ann: Person) -> None:
    for title in ("100% sure", "1000 reasons", "snake_case", "back\\slash", "and/or", "été"):
        await chat.session(ann, title=title)
    found = {wanted: await titles(chat, ann, q=wanted) for wanted in ("100%", "%", "_", "\\", "/", "SURE", "ÉTÉ", "no")}
    assert found == {
        "100%": ["100% sure"],
        "%": ["100% sure"],
        "_": ["snake_case"],
        "\\": ["back\\slash"],
        "/": ["and/or"],
        "SURE": ["100% sure"],
        "ÉTÉ": ["été"],
        "no": [],
    }


async def test_filters_combine(chat: ChatApi, ann: Person) -> None:
    await chat.session(ann, title="Trip one", tags=["a"])
    await chat.session(ann, title="Trip two", tags=["b"])
    await chat.session(ann, title="Work", tags=["a"])
    assert await titles(chat, ann, q="trip", tag="a", status="active") == ["Trip one"]


@pytest.mark.parametrize(
    ("sort", "order"),
    [("created_at", "012"), ("-created_at", "210"), ("last_activity_at", "210"), ("-last_activity_at", "012")],
)
async def test_every_sort_both_ways(chat: ChatApi, ann: Person, sort: str, order: str) -> None:
    await spread(chat, ann, 3)
    assert await titles(chat, ann, sort=sort) == list(order)


async def test_the_latest_activity_comes_first_by_itself(chat: ChatApi, ann: Person) -> None:
    first = await chat.session(ann, title="First", reply_policy="never")
    await chat.session(ann, title="Second")
    assert await titles(chat, ann) == ["Second", "First"]
    await chat.said(ann, first)
    assert await titles(chat, ann) == ["First", "Second"]


@pytest.mark.parametrize("sort", SORTS)
async def test_pages_add_up_to_the_whole(chat: ChatApi, ann: Person, sort: str) -> None:
    await spread(chat, ann, 7)
    whole = await titles(chat, ann, sort=sort)
    assert len(whole) == 7
    for limit in (1, 3, 6, 7, 8):
        assert await walk(chat, ann, sort=sort, limit=limit) == whole


@pytest.mark.parametrize("sort", SORTS)
async def test_equal_times_lose_nothing(chat: ChatApi, ann: Person, sort: str) -> None:
    await spread(chat, ann, 5)
    await chat.rows("UPDATE chat.sessions SET created_at = now(), last_activity_at = now()")
    assert sorted(await walk(chat, ann, sort=sort, limit=2)) == list("01234")


async def test_exactly_a_page_has_no_next(chat: ChatApi, ann: Person) -> None:
    await spread(chat, ann, 2)
    assert (await page(chat, ann, limit=2))["next_cursor"] is None


@pytest.mark.parametrize("sort", SORTS)
async def test_new_sessions_do_not_shift_the_pages(chat: ChatApi, ann: Person, sort: str) -> None:
    await spread(chat, ann, 4)
    whole = await titles(chat, ann, sort=sort)
    first = await page(chat, ann, sort=sort, limit=2)
    late = await chat.session(ann, title="earliest")
    await chat.rows(
        "UPDATE chat.sessions SET created_at = now() - interval '1 day', last_activity_at = now() + interval '1 day'"
        " WHERE id = $1",
        UUID(late["id"]),
    )
    rest = await page(chat, ann, sort=sort, limit=10, cursor=first["next_cursor"])
    seen = [item["title"] for item in first["items"] + rest["items"]]
    assert [title for title in seen if title != "earliest"] == whole
    assert seen.count("earliest") == (1 if sort in ("last_activity_at", "-created_at") else 0)


NOT_CURSORS = [
    "garbage",
    "!!!!",
    "ä",
    "",
    "e30",
    encode_cursor("now", "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"),
    encode_cursor("2026-01-01T00:00:00", "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"),
    encode_cursor("0001-01-01T00:00:00+23:59", "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"),
    encode_cursor("9999-12-31T23:59:59-23:59", "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"),
    encode_cursor("2026-01-01T00:00:00+00:00", "not-an-id"),
    encode_cursor("2026-01-01T00:00:00+00:00"),
]


async def test_a_cursor_that_is_none_is_refused(chat: ChatApi, ann: Person) -> None:
    for cursor in NOT_CURSORS:
        for sort in SORTS:
            query = {"cursor": cursor, "sort": sort}
            answer = await chat.client.get(f"{API}/sessions", params=query, headers=ann.headers)
            assert problem(answer) == (422, "invalid-cursor"), cursor


OUT_OF_BOUNDS: list[Json] = [
    {"limit": 0},
    {"limit": 101},
    {"limit": "many"},
    {"sort": "title"},
    {"status": "lost"},
    {"tag": ""},
    {"tag": "x" * 51},
    {"q": ""},
    {"q": "x" * 201},
    {"cursor": "x" * 513},
]


async def test_parameters_out_of_bounds_are_refused(chat: ChatApi, ann: Person) -> None:
    for query in OUT_OF_BOUNDS:
        answer = await chat.client.get(f"{API}/sessions", params=query, headers=ann.headers)
        assert problem(answer) == (422, "validation-failed"), query


async def test_the_bounds_of_the_limit_are_allowed(chat: ChatApi, ann: Person) -> None:
    for limit in (1, 100):
        assert (await page(chat, ann, limit=limit))["items"] == []
