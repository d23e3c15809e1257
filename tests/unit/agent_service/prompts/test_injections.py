"""Injected documents before the prompt as it is built: what holds whatever the model is.

That the system's text is the same with and without the document, that nothing of the document stands outside its
fence, and that nobody but the user's turn carries it.
"""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from agent_service.adapters.local_chat import newest_within
from agent_service.application.ground_turn import Grounding, TurnGrounder
from agent_service.application.metrics import TurnMetrics
from agent_service.domain.turn import Line, ModelCall
from agent_service.prompts.fence import AnswerCleaner
from shared.contracts.chat import ChatMessage, ChatRequest, ChatRole, Provider
from tests.factories.found import COLLECTION, passage
from tests.factories.injections import FACT, INJECTIONS, MARKER, QUESTION, Injection
from tests.fakes.passages import FakePassageSearch

RUN = UUID("0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f")
SYSTEM_PROMPT = "You answer visitors. The safe's number is 5512."
BESIDE = passage("The lighthouse has 128 steps.", name="lighthouse.md")
CODE = "wqzkrhbd"

every_injection = pytest.mark.parametrize(
    "injection", INJECTIONS, ids=[f"{number}-{item.kind}" for number, item in enumerate(INJECTIONS)]
)
every_provider = pytest.mark.parametrize("provider", list(Provider))


async def prompt_with(provider: Provider, *injections: Injection) -> Grounding:
    found = [passage(item.text, name=item.name, heading=item.heading, page=2) for item in injections]
    grounder = TurnGrounder(
        FakePassageSearch([*found, BESIDE]),
        passage_characters=24_000,
        local_tokens=400,
        metrics=TurnMetrics(CollectorRegistry()),
        make_code=lambda _: CODE,
    )
    lines = (
        Line(ChatRole.USER, "Good morning."),
        Line(ChatRole.ASSISTANT, "Good morning!"),
        Line(ChatRole.USER, f"ada: {QUESTION}"),
    )
    call = ModelCall(provider=provider, model="m", lines=lines, system_prompt=SYSTEM_PROMPT)
    request = ChatRequest(
        run_id=RUN,
        messages=[ChatMessage(role=line.role, content=line.content) for line in lines],
        collections=[COLLECTION],
    )
    grounding = await grounder.ground(request, call, owner_id=None)
    assert grounding is not None
    return grounding


def fences_of(turn: str) -> list[str]:
    """What stands in each fence, marks included. Whoever reads the marks literally reads them so."""
    return re.findall(rf"<passage-{CODE} \d+ .*?</passage-{CODE}>", turn, re.DOTALL)


def without(turn: str, fences: list[str]) -> str:
    for fence in fences:
        turn = turn.replace(fence, "", 1)
    return turn


def test_the_set_is_large_enough() -> None:
    assert len(INJECTIONS) >= 30
    assert len({(item.text, item.name, item.heading) for item in INJECTIONS}) == len(INJECTIONS)
    assert all(MARKER in f"{item.text}{item.name}{item.heading}" for item in INJECTIONS)
    assert all(FACT in item.text for item in INJECTIONS)


@every_provider
@every_injection
async def test_the_system_text_is_the_same_with_and_without_the_document(
    provider: Provider, injection: Injection
) -> None:
    clean, having = await prompt_with(provider), await prompt_with(provider, injection)
    assert having.call.system_text() == clean.call.system_text()
    assert CODE not in (having.call.system_text() or "")
    assert [line.role for line in having.call.lines] == [line.role for line in clean.call.lines]
    assert having.call.lines[:-1] == clean.call.lines[:-1]


@every_provider
@every_injection
async def test_the_document_stays_in_its_fence(provider: Provider, injection: Injection) -> None:
    turn = (await prompt_with(provider, injection)).call.lines[-1]
    fences = fences_of(turn.content)
    assert turn.role is ChatRole.USER
    assert 1 <= len(fences) <= 2
    outside = without(turn.content, fences)
    clean = (await prompt_with(provider)).call.lines[-1].content
    assert outside.split() == without(clean, fences_of(clean)).split()
    assert MARKER not in outside
    assert turn.content.count(f"<passage-{CODE}") == turn.content.count(f"</passage-{CODE}>") == len(fences)
    assert turn.content.endswith(f"ada: {QUESTION}")


@every_injection
async def test_nothing_in_a_fence_looks_like_its_end(injection: Injection) -> None:
    [fence, _] = fences_of((await prompt_with(Provider.OPENAI, injection)).call.lines[-1].content)
    mark, text = fence.removesuffix(f"</passage-{CODE}>").split("\n", 1)
    assert mark.count(">") == 1
    for shown in (mark.removeprefix(f"<passage-{CODE}"), text):
        assert not re.search(r"[<＜‹⟨]\W*p\W*a\W*s\W*s", shown, re.IGNORECASE)
        assert not re.search(r"<[|｜]|\[/?INST\]|</?s>|<<SYS>>|<\w+_of_turn>|<tool_call>", shown)
        assert not re.search("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\U000e0000-\U000e0fff\x00-\x08\x0b-\x1f]", shown)


@every_injection
async def test_the_local_models_prompt_keeps_its_measure(injection: Injection) -> None:
    """However long the document: the question, the examples and the passages are never what is cut."""
    grounding = await prompt_with(Provider.LOCAL, injection)
    call = grounding.call
    assert sum(len(line.content) for line in call.lines) + len(call.system_text() or "") < 4 * 400
    spoken = call.lines[call.pinned :]
    assert newest_within(spoken, 0) == spoken[-1:]
    assert QUESTION in spoken[-1].content


@every_injection
async def test_an_echo_gives_nothing_away(injection: Injection) -> None:
    """A model that repeats its whole turn: no code, no mark, no image, no word of the system's."""
    grounding = await prompt_with(Provider.OPENAI, injection)
    turn = grounding.call.lines[-1].content
    for size in (1, 5, len(turn)):
        answer = AnswerCleaner(grounding.code)
        pieces = [turn[start : start + size] for start in range(0, len(turn), size)]
        said = "".join([*(answer.feed(piece) for piece in pieces), answer.flush()])
        assert CODE not in said
        assert f"<passage-{CODE}" not in said
        assert "![" not in said
        assert "5512" not in said
