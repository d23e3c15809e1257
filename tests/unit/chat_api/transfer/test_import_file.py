"""What is taken out of a file, and which files are refused: before a row is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chat_api.transfer.errors import InvalidImport
from chat_api.transfer.import_file import read_import
from chat_api.transfer.schemas import ImportSource
from chat_api.transfer.staging import Row, StagedConversation, Staging
from tests.factories.bad_input import MARK
from tests.factories.transfers import a_tree, chatgpt, exported, node

Json = dict[str, Any]
ONE, TWO, THREE = (str(UUID(int=number)) for number in (1, 2, 3))
MOMENT = "2026-01-31T09:30:00.000000Z"

Taken = tuple[StagedConversation, Row, list[Row], list[Row]]
Take = Callable[..., list[Taken]]


@pytest.fixture
def take(tmp_path: Path) -> Take:
    """Reads a file; each conversation with its session, messages and earlier texts."""

    def read(content: object, *, max_messages: int = 100) -> list[Taken]:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        with Staging(tmp_path, max_messages=max_messages) as staging:
            read_import(path, staging, max_messages=max_messages, tell=lambda _: None)
            return [_all_of(staging, place) for place in range(len(staging.conversations))]

    return read


def _all_of(staging: Staging, place: int) -> Taken:
    batches = list(staging.batches([place]))
    [session] = [row for batch in batches for row in batch.sessions]
    said = [row for batch in batches for row in batch.messages]
    return staging.conversations[place], session, said, [row for batch in batches for row in batch.revisions]


def refusal(take: Take, content: object, **limits: int) -> InvalidImport:
    with pytest.raises(InvalidImport) as caught:
        take(content, **limits)
    assert MARK not in str(caught.value.as_json())
    return caught.value


# -- what was exported here -----------------------------------------------------------------------------------


def test_an_exported_session_is_taken_as_it_is(take: Take) -> None:
    file = exported(
        {"id": ONE, "author": "rosa", "content": "Hello", "created_at": MOMENT},
        {"id": TWO, "role": "assistant", "content": "Hi", "parent_id": ONE, "status": "streaming"},
        revisions=[{"message_id": ONE, "revision": 1, "content": "Hallo", "written_at": MOMENT, "replaced_at": MOMENT}],
        id=THREE,
        tags=["travel"],
    )
    [(told, session, messages, revisions)] = take(file)

    assert (told.source, told.source_id, told.messages) == (ImportSource.COLLOQUY, THREE, 2)
    assert (session["title"], session["tags"], session["status"]) == ("Holiday plans", ["travel"], "active")
    assert [(row["seq"], row["parent_seq"], row["content"]) for row in messages] == [(1, None, "Hello"), (2, 1, "Hi")]
    assert messages[0]["created_at"] == MOMENT
    assert messages[1]["status"] == "cancelled", "nothing would ever finish it"
    assert [(row["seq"], row["content"]) for row in revisions] == [(1, "Hallo")]


def test_the_order_of_the_fields_does_not_matter(take: Take) -> None:
    file = exported({"content": "Hello"})
    backwards = {name: file[name] for name in ("messages", "revisions", "session", "version", "format")}
    [(first, *_)], [(second, *_)] = take(file), take(backwards)
    assert first.content_hash == second.content_hash


def test_the_hash_is_of_the_content(take: Take) -> None:
    hashes = {
        take(file)[0][0].content_hash
        for file in (
            exported({"content": "Hello"}),
            exported({"content": "Hello!"}),
            exported({"content": "Hello", "role": "assistant"}),
            exported({"content": "Hello"}, title="Other plans"),
            exported({"content": "Hello"}, {"content": "Hello"}),
        )
    }
    assert len(hashes) == 5
    later = exported({"content": "Hello"}) | {"exported_at": MOMENT, "new_in_a_later_version": [1, {"a": 2}]}
    assert take(later)[0][0].content_hash in hashes


def test_a_list_of_sessions_is_many(take: Take) -> None:
    taken = take([exported({"content": "a"}), a_tree(), exported({"content": "b"}, {"content": "c"})])
    assert [told.messages for told, *_ in taken] == [1, 3, 2]


def test_a_link_to_a_message_that_is_not_there_is_counted(take: Take) -> None:
    [(told, _, messages, _)] = take(exported({"id": ONE, "parent_id": TWO}, {"id": THREE, "parent_id": TWO}))
    assert told.left_out.unknown_parents == 2
    assert [row["parent_seq"] for row in messages] == [None, None]


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([{"id": ONE, "parent_id": ONE}], ["file", "messages", 0, "id"]),
        ([{"id": ONE, "parent_id": TWO}, {"id": TWO, "parent_id": ONE}], ["file", "messages", 1, "id"]),
        ([{"id": ONE}, {"id": ONE}], ["file", "messages", 1, "id"]),
        ([{"role": MARK}], ["file", "messages", 0, "role"]),
        ([{"content": "a\x00b"}], ["file", "messages", 0]),
        ([{"content": 5}], ["file", "messages", 0, "content"]),
        ([{"content": "x" * 500_001}], ["file", "messages", 0, "content"]),
        ([{"created_at": "yesterday"}], ["file", "messages", 0, "created_at"]),
        ([{"created_at": "1066-10-14T09:00:00Z"}], ["file", "messages", 0, "created_at"]),
        (
            [{"usage": {"prompt_tokens": -1, "completion_tokens": 1, "total_tokens": 1}}],
            ["file", "messages", 0, "usage"],
        ),
        ([{"usage": {"prompt_tokens": 2**62, "completion_tokens": 1, "total_tokens": 1}}], None),
        ([{"cost": 1e300}], ["file", "messages", 0, "cost"]),
        ([{"metadata": {MARK: "x" * 20_000}}], ["file", "messages", 0, "metadata"]),
        ([{"metadata": {"a": {MARK: [None, {"b": "\x00"}]}}}], None),
        ([{"reactions": {f"{MARK} \n": ["rosa"]}}], ["file", "messages", 0, "reactions"]),
        ([{"attachments": [{"id": MARK}]}], ["file", "messages", 0, "attachments"]),
        ([{"citations": [{"index": MARK}]}], ["file", "messages", 0, "citations"]),
        ([{"parent_id": MARK}], ["file", "messages", 0, "parent_id"]),
    ],
)
def test_a_message_that_is_not_sound_refuses_the_file(take: Take, messages: list[Json], place: list[str]) -> None:
    problem = refusal(take, exported(*messages))
    assert problem.status == 422
    assert problem.errors
    if place is not None:
        assert problem.errors[0].loc == place


@pytest.mark.parametrize(
    "change",
    [
        {"format": MARK},
        {"version": 2},
        {"version": "1"},
        {"session": MARK},
        {"session": {"title": "x" * 201}},
        {"session": {"title": "a", "settings": {"temperature": 9}}},
        {"session": {"title": "a", "approval_mode": MARK}},
        {"session": {"title": "a", "bot_id": MARK}},
        {"messages": MARK},
        {"messages": [MARK]},
        {"messages": [[]]},
        {"revisions": [{"message_id": ONE, "revision": 1, "content": "", "written_at": MOMENT, "replaced_at": MOMENT}]},
        {"mapping": {"a": {"parent": None, "message": None}}},
    ],
)
def test_a_session_that_is_not_sound_refuses_the_file(take: Take, change: Json) -> None:
    assert refusal(take, exported({"content": "Hello"}) | change).status == 422


def test_a_session_without_its_parts_is_refused(take: Take) -> None:
    for name in ("format", "version", "session", "messages"):
        file = exported({"content": "Hello"})
        del file[name]
        refusal(take, file)


def test_there_may_be_so_many_messages(take: Take) -> None:
    messages = [{"content": str(number)} for number in range(10)]
    assert take(exported(*messages), max_messages=10)
    refusal(take, exported(*messages), max_messages=9)
    refusal(take, chatgpt({str(n): node("a", None) for n in range(10)}, "1"), max_messages=9)


# -- ChatGPT --------------------------------------------------------------------------------------------------


def test_the_branch_shown_last_is_the_conversation(take: Take) -> None:
    [(told, session, messages, _)] = take([a_tree()])

    assert (told.source, told.source_id, session["title"]) == (ImportSource.CHATGPT, "tides-1", "Tides")
    assert [(row["role"], row["content"], row["parent_seq"]) for row in messages] == [
        ("user", "When is low tide in Husum?", None),
        ("assistant", "At seven.", 1),
        ("user", "Thanks!", None),
    ]
    assert (told.left_out.other_branches, told.left_out.hidden) == (2, 1)
    assert (messages[1]["provider"], messages[1]["model"]) == ("openai", "gpt-4o")
    assert messages[0]["created_at"] == "2023-11-14T22:13:20.250000+00:00"


def test_without_a_current_node_the_last_leaf_is_shown(take: Take) -> None:
    for wrong in (None, "nowhere", 5):
        [(_, _, messages, _)] = take([a_tree() | {"current_node": wrong}])
        assert messages[-1]["content"] == "Thanks!"


def test_all_kinds_of_content(take: Take) -> None:
    contents: list[Json] = [
        {"content_type": "text", "parts": ["one", "", "two"]},
        {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "see this"]},
        {"content_type": "multimodal_text", "parts": [{"content_type": "audio_transcription", "text": "spoken"}]},
        {"content_type": "code", "language": "python", "text": "print(1)"},
        {"content_type": "execution_output", "text": "1"},
        {"content_type": "text", "parts": [""]},
        {"content_type": "thoughts", "thoughts": [{"content": "hm"}]},
        {"content_type": "text", "parts": "no list"},
        {},
        {"content_type": "text", "parts": ["a\x00b"]},
    ]
    nodes = {
        str(number): node(
            "x", str(number - 1) if number else None, "tool" if number == 4 else "assistant", content=content
        )
        for number, content in enumerate(contents)
    }
    [(told, _, messages, _)] = take([chatgpt(nodes, str(len(nodes) - 1))])

    assert [row["content"] for row in messages] == [
        "one\n\ntwo",
        "see this",
        "spoken",
        "```python\nprint(1)\n```",
        "1",
        "a\ufffdb",
    ]
    assert messages[4]["role"] == "tool"
    assert (told.left_out.unsupported, told.left_out.empty) == (3, 2)


@pytest.mark.parametrize("moment", [None, True, "2023", -1, 1e300, 10**18])
def test_a_time_that_is_none_is_the_conversations(take: Take, moment: object) -> None:
    [(_, session, messages, _)] = take([chatgpt({"a": node("x", None, create_time=moment)}, "a")])
    assert messages[0]["created_at"] == session["created_at"] == "2023-11-14T22:13:20+00:00"


def test_titles_are_made_to_fit(take: Take) -> None:
    for title, shown in ((None, "Imported conversation"), (" a\n\x00b ", "a \ufffdb"), ("x" * 500, "x" * 200)):
        [(_, session, _, _)] = take([a_tree() | {"title": title}])
        assert session["title"] == shown


@pytest.mark.parametrize("start", ["a", "c", None])
def test_a_circle_is_refused_wherever_it_is(take: Take, start: str | None) -> None:
    nodes = {"a": node("1", "b"), "b": node("2", "a"), "c": node("3", None)}
    problem = refusal(take, [chatgpt(nodes, start)])
    assert problem.errors
    assert problem.errors[0].type == "cycle"
    refusal(take, [chatgpt({"a": node("1", "a")}, "a")])


def test_a_long_branch_is_no_circle_and_no_deep_recursion(take: Take) -> None:
    nodes = {str(n): node("x", str(n - 1) if n else None) for n in range(5_000)}
    [(told, *_)] = take([chatgpt(nodes, "4999")], max_messages=5_000)
    assert told.messages == 5_000


def test_a_conversation_in_which_nothing_was_said_is_told(take: Take) -> None:
    [(told, *_)] = take([chatgpt({"root": node(None, None)}, "root")])
    assert told.messages == 0


def test_what_is_not_looked_at_may_be_anything(take: Take) -> None:
    tree = a_tree() | {"plugin_ids": [{"a": [1, 2, {"b": None}]}], "moderation_results": [], "format": None}
    tree["mapping"]["first"]["message"]["metadata"]["citations"] = [{"n": [n]} for n in range(100)]
    [(_, _, messages, _)] = take([tree])
    assert len(messages) == 3


# -- hostile files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   ",
        b"null",
        b"1",
        b'"x"',
        b"[]",
        b"{}",
        b"[1]",
        b"[[]]",
        b"[{}]",
        b"[null]",
        b'{"mapping": []}',
        b'[{"mapping": {"a": 1}}]',
        b'[{"mapping": {}, "mapping": {}}]',
        b'{"messages": [], "messages": []}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'[{"mapping": {"a": {"message": ' + b'{"content":' * 1_000,
        b'{"format": "colloquy.session", "version": 1, "session": {}, "messages": [',
        b"\xff\xfe[\x00]\x00",
        b'{"a": \xff}',
        b"[NaN]",
        b"9" * 5_000,
        b"<html>",
        b"PK\x03\x04",
        json.dumps(exported({"content": "Hello"})).encode() + b"x",
        json.dumps([a_tree()]).encode()[:-3],
    ],
)
def test_what_is_no_conversation_is_refused(take: Take, content: bytes) -> None:
    assert refusal(take, content).status == 422


def test_a_byte_order_mark_is_passed_over(take: Take) -> None:
    assert take(b"\xef\xbb\xbf" + json.dumps(exported({"content": "Hello"})).encode())


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "0000-01-01T00:00:00Z"])
def test_a_moment_at_the_ends_of_the_calendar_refuses_the_file(take: Take, moment: str) -> None:
    error = refusal(take, exported({"created_at": moment}))
    assert error.errors
    assert error.errors[0].loc == ["file", "messages", 0, "created_at"]


def test_a_title_that_cannot_be_seen_is_none(take: Take) -> None:
    [(conversation, _, _, _)] = take(exported({}, title="  "))
    assert conversation.title == "Imported conversation"


def test_what_is_said_against_a_file_is_said_once(take: Take) -> None:
    assert str(refusal(take, b"null").detail).count("Nothing was imported.") == 1
