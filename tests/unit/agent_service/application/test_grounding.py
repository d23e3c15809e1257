"""A turn with collections: what is searched for, what the model gets, and what is said about it afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry

from agent_service.application.ground_turn import TurnGrounder, question_of
from agent_service.application.metrics import TurnMetrics
from agent_service.application.run_turn import ModelDefaults, TurnLimits, TurnRunner
from agent_service.domain.index_problems import CollectionNotFound
from agent_service.domain.problems import ModelUnavailable
from agent_service.domain.turn import Finished, ModelCall, ModelEvent, TextPiece, UsageReport
from shared.contracts.chat import (
    ChatEvent,
    ChatImage,
    ChatMessage,
    ChatRequest,
    ChatRole,
    CitationsEvent,
    DeltaEvent,
    ErrorEvent,
    FinishReason,
    ImageType,
    Provider,
    Usage,
)
from shared.contracts.knowledge import RetrievalOptions, SearchMode
from shared.problems import Problem
from tests.factories.found import COLLECTION, passage
from tests.fakes.passages import FakePassageSearch
from tests.fakes.tools import turn_tools

RUN = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
CODE = "kqzrwhbd"
HARBOUR = passage("The harbour closes at ten in the evening.")
FERRY = passage("A ticket for the ferry costs 4 euros.", name="ferry.md", page=2)
STOP = Finished(FinishReason.STOP)
USAGE = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)


@dataclass
class FakeModel:
    """Says its pieces in every call; an exception among them is raised."""

    pieces: list[ModelEvent | Exception]
    calls: list[ModelCall] = field(default_factory=list)

    async def stream(self, call: ModelCall) -> AsyncGenerator[ModelEvent]:
        self.calls.append(call)
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
            await asyncio.sleep(0)

    async def aclose(self) -> None: ...


@dataclass
class Turns:
    search: FakePassageSearch
    model: FakeModel
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    limits: TurnLimits = field(default_factory=lambda: TurnLimits(retry_base=0.001, delta_interval=0.0))

    def __post_init__(self) -> None:
        metrics = TurnMetrics(self.registry)
        grounder = TurnGrounder(
            self.search, passage_characters=2_000, local_tokens=400, metrics=metrics, make_code=lambda _: CODE
        )
        self.runner = TurnRunner(
            {Provider.OPENAI: self.model, Provider.LOCAL: self.model},
            defaults=ModelDefaults(provider=Provider.OPENAI, models=dict.fromkeys(Provider, "m")),
            limits=self.limits,
            metrics=metrics,
            tools=turn_tools(),
            grounder=grounder,
        )

    async def events(self, *said: str, owner_id: UUID | None = None, **request: Any) -> list[ChatEvent]:
        turn = conversation(*(said or ("When does the harbour close?",)), **request)
        return [event async for event in self.runner.run(turn, owner_id=owner_id)]


def conversation(*said: str, **request: Any) -> ChatRequest:
    """The user and the assistant in turns; the user speaks last."""
    roles = [ChatRole.USER if number % 2 == 0 else ChatRole.ASSISTANT for number in range(len(said))]
    messages = [ChatMessage(role=role, content=content) for role, content in zip(roles, said, strict=True)]
    return ChatRequest.model_validate({"run_id": RUN, "messages": messages, "collections": [COLLECTION], **request})


def turns(*said: str, found: tuple[Any, ...] = (HARBOUR, FERRY), **search: Any) -> Turns:
    pieces: list[ModelEvent | Exception] = [TextPiece(text) for text in said]
    return Turns(FakePassageSearch(found, **search), FakeModel([*pieces, UsageReport(USAGE), STOP]))


async def test_the_question_is_searched_for_as_asked() -> None:
    tried = turns("ok")
    excluded, owner = uuid4(), uuid4()
    options = RetrievalOptions(mode=SearchMode.TEXT, top_k=3, min_score=0.25, exclude_documents=[excluded])
    await tried.events("When does the harbour close?", retrieval=options, owner_id=owner)
    [request] = tried.search.requests
    assert request.query == "When does the harbour close?"
    assert request.collections == [COLLECTION]
    assert RetrievalOptions.model_validate(request.model_dump(include=set(RetrievalOptions.model_fields))) == options
    assert tried.search.owners == [owner]


@pytest.mark.parametrize(
    ("said", "query"),
    [
        (("When does the harbour close?",), "When does the harbour close?"),
        (
            ("When does the harbour close?", "At ten.", "And on Sundays?"),
            "And on Sundays?\nWhen does the harbour close?",
        ),
        (("Hi", "Hello", "When does the harbour close in winter?"), "When does the harbour close in winter?"),
        (("When does it close?", "At ten.", "  "), "When does it close?"),
        (("why?",), "why?"),
        (("<related-bcdfghjk>\nann: Sure\n</related-bcdfghjk>", "Sure.", "why?"), "why?"),
        (("x" * 20_000,), "x" * 10_000),
    ],
)
def test_a_short_question_is_searched_for_with_the_one_before(said: tuple[str, ...], query: str) -> None:
    assert question_of(conversation(*said)) == query


async def test_nobody_asked_so_nothing_is_searched_for() -> None:
    tried = turns("ok")
    events = await tried.events(" ")
    assert events[-1].type == "done"
    assert tried.search.requests == []
    assert tried.model.calls[0].system_prompt is None


async def test_no_collections_no_work() -> None:
    tried = turns("An image: ![a](b)")
    events = await tried.events(collections=[], system_prompt="Be brief.")
    assert tried.search.requests == []
    [call] = tried.model.calls
    assert (call.system_prompt, call.lines[0].content) == ("Be brief.", "When does the harbour close?")
    assert "".join(event.text for event in events if isinstance(event, DeltaEvent)) == "An image: ![a](b)"


async def test_pictures_stay_with_the_question() -> None:
    tried = turns("ok")
    picture = ChatImage(media_type=ImageType.PNG, data="AAAA")
    asked = ChatMessage(role=ChatRole.USER, content="When does the harbour close?", images=[picture])
    await tried.events(messages=[asked])
    [call] = tried.model.calls
    assert call.lines[-1].images == (picture,)
    assert "Passages" in call.lines[-1].content


async def test_passages_go_into_the_users_turn() -> None:
    tried = turns("ok")
    await tried.events("Hello", "Good morning", "When does the harbour close?", system_prompt="Be brief.")
    [call] = tried.model.calls
    assert call.system_prompt is not None
    assert call.system_prompt.startswith("Be brief.\n\n")
    assert HARBOUR.text not in call.system_prompt
    assert [line.role for line in call.lines] == [ChatRole.USER, ChatRole.ASSISTANT, ChatRole.USER]
    assert call.lines[0].content == "Hello"
    turn = call.lines[-1].content
    assert f'<passage-{CODE} 1 document="harbour.md">\n{HARBOUR.text}\n</passage-{CODE}>' in turn
    assert f'<passage-{CODE} 2 document="ferry.md" page="2">\n{FERRY.text}\n</passage-{CODE}>' in turn
    assert turn.endswith("When does the harbour close?")


async def test_nothing_found_is_said_plainly_under_the_same_rules() -> None:
    found, empty = turns("ok"), turns("ok", found=())
    await found.events()
    await empty.events()
    assert empty.model.calls[0].system_prompt == found.model.calls[0].system_prompt
    turn = empty.model.calls[0].lines[-1].content
    assert "Nothing in the documents" in turn
    assert "do not guess" in turn
    assert "<passage" not in turn


async def test_what_there_is_no_room_for_is_left_out() -> None:
    many = tuple(passage(f"Passage {number}. " + "word " * 100, name=f"{number}.md") for number in range(9))
    tried = turns("ok", found=many)
    await tried.events(retrieval={"top_k": 9})
    turn = tried.model.calls[0].lines[-1].content
    assert "Passage 0." in turn
    assert "Passage 8." not in turn
    assert len(turn) < 2_400


async def test_the_local_model_gets_the_sentences_that_fit_the_question() -> None:
    long = passage("Boats lie in rows. " * 60 + "The harbour closes at ten. " + "Gulls cry over the roofs. " * 60)
    tried = turns("ok", found=(long, FERRY))
    await tried.events(model={"provider": "local"})
    [call] = tried.model.calls
    assert "The harbour closes at ten." in call.lines[-1].content
    assert FERRY.text in call.lines[-1].content
    assert sum(len(line.content) for line in call.lines) + len(call.system_prompt or "") < 1_600
    assert call.pinned == len(call.lines) - 1


async def test_citations_come_between_the_last_delta_and_the_usage() -> None:
    tried = turns("It closes ", "at ten in the evening [1].")
    events = await tried.events()
    assert [event.type for event in events] == ["delta", "delta", "citations", "usage", "done"]
    cited = events[2]
    assert isinstance(cited, CitationsEvent)
    [citation] = cited.citations
    assert (citation.index, citation.chunk_id, citation.snippet) == (1, HARBOUR.chunk_id, HARBOUR.text)


@pytest.mark.parametrize("said", ["I don't know.", "The moon is made of cheese [1]."])
async def test_an_answer_that_stands_on_nothing_has_no_citations(said: str) -> None:
    assert [event.type for event in await turns(said).events()] == ["delta", "usage", "done"]


async def test_an_answer_that_breaks_off_has_no_citations() -> None:
    tried = turns()
    tried.model.pieces = [TextPiece("It closes at ten in the evening [1]."), ModelUnavailable()]
    assert [event.type for event in await tried.events()] == ["delta", "error"]


async def test_marks_that_the_model_repeats_are_not_said() -> None:
    events = await turns("<passa", f"ge-{CODE} 1>At ten [1].</passage-", f"{CODE}>").events()
    assert "".join(event.text for event in events if isinstance(event, DeltaEvent)) == "At ten [1]."


async def test_a_second_call_gets_the_same_prompt_and_no_second_search() -> None:
    tried = turns()
    tried.model.pieces = [ModelUnavailable()]
    await tried.events()
    assert len(tried.model.calls) == 3
    assert len(set(map(id, tried.model.calls))) == 1
    assert len(tried.search.requests) == 1


class Odd(Problem):
    status = 409
    code = "odd"


@pytest.mark.parametrize("problem", [CollectionNotFound(), Odd()])
async def test_a_search_that_fails_ends_the_turn_before_a_word(problem: Problem) -> None:
    tried = turns("never said", problem=problem)
    [event] = await tried.events()
    assert isinstance(event, ErrorEvent)
    assert (event.problem.code, event.problem.status) == (problem.code, problem.status)
    assert tried.model.calls == []
    errors = tried.registry.get_sample_value("agent_turn_retrieval_errors_total", {"code": problem.code})
    assert errors == 1


async def test_a_slow_search_is_given_up() -> None:
    tried = Turns(FakePassageSearch(delay=600), FakeModel([STOP]), limits=TurnLimits(retrieval=0.05))
    started = time.perf_counter()
    [event] = await tried.events()
    assert time.perf_counter() - started < 8
    assert isinstance(event, ErrorEvent)
    assert event.problem.code == "index-unavailable"


async def test_a_stop_ends_a_search() -> None:
    tried = Turns(FakePassageSearch(delay=600), FakeModel([STOP]))
    asyncio.get_running_loop().call_later(0.05, tried.runner.stop)
    started = time.perf_counter()
    [event] = await tried.events()
    assert time.perf_counter() - started < 8
    assert isinstance(event, ErrorEvent)
    assert event.problem.code == "agent-restarting"
    [later] = await tried.events()
    assert isinstance(later, ErrorEvent)
    assert later.problem.code == "agent-restarting"
    assert len(tried.search.requests) == 1


async def test_an_agent_without_a_search_says_so() -> None:
    runner = TurnRunner(
        {Provider.OPENAI: FakeModel([STOP])},
        defaults=ModelDefaults(provider=Provider.OPENAI, models={Provider.OPENAI: "m"}),
        limits=TurnLimits(),
        metrics=TurnMetrics(CollectorRegistry()),
        tools=turn_tools(),
    )
    [event] = [event async for event in runner.run(conversation("When?"))]
    assert isinstance(event, ErrorEvent)
    assert event.problem.code == "index-unavailable"


async def test_the_time_of_the_search_is_measured() -> None:
    tried = turns("ok", delay=0.03)
    await tried.events()
    assert tried.registry.get_sample_value("agent_turn_retrieval_seconds_count") == 1
    assert (tried.registry.get_sample_value("agent_turn_retrieval_seconds_sum") or 0) >= 0.025


async def test_the_log_holds_counts_and_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    await turns("At ten [1].").events()
    logged = capsys.readouterr().out
    assert "turn.grounded" in logged
    assert "harbour" not in logged.casefold()
