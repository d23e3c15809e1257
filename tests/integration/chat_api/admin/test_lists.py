"""What the lists show, how they are searched, filtered and sorted, and that their pages hold everything once."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from chat_api.admin.desk import Desk
from chat_api.admin.listing import Wanted
from chat_api.admin.message_walk import MessageWalk
from chat_api.messages.models import Message
from tests.factories.admin_pages import AdminBrowser, text_of
from tests.factories.chat import ChatApi, Json, Person
from tests.factories.tool_calls import tool_call

VIEWS = ("sessions", "messages", "tools", "users", "bots", "documents", "audit")
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def harbour(chat: ChatApi, ann: Person) -> Json:
    """One of everything, whose words are markup."""
    bot = await chat.bot(ann, name=f"Guide {MARKUP}")
    await chat.document_row(bot, name=f"fees {MARKUP}.md")
    session = await chat.session(ann, title=f"Harbour {MARKUP}", bot_id=bot["id"])
    said = await chat.said(ann, session, f"How deep? {MARKUP}")
    await tool_call(
        chat,
        UUID(session["id"]),
        UUID(said["run"]["id"]),
        arguments={"url": f"https://example.org/{MARKUP}", "token": "a secret"},
        redacted=("token",),
        status="succeeded",
        result="what it says",
        redact_result=True,
    )
    return session


async def test_every_list_and_page_shows_words_as_words(harbour: Json, pages: AdminBrowser) -> None:
    for view in VIEWS:
        answer = await pages.open(f"/{view}/list")
        assert answer.status_code == 200
        assert "<img" not in answer.text
        [key, *_] = await pages.keys(view)

        page = await pages.open(f"/{view}/detail", pk=key)

        assert page.status_code == 200, page.text
        assert "<img" not in page.text
        for secret in ("a secret", "what it says", "v1:", "password_hash"):
            assert secret not in page.text


async def test_what_no_log_may_show_is_not_shown_here_either(harbour: Json, pages: AdminBrowser) -> None:
    [key] = await pages.keys("tools")

    shown = text_of(await pages.open("/tools/detail", pk=key))

    assert '"token": "[redacted]"' in shown
    assert "Result [redacted]" in shown


async def test_what_is_kept_beside_the_words_is_shown(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    session = await chat.session(ann, metadata={"berth": 7}, tags=["tide"])
    await chat.said(ann, session, metadata={"mast": 12})

    shown = text_of(await pages.open("/sessions/detail", pk=session["id"]))
    said = text_of(await pages.open("/messages/detail", pk=f"{session['id']}.1"))

    assert 'Tags [ "tide" ]' in shown
    assert 'Metadata { "berth": 7 }' in shown
    assert 'Metadata { "mast": 12 }' in said


SEARCHES = {
    "sessions": ("harbour", "mountain"),
    "messages": ("HOW DEEP", "mountain"),
    "tools": ("fetch", "calc"),
    "users": ("an", "zo"),
    "bots": ("guide", "mountain"),
    "documents": ("fees", "mountain"),
    "audit": ("admin.", "user."),
}


async def test_every_list_can_be_searched(harbour: Json, pages: AdminBrowser) -> None:
    for view, (found, missed) in SEARCHES.items():
        assert await pages.keys(view, q=found), view
        assert await pages.keys(view, q=missed) == []
        # No wildcards: they are letters like others.
        assert await pages.keys(view, q="%") == []


async def test_an_id_finds_what_belongs_to_it(
    chat: ChatApi, harbour: Json, ann: Person, bob: Person, pages: AdminBrowser
) -> None:
    other = await chat.session(bob)
    await chat.said(bob, other)

    assert await pages.keys("sessions", q=str(ann.id)) == [harbour["id"]]
    assert await pages.keys("sessions", q=other["id"]) == [other["id"]]
    assert await pages.keys("messages", q=harbour["id"]) == [f"{harbour['id']}.{seq}" for seq in (2, 1)]
    assert len(await pages.keys("tools", q=harbour["id"])) == 1
    assert await pages.keys("tools", q=other["id"]) == []


async def test_filters_hold_each_alone_and_together(
    chat: ChatApi, harbour: Json, ann: Person, bob: Person, pages: AdminBrowser
) -> None:
    other = await chat.session(bob, title="Other")
    await chat.rows("UPDATE chat.sessions SET status = 'archived' WHERE id = $1", UUID(other["id"]))

    async def found(view: str, wanted: str) -> list[str]:
        return await pages.keys(view, filter=wanted)

    assert await found("sessions", "status__in=archived") == [other["id"]]
    assert len(await found("sessions", "status__in=archived,active")) == 2
    assert await found("sessions", f"owner_id__id={ann.id}") == [harbour["id"]]
    assert await found("sessions", f"status__in=archived AND owner_id__id={ann.id}") == []
    assert len(await found("sessions", f"status__in=archived OR owner_id__id={ann.id}")) == 2
    assert await found("sessions", "created_at__until=2020-01-31") == []
    assert len(await found("sessions", "created_at__since=2020-01-31")) == 2
    assert await found("messages", "role__in=user") == [f"{harbour['id']}.1"]
    assert len(await found("users", "is_admin__is_true")) == 1
    assert len(await found("users", "account__open")) == 3
    assert await found("users", "account__closed") == []


async def test_sorting_goes_both_ways(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    ids = {title: (await chat.session(ann, title=title))["id"] for title in ("B", "C", "A")}

    assert await pages.keys("sessions", sort="title__asc") == [ids["A"], ids["B"], ids["C"]]
    assert await pages.keys("sessions", sort="title__desc") == [ids["C"], ids["B"], ids["A"]]
    assert await pages.keys("sessions") == [ids["A"], ids["C"], ids["B"]]


async def test_pages_hold_everything_once(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    # Of the same minute and title: only the id tells them apart.
    await chat.rows(
        "INSERT INTO chat.sessions (id, title, owner_id, last_activity_at) SELECT uuidv7(), 'same', $1,"
        " date_trunc('minute', now()) - make_interval(mins => n / 20) FROM generate_series(1, 60) AS n",
        ann.id,
    )

    for sort in ("last_activity_at__desc", "title__asc", "message_count__desc"):
        found = await pages.all_pages("sessions", sort=sort)

        assert [len(page) for page in found] == [25, 25, 10]
        assert len({key for page in found for key in page}) == 60


async def test_messages_come_session_by_session_and_once(chat: ChatApi, ann: Person, pages: AdminBrowser) -> None:
    await chat.rows(
        "WITH s AS (INSERT INTO chat.sessions (id, title, owner_id, last_activity_at) SELECT uuidv7(), 'same', $1,"
        " now() - make_interval(mins => n / 2) FROM generate_series(1, 9) AS n RETURNING id)"
        " INSERT INTO chat.messages (session_id, seq, id, role, content, deleted_at) SELECT s.id, seq, uuidv7(),"
        " 'user', 'x', CASE WHEN seq = 3 THEN now() END FROM s, generate_series(1, 8) AS seq",
        ann.id,
    )

    found = await pages.all_pages("messages")

    keys = [key for page in found for key in page]
    assert [len(page) for page in found] == [25, 25, 13]
    assert len(set(keys)) == len(keys)
    by_session: dict[str, list[int]] = {}
    for key in keys:
        session, _, seq = key.partition(".")
        by_session.setdefault(session, []).append(int(seq))
    assert list(by_session.values()) == [[8, 7, 6, 5, 4, 2, 1]] * 9
    assert list(by_session) == sorted(by_session, reverse=True), "an id rises with time"


async def test_a_page_of_messages_looks_at_so_many_and_the_next_goes_on(chat: ChatApi, ann: Person) -> None:
    for number in range(5):
        session = await chat.session(ann)
        await chat.said(ann, session, "needle" if number == 0 else "hay")
    walk, desk = MessageWalk(messages_a_page=4), Desk(chat.app.state.database, chat.clock)
    is_needle = Message.content.contains("needle")
    found: list[int] = []
    cursor: str | None = None
    while True:
        wanted = Wanted(None, is_needle, "needle", "created_at", descending=True, cursor=cursor, limit=10)
        async with desk.unit() as db:
            page = await walk.page(db, wanted)
        found.append(len(page.rows))
        cursor = page.next_cursor
        if cursor is None:
            break

    # The reply says the question again.
    assert found == [0, 0, 2]


async def test_a_cursor_of_another_list_or_order_begins_at_the_top(
    chat: ChatApi, ann: Person, pages: AdminBrowser
) -> None:
    await chat.rows(
        "INSERT INTO chat.sessions (id, title, owner_id) SELECT uuidv7(), 'n' || n, $1 FROM generate_series(1, 30) n",
        ann.id,
    )
    [first, _] = await pages.all_pages("sessions")
    from_another = (await pages.open("/sessions/list")).text.partition("cursor=")[2].partition("&")[0].partition('"')[0]
    for cursor in (from_another, "x", "W10", "🎉", "A" * 600):
        assert len(await pages.keys("sessions", sort="title__asc", cursor=cursor)) == 25, cursor
    assert await pages.keys("sessions", cursor="W10") == first


HOSTILE = (
    "'",
    "a\x00b",
    "</script><script>alert(1)</script>",
    "' OR 1=1 --",
    "%",
    "\\",
    "(((((",
    ":*",
    "[a-z]*",
    "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f",
    "🎉" * 200,
    "x" * 3000,
)


def hostile_queries() -> Iterator[dict[str, str]]:
    yield from ({"q": words} for words in HOSTILE)
    unreadable = (
        "'",
        "model__contains=a\x00b",
        "status__in=</script><script>alert(1)</script>",
        "(" * 4000,
        "status__in=",
        "nothing__in=x",
        "created_at__since=soon",
        'a__b="',
        "x" * 3000,
    )
    yield from ({"filter": words} for words in unreadable)
    yield from ({"filter": f"created_at__{when}=9999-12-31"} for when in ("since", "until"))
    yield from ({"sort": words} for words in ("nothing__asc", "id__x", "'"))
    yield from ({"page_size": words} for words in ("-1", "x", "9" * 5000))
    yield from ({"page": words} for words in ("-1", "9" * 30))


async def test_no_address_breaks_a_list(harbour: Json, pages: AdminBrowser) -> None:
    queries = list(hostile_queries())
    # Searches are each list's own, and those of two kinds; what reads the rest of an address is the same for all.
    searches = [query for query in queries if "q" in query]
    of_messages = [*searches, *({"filter": words} for words in ("model__contains=a\x00b", "model__contains='"))]
    for view, asked in [
        ("sessions", queries),
        ("messages", of_messages),
        *((view, searches[:2]) for view in VIEWS[2:]),
    ]:
        for query in asked:
            answer = await pages.open(f"/{view}/list", **query)
            assert answer.status_code in (200, 400), (view, query, answer.status_code)
            assert "<script>alert" not in answer.text, (view, query)
    for key in ("'", "🎉", "", f"{harbour['id']}.x", f"{harbour['id']}.{'9' * 30}", f"{harbour['id']}.²"):
        for view in ("sessions", "messages"):
            answer = await pages.open(f"/{view}/detail", pk=key)
            assert answer.status_code == 404, (view, key)


async def test_what_these_pages_do_not_do_has_no_address(harbour: Json, pages: AdminBrowser) -> None:
    for path in (
        "/sessions/create",
        "/sessions/edit?pk=1",
        "/_api/sessions/inline-edit",
        "/_api/sessions/relation-lookup",
        "/_files/x/y",
        "/nothing/list",
        "/static/../site.py",
    ):
        answer = await pages.client.get(f"/admin{path}")
        assert answer.status_code == 404, path
    for path in ("/sessions/create", "/_api/sessions/import?name=x"):
        answer = await pages.client.post(f"/admin{path}", headers=pages.token)
        assert answer.status_code in (404, 405), path
    assert (await pages.client.put("/admin/sessions/list", headers=pages.token)).status_code == 405
    for name in ("delete", "export_all", "__init__"):
        answer = await pages.act("sessions", name, harbour["id"])
        assert answer.status_code == 400, name
    assert (await pages.client.post("/admin/_api/sessions/action", headers=pages.token)).status_code == 400


async def test_the_first_page_shows_figures_of_every_day(harbour: Json, pages: AdminBrowser) -> None:
    for days, bars in (("7", 7), ("30", 30), ("90", 90), ("x", 30)):
        page = await pages.open("/", days=days)

        assert page.text.count("<rect") == 6 * bars
    assert "Messages 2" in text_of(page)
    assert "Active people 1" in text_of(page)
