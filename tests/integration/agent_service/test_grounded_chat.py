"""`POST /v1/chat` with collections: through the real index, before the scripted model."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.contracts.chat import ChatAnswer, CitationsEvent, ErrorEvent
from tests.factories.injections import FACT, INJECTIONS, MARKER, QUESTION
from tests.factories.passages import Library, open_library
from tests.factories.turns import events_in, text_of, turn
from tests.fakes.scripted_model import ScriptedModelServer
from tests.stores import Database

JSON = {"Accept": "application/json"}
COLLECTION = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
PROVIDERS = ["openai", "google_genai"]


@pytest.fixture
async def library(
    clean_database: Database, tmp_path: Path, scripted_model: ScriptedModelServer
) -> AsyncGenerator[Library]:
    """The same as its namesake, with both remote providers at the scripted model."""
    scripted_model.forget()
    async with open_library(
        clean_database.agent_url,
        data_dir=tmp_path,
        default_provider="openai",
        openai_api_key="openai-key",
        openai_base_url=scripted_model.openai_url,
        google_api_key="google-key",
        google_gemini_base_url=scripted_model.gemini_url,
    ) as library:
        yield library


def grounded(content: str, provider: str = "openai", **request: Any) -> dict[str, Any]:
    body = turn(content, provider=provider)
    return {**body, "collections": [str(COLLECTION)], "retrieval": {"top_k": 3}, **request}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_and_what_it_stands_on(library: Library, provider: str) -> None:
    document = uuid4()
    await library.put(COLLECTION, document, [FACT, "Bicycles are for rent."], name="harbour.md")
    body = grounded(f'{QUESTION} [[script text="At ten in the evening [1]."]]', provider)
    answer = await library.client.post("/v1/chat", json=body)
    events = events_in(answer.text)
    assert [event.type for event in events if event.type != "delta"] == ["citations", "usage", "done"]
    assert text_of(events) == "At ten in the evening [1]."
    [cited] = [event for event in events if isinstance(event, CitationsEvent)]
    [citation] = cited.citations
    assert (citation.document_id, citation.document_name, citation.snippet) == (document, "harbour.md", FACT)

    once = await library.client.post("/v1/chat", json=body, headers=JSON)
    assert ChatAnswer.model_validate_json(once.content).citations == cited.citations


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_the_provider_is_sent(library: Library, scripted_model: ScriptedModelServer, provider: str) -> None:
    await library.put(COLLECTION, uuid4(), [FACT])
    await library.client.post("/v1/chat", json=grounded(QUESTION, provider, system_prompt="Be brief."), headers=JSON)
    body = scripted_model.stats()["requests"][0]["body"]
    if provider == "openai":
        system, user = (message["content"] for message in body["messages"])
    else:
        [system] = [part["text"] for part in body["systemInstruction"]["parts"]]
        [user] = [part["text"] for content in body["contents"] for part in content["parts"]]
    assert system.startswith("Be brief.")
    assert FACT not in system
    assert FACT in user
    assert user.endswith(QUESTION)
    assert "tools" not in body


async def test_an_empty_collection_has_nothing_to_say(library: Library) -> None:
    answer = await library.client.post("/v1/chat", json=grounded(QUESTION), headers=JSON)
    said = ChatAnswer.model_validate_json(answer.content)
    assert "Nothing in the documents fits the question" in said.text
    assert said.citations == []


async def test_documents_that_are_being_deleted_are_not_shown(library: Library) -> None:
    gone = uuid4()
    await library.put(COLLECTION, gone, [FACT])
    request = grounded(QUESTION, retrieval={"exclude_documents": [str(gone)]})
    answer = await library.client.post("/v1/chat", json=request, headers=JSON)
    assert FACT not in answer.json()["text"]


async def test_without_a_database_the_turn_fails_before_a_word(tmp_path: Path) -> None:
    async with open_library(None, data_dir=tmp_path, default_provider="openai", openai_api_key="k") as library:
        answer = await library.client.post("/v1/chat", json=grounded(QUESTION), headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (503, "index-unavailable")
        [event] = events_in((await library.client.post("/v1/chat", json=grounded(QUESTION))).text)
        assert isinstance(event, ErrorEvent)


async def test_injected_documents_do_not_reach_the_systems_voice(
    library: Library, scripted_model: ScriptedModelServer
) -> None:
    """All of them at once, through the index and over the wire; the model repeats whatever it is told."""
    for number, injection in enumerate(INJECTIONS):
        # No store takes NUL, and no name is longer; extraction sees to both.
        await library.put(
            COLLECTION, uuid4(), [injection.text.replace("\x00", "")], name=f"{number} {injection.name}"[:255]
        )
    body = grounded(QUESTION, system_prompt="The safe's number is 5512.", retrieval={"top_k": 100})
    answer = await library.client.post("/v1/chat", json=body, headers=JSON)
    said = answer.json()["text"]
    [system, user] = scripted_model.stats()["requests"][0]["body"]["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert MARKER not in system["content"]
    assert MARKER in user["content"]
    assert MARKER in said, "it is an echo"
    assert "5512" not in said
    code = user["content"].split("with the code ", 1)[1].split(":", 1)[0]
    assert code in user["content"]
    assert code not in said
    assert "![" not in said
