"""What others wrote into one turn, as the model is shown it, and which passages of it the answer stands on.

Passages that the question came with and those that tools found are numbered through, in the order of the prompt, so
that `[3]` means one passage in the whole turn. One code marks all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from agent_service.application.ground_turn import Grounding, style_for
from agent_service.domain.citations import cite
from agent_service.domain.turn import Line, ModelCall, Quotation
from agent_service.prompts.fence import AnswerCleaner
from agent_service.prompts.grounding import PassageRoom, PromptStyle, quoted, room_in_result, rules_for_results
from agent_service.prompts.tool_results import more_passages_rule, shown_passages, shown_result, tool_rule
from shared.contracts.chat import ChatRole, Provider
from shared.contracts.knowledge import CitationData, Passage

MOST_PASSAGES = 100
"""Passages that tools may bring into one turn: what comes later is shown without numbers, and is not cited."""


class QuotedMaterial:
    """`grounding` is what the question came with, if anything; without it, `code` marks what tools find."""

    def __init__(
        self, grounding: Grounding | None, provider: Provider, *, question: str, code: str, characters: int, tokens: int
    ) -> None:
        self._style = style_for(provider)
        self._grounded = grounding is not None
        self._question = question if grounding is None else grounding.question
        self._code = code if grounding is None else grounding.code
        self._room: PassageRoom = room_in_result(self._style, characters=characters, tokens=tokens)
        self._quotations: list[Quotation] = [] if grounding is None else list(grounding.quotations)
        self._known: dict[UUID, Quotation] = {item.passage.chunk_id: item for item in self._quotations}
        self._most = len(self._quotations) + MOST_PASSAGES
        self._answers: list[AnswerCleaner] = []

    def cleaner(self) -> AnswerCleaner:
        """For what the model says next. What has gone through it counts as said."""
        answer = AnswerCleaner(self._code)
        self._answers.append(answer)
        return answer

    def with_rules(self, call: ModelCall, *, may_find: bool, finds: bool) -> ModelCall:
        """The call with what its model has to know of results, and with those of earlier calls as it is shown them.

        `may_find`: a tool that finds passages is offered. `finds`: results that are added next have some.
        """
        queries = queries_of(call.lines)
        lines = tuple(self.shown(line, queries) for line in call.lines)
        rules = [tool_rule(self._style)]
        # A small model that is told of passages answers from nothing else, also while it has none.
        told_early = may_find and self._style is PromptStyle.FULL
        if told_early or finds or any(line.passages for line in call.lines):
            rules.append(more_passages_rule(self._style) if self._grounded else rules_for_results(self._style))
        return replace(call, system_prompt="\n\n".join(filter(None, (call.system_prompt, *rules))), lines=lines)

    def shown(self, line: Line, queries: Mapping[str, str]) -> Line:
        """A result as the model reads it, any other line as it is. `queries` are what calls searched for, by id."""
        if line.role is not ChatRole.TOOL:
            return line
        if line.passages and len(self._quotations) < self._most:
            query = queries.get(line.tool_call_id or "", self._question)
            quotations = [self._numbered(item) for item in self._quote(line.passages, query)]
            return replace(line, content=shown_passages(line.content, quotations, self._code, self._style), passages=())
        return replace(line, content=shown_result(line.content), passages=())

    async def citations(self) -> list[CitationData]:
        """The passages that what was said stands on. In a thread: a long answer takes a tenth of a second."""
        if not self._quotations:
            return []
        said = "\n\n".join("".join(answer.said) for answer in self._answers)
        return await asyncio.to_thread(cite, said, self._question, tuple(self._quotations))

    def _quote(self, passages: Sequence[Passage], query: str) -> list[Quotation]:
        left = self._most - len(self._quotations)
        return quoted(passages[:left], query, self._room, first=len(self._quotations) + 1)

    def _numbered(self, quotation: Quotation) -> Quotation:
        """Under the number that its passage has already, or the next one."""
        known = self._known.get(quotation.passage.chunk_id)
        if known is not None:
            return replace(quotation, number=known.number)
        numbered = replace(quotation, number=len(self._quotations) + 1)
        self._quotations.append(numbered)
        self._known[quotation.passage.chunk_id] = numbered
        return numbered


def queries_of(lines: Sequence[Line]) -> dict[str, str]:
    """What calls searched for, by their ids."""
    calls = [call for line in lines for call in line.tool_calls]
    return {call.id: query for call in calls if isinstance(query := call.arguments.get("query"), str) and query}
