"""Finds passages for a turn, and puts them into its prompt as data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from agent_service.application.metrics import TurnMetrics
from agent_service.domain.turn import ModelCall, Quotation
from agent_service.ports.passages import PassageSearch
from agent_service.prompts.fence import new_code
from agent_service.prompts.grounding import PromptStyle, grounded, quoted, room_for
from shared.contracts.chat import QUOTATION_MARK, ChatRequest, ChatRole, Provider
from shared.contracts.knowledge import SearchRequest
from shared.logging import get_logger
from shared.problems import Problem

log = get_logger("turn")

_MAX_QUERY = 10_000
_MAX_EARLIER = 1_000
# "And on Sundays?" finds nothing by itself.
_FEW_WORDS = 5
_FEW_CHARACTERS = 60
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Grounding:
    """What one turn was given. `question` is what was searched for."""

    call: ModelCall
    question: str
    quotations: tuple[Quotation, ...]
    code: str


class TurnGrounder:
    """`passage_characters` bounds the text of passages in a prompt; for the local model, `local_tokens` bounds all."""

    def __init__(
        self,
        search: PassageSearch,
        *,
        passage_characters: int,
        local_tokens: int,
        metrics: TurnMetrics,
        make_code: Callable[[Iterable[str]], str] = new_code,
    ) -> None:
        self._search = search
        self._passage_characters = passage_characters
        self._local_tokens = local_tokens
        self._metrics = metrics
        self._make_code = make_code

    async def ground(self, request: ChatRequest, call: ModelCall, *, owner_id: UUID | None) -> Grounding | None:
        """None where nobody asked anything. Raises the `Problem` of the search."""
        question = question_of(request)
        if question is None:
            return None
        loop = asyncio.get_running_loop()
        started = loop.time()
        wanted = request.retrieval.model_dump()
        try:
            passages = await self._search.search(
                SearchRequest(collections=request.collections, query=question, **wanted), owner_id=owner_id
            )
        except Problem as problem:
            self._metrics.retrieval_failed(problem.code)
            raise
        seconds = loop.time() - started
        style = style_for(call.provider)
        room = room_for(style, call, characters=self._passage_characters, tokens=self._local_tokens)
        quotations = quoted(passages, question, room)
        code = self._make_code(texts_of(call, quotations))
        self._metrics.retrieved(seconds)
        log.info(
            "turn.grounded",
            run_id=str(request.run_id),
            collections=len(request.collections),
            found=len(passages),
            shown=len(quotations),
            milliseconds=round(seconds * 1000),
        )
        return Grounding(grounded(call, quotations, code, style), question, tuple(quotations), code)


def question_of(request: ChatRequest) -> str | None:
    """What the user said last; where that is short, what they said before as well."""
    said = [message.content.strip() for message in request.messages if message.role is ChatRole.USER]
    said = [content for content in said if content and not content.startswith(f"<{QUOTATION_MARK}")]
    if not said:
        return None
    question = said[-1]
    if len(said) > 1 and len(question) < _FEW_CHARACTERS and len(_WORD.findall(question)) < _FEW_WORDS:
        # The newest first: an encoder that cuts what is too long then cuts the other.
        question = f"{question}\n{said[-2][:_MAX_EARLIER]}"
    return question[:_MAX_QUERY]


def texts_of(call: ModelCall, quotations: Sequence[Quotation] = ()) -> list[str]:
    """Everything in the prompt that others wrote."""
    passages = [item.passage for item in quotations] + [passage for line in call.lines for passage in line.passages]
    about = [f"{passage.document_name}\n{passage.heading or ''}" for passage in passages]
    return [*(passage.text for passage in passages), *about, *(line.content for line in call.lines)]


def style_for(provider: Provider) -> PromptStyle:
    match provider:
        case Provider.LOCAL:
            return PromptStyle.BRIEF
        case Provider.GOOGLE_GENAI | Provider.OPENAI:
            return PromptStyle.FULL
        case _:
            assert_never(provider)
