"""Documents and storage: counted from what is there, so that deleting helps; exact when several are stored at once."""

from __future__ import annotations

import asyncio

import httpx

from tests.factories.chat import API, ChatApi, Json, Person, problem
from tests.factories.plans import WithPlans, used


async def attach(chat: ChatApi, person: Person, size: int, name: str = "a.txt") -> httpx.Response:
    return await chat.client.post(f"{API}/attachments", files={"file": (name, b"x" * size)}, headers=person.headers)


async def upload(chat: ChatApi, person: Person, bot: Json, *texts: str) -> httpx.Response:
    files = [("files", (f"{at}.md", text.encode())) for at, text in enumerate(texts)]
    return await chat.client.post(f"{API}/bots/{bot['id']}/documents", files=files, headers=person.headers)


async def stored_objects(chat: ChatApi) -> int:
    return sum([len(batch) async for batch in chat.app.state.storage.objects()])


async def test_the_document_after_the_last_is_refused_until_one_is_deleted(with_plans: WithPlans) -> None:
    async with with_plans(documents=2) as chat:
        ann = await chat.person()
        bot, other = await chat.bot(ann), await chat.bot(ann)
        first = await upload(chat, ann, bot, "one")
        await upload(chat, ann, other, "two")
        refused = await upload(chat, ann, bot, "three")
        as_text = await chat.client.post(
            f"{API}/bots/{bot['id']}/documents/text", json={"name": "t.md", "text": "three"}, headers=ann.headers
        )

        assert problem(refused) == problem(as_text) == (409, "document-quota-exceeded")
        assert await used(chat, ann, "documents") == (2, 0)
        assert (await upload(chat, ann, bot, "one")).status_code == 202, "what is there already takes no more room"
        deleted = await chat.client.delete(f"{API}/documents/{first.json()['id']}", headers=ann.headers)
        assert deleted.status_code == 204
        assert (await upload(chat, ann, bot, "three")).status_code == 202


async def test_an_upload_of_several_is_taken_whole_or_not_at_all(with_plans: WithPlans) -> None:
    async with with_plans(documents=2) as chat:
        ann = await chat.person()
        bot = await chat.bot(ann)
        before = await stored_objects(chat)

        assert problem(await upload(chat, ann, bot, "one", "two", "three")) == (409, "document-quota-exceeded")
        assert await used(chat, ann, "documents") == (0, 2)
        assert await stored_objects(chat) == before, "the bytes are gone with it"


async def test_documents_and_attachments_share_the_storage(with_plans: WithPlans) -> None:
    async with with_plans(storage_bytes=100) as chat:
        ann, bob = await chat.person("ann"), await chat.person("bob")
        bot = await chat.bot(ann)
        assert (await attach(chat, ann, 60)).status_code == 201
        assert problem(await upload(chat, ann, bot, "x" * 50)) == (409, "storage-quota-exceeded")
        assert (await upload(chat, ann, bot, "x" * 40)).status_code == 202
        before = await stored_objects(chat)

        assert problem(await attach(chat, ann, 1)) == (409, "storage-quota-exceeded")
        assert await stored_objects(chat) == before
        assert await used(chat, ann, "storage_bytes") == (100, 0)
        assert (await attach(chat, bob, 100)).status_code == 201


async def test_too_many_documents_do_not_keep_attachments_out(with_plans: WithPlans) -> None:
    async with with_plans(documents=0, storage_bytes=100) as chat:
        assert (await attach(chat, await chat.person(), 10)).status_code == 201


async def test_several_at_once_are_as_many_as_there_is_room_for(with_plans: WithPlans) -> None:
    async with with_plans(storage_bytes=50) as one, with_plans(storage_bytes=50) as other:
        ann = await one.person()
        answers = await asyncio.gather(
            *(attach((one, other)[number % 2], ann, 10, f"{number}.txt") for number in range(12))
        )

        assert sorted(answer.status_code for answer in answers) == [201] * 5 + [409] * 7
        assert await used(one, ann, "storage_bytes") == (50, 0)
