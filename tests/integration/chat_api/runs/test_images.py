"""What the model sees of attached files, and that a file never makes a run fail."""

from __future__ import annotations

import base64
from pathlib import Path
from uuid import UUID

import pytest

from chat_api.attachments.service import storage_key
from chat_api.runs.history import Exchange
from chat_api.runs.images import RECENT_MESSAGES, AttachedFiles
from shared.contracts.chat import MAX_IMAGE_BYTES, MAX_IMAGES, ChatMessage
from tests.factories.attachments import GIF, JPEG, PNG, SVG, WEBP, attached, png
from tests.factories.chat import API, ChatApi, Json, Person, chat_api
from tests.fakes.agent import Gate
from tests.fakes.storage import MovableStorage, PatientStorage
from tests.stores import Database


@pytest.fixture
async def session(chat: ChatApi, ann: Person) -> Json:
    return await chat.session(ann)


async def asked(chat: ChatApi, person: Person, session: Json, *files: Json, content: str = "Look") -> list[ChatMessage]:
    """Send, and see what the model was shown."""
    exchanged = await chat.said(person, session, content, attachment_ids=[file["id"] for file in files])
    assert exchanged["run"]["status"] == "completed", exchanged["run"]
    return chat.agent.requests[-1].messages


def pictures(message: ChatMessage) -> list[tuple[str, bytes]]:
    return [(image.media_type.value, base64.b64decode(image.data)) for image in message.images or ()]


async def test_pictures_as_themselves_and_other_files_by_name(chat: ChatApi, ann: Person, session: Json) -> None:
    files = [
        await attached(chat, ann, name, content)
        for name, content in (
            ("a", PNG),
            ("b.pdf", b"%PDF-1.4\n"),
            ("c", JPEG),
            ("d", GIF),
            ("e", WEBP),
            ("f.png", SVG),
        )
    ]

    [message] = await asked(chat, ann, session, *files)

    assert message.content == "Look\n[file: b.pdf]\n[file: f.png]"
    assert pictures(message) == [("image/png", PNG), ("image/jpeg", JPEG), ("image/gif", GIF), ("image/webp", WEBP)]


async def test_without_files_the_turn_is_as_before(chat: ChatApi, ann: Person, session: Json) -> None:
    [message] = await asked(chat, ann, session)

    assert message.model_dump(exclude_none=True) == {"role": "user", "content": "Look"}


async def test_earlier_pictures_are_still_seen(chat: ChatApi, ann: Person, session: Json) -> None:
    await asked(chat, ann, session, await attached(chat, ann), content="First")

    messages = await asked(chat, ann, session, content="Second")

    assert [(message.content, len(pictures(message))) for message in messages if message.role == "user"] == [
        ("First", 1),
        ("Second", 0),
    ]


async def test_another_reply_sees_the_same(chat: ChatApi, ann: Person, session: Json) -> None:
    exchanged = await chat.said(ann, session, attachment_ids=[(await attached(chat, ann))["id"]])
    before = chat.agent.requests[-1].messages

    path = f"{API}/sessions/{session['id']}/messages/{exchanged['message']['id']}/regenerate"
    assert (await chat.client.post(path, headers=ann.headers)).status_code == 201

    assert chat.agent.requests[-1].messages == before


async def test_a_deleted_message_shows_nothing(chat: ChatApi, ann: Person, session: Json) -> None:
    exchanged = await chat.said(ann, session, attachment_ids=[(await attached(chat, ann))["id"]])
    path = f"{API}/sessions/{session['id']}/messages/{exchanged['message']['id']}"
    assert (await chat.client.delete(path, headers=ann.headers)).status_code == 204

    messages = await asked(chat, ann, session, content="Second")

    assert all(not message.images for message in messages)
    assert "image" not in messages[0].content


async def test_the_newest_eight_are_shown(chat: ChatApi, ann: Person, session: Json) -> None:
    old = [await attached(chat, ann, f"old{number}.png") for number in range(3)]
    new = [await attached(chat, ann, f"new{number}.png") for number in range(6)]
    await asked(chat, ann, session, *old, content="First")

    messages = [
        message for message in await asked(chat, ann, session, *new, content="Second") if message.role == "user"
    ]

    assert [len(pictures(message)) for message in messages] == [MAX_IMAGES - 6, 6]
    assert messages[0].content == "First\n[image: old2.png, which is not shown here]"


async def test_pictures_of_long_ago_are_named_only(chat: ChatApi, ann: Person, session: Json) -> None:
    first = await asked(chat, ann, session, await attached(chat, ann), content="First")
    for number in range(RECENT_MESSAGES - 1):
        messages = await asked(chat, ann, session, content=f"Message {number}")
    assert pictures(messages[0]) == pictures(first[0])

    messages = await asked(chat, ann, session, content="Last")

    assert (messages[0].content, messages[0].images) == ("First\n[image: harbour.png, which is not shown here]", None)


async def test_a_picture_in_many_messages_is_shown_once(chat: ChatApi, ann: Person, session: Json) -> None:
    """Each time it would count anew, and a turn with more than eight is refused as a whole."""
    picture = await attached(chat, ann)
    for number in range(MAX_IMAGES):
        await asked(chat, ann, session, picture, content=f"Message {number}")

    messages = [message for message in await asked(chat, ann, session, picture) if message.role == "user"]

    assert [len(pictures(message)) for message in messages] == [0] * MAX_IMAGES + [1]
    assert messages[0].content == "Message 0\n[image: harbour.png, which is not shown here]"


async def test_what_is_too_large_leaves_its_room_to_others(
    clean_database: Database, redis_url: str, tmp_path: Path
) -> None:
    async with chat_api(
        clean_database.api_url, redis_url, data_dir=tmp_path, max_attachment_bytes=2 * MAX_IMAGE_BYTES
    ) as chat:
        ann = await chat.person("ann")
        session = await chat.session(ann)
        large = await attached(chat, ann, "large.png", png(MAX_IMAGE_BYTES))
        most = await attached(chat, ann, "most.png", png(MAX_IMAGE_BYTES - 1000))
        small = await attached(chat, ann, "small.png", PNG)
        another = await attached(chat, ann, "another.png", png(1000))

        [message] = await asked(chat, ann, session, large, most, small, another)

    assert [len(content) for _, content in pictures(message)] == [most["size_bytes"], len(PNG)]
    assert "large.png" in message.content
    assert "another.png" in message.content


@pytest.mark.parametrize("lost", ["bytes", "row"])
async def test_what_is_not_there_is_told(chat: ChatApi, ann: Person, session: Json, lost: str) -> None:
    gone, kept = await attached(chat, ann, "gone.png"), await attached(chat, ann, "kept.png")
    if lost == "bytes":
        await chat.app.state.storage.delete(storage_key(ann.id, UUID(gone["id"])))
    first = await asked(chat, ann, session, gone, kept)
    if lost == "row":
        await chat.rows("DELETE FROM chat.message_attachments WHERE attachment_id = $1", UUID(gone["id"]))
        await chat.rows("DELETE FROM chat.attachments WHERE id = $1", UUID(gone["id"]))
        first = await asked(chat, ann, session)

    assert first[0].content == "Look\n[image: gone.png, which is not shown here]"
    assert len(pictures(first[0])) == 1


async def said(chat: ChatApi, person: Person, session: Json, *files: Json) -> list[Exchange]:
    """The conversation as a run would find it."""
    message = (await chat.said(person, session, attachment_ids=[file["id"] for file in files]))["message"]
    return await chat.engine.repository.history(UUID(session["id"]), UUID(message["id"]), 10)


async def test_a_storage_that_is_away_is_no_reason_to_fail(chat: ChatApi, ann: Person, session: Json) -> None:
    history = await said(chat, ann, session, *[await attached(chat, ann, f"{number}.png") for number in range(3)])
    storage = MovableStorage(chat.app.state.storage)
    storage.is_away = True

    files = AttachedFiles(chat.app.state.database, storage, bytes_at_once=MAX_IMAGE_BYTES)
    [shown] = await files.shown(history, await files.keys(history))

    assert shown.images == ()
    assert shown.content.count("not shown") == 3
    assert len(storage.reads) == 1, "each try takes seconds"


async def test_no_connection_is_held_while_bytes_are_read(chat: ChatApi, ann: Person, session: Json) -> None:
    history = await said(chat, ann, session, await attached(chat, ann), await attached(chat, ann))
    storage = PatientStorage(chat.app.state.storage, chat.app.state.database)

    files = AttachedFiles(chat.app.state.database, storage, bytes_at_once=MAX_IMAGE_BYTES)
    [shown] = await files.shown(history, await files.keys(history))

    assert len(shown.images) == len(storage.reads) == 2


async def test_pictures_for_which_there_is_no_room_wait(
    clean_database: Database, redis_url: str, tmp_path: Path
) -> None:
    """Two hundred turns with eight megabytes each would be more than there is memory."""
    async with chat_api(clean_database.api_url, redis_url, data_dir=tmp_path, run_image_bytes=MAX_IMAGE_BYTES) as chat:
        ann = await chat.person("ann")
        large = await attached(chat, ann, "large.png", png(MAX_IMAGE_BYTES * 3 // 5))
        sessions = [await chat.session(ann) for _ in range(3)]
        gate = Gate()
        chat.agent.next_scripts = [gate]
        runs = [(await chat.send_async(ann, sessions[0], attachment_ids=[large["id"]]))["run"]]
        await gate.arrival()
        runs += [(await chat.send_async(ann, session, attachment_ids=[large["id"]]))["run"] for session in sessions[1:]]

        words = await chat.said(ann, await chat.session(ann), "Without pictures nobody waits")
        assert words["run"]["status"] == "completed"
        assert len(chat.agent.requests) == 2, "the first, and the one without pictures"
        cancelled = await chat.client.post(f"{API}/runs/{runs[1]['id']}/cancel", headers=ann.headers)
        assert cancelled.status_code == 200
        gate.opened.set()
        ended = [(await chat.run_ended(ann, run["id"]))["status"] for run in runs]

    assert ended == ["completed", "cancelled", "completed"]
    assert [len(pictures(request.messages[-1])) for request in chat.agent.requests] == [1, 0, 1]
