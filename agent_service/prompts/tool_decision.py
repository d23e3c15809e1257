"""Prompts by which a small model chooses a tool, and answers from what tools said.

Tried on the bundled model. It follows examples that are turns of a conversation, and hardly ever a list of them in
one message. The first and the last example have to be of no tool, or it calls one at every greeting. Among more than
two tools it goes by the sound of their names, so it is shown the two that share most with the question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import orjson

from agent_service.domain.tokens import estimated_tokens
from agent_service.domain.turn import Line, OfferedTool
from agent_service.domain.wording import terms_of_word
from agent_service.prompts.control_tokens import broken_up
from shared.contracts.chat import ChatRole

NO_TOOL = "none"

_CHOOSE = "Choose the tool that the message needs, or none."
_MOST_TOOLS = 2
_MOST_DESCRIPTION_CHARACTERS = 80
_MOST_QUESTION_TOKENS = 100
_MOST_CUE_CHARACTERS = 2_000
_SENTENCE_END = re.compile(r"(?<=[.!?])\s|[:;\n]")

_WITHOUT_TOOL = ("Hi there!", "Who wrote Hamlet?", "Tell me a story.", "What is the capital of Peru?", "Thank you.")
_MOST_EXAMPLES_OF_ONE = 4
_MOST_EXAMPLES_OF_EACH = 2
_WITH_TOOL: Mapping[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "calculator": (
        ("What is 12 * 8?", {"expression": "12 * 8"}),
        ("Add 30 and 12.", {"expression": "30 + 12"}),
        ("How much is 20% of 50?", {"expression": "50 * 20 / 100"}),
        ("What is the square root of 9?", {"expression": "sqrt(9)"}),
    ),
    "current_time": (("What time is it now?", {}), ("Today's date, please.", {})),
    "search_knowledge": (
        ("What do the documents say about refunds?", {"query": "refunds"}),
        ("Look up the garden rules in my files.", {"query": "garden rules"}),
    ),
    "search_messages": (
        ("Who wrote about the budget?", {"query": "budget"}),
        ("Find the message on the picnic.", {"query": "picnic"}),
    ),
    "fetch_url": (
        ("Read https://example.org/news.", {"url": "https://example.org/news"}),
        ("What is on the page www.example.com?", {"url": "https://www.example.com"}),
    ),
}
_SAMPLE_WORD = "Lisbon"

_WORD = re.compile(r"(?P<address>https?://|www\.)|(?P<number>\d+)|[^\W\d_]+")
_COMMON_LIST = """
a about an and any are at be can could did do does for from give has have how i in is it me much my of on or please s
tell that the this to use user was what which who will with would you your
"""
_COMMON = frozenset(_COMMON_LIST.split())

_ANSWER = "Answer the question with the result of the tool, in one short sentence."
_ANSWERS = (
    ("What is 12 * 8?", "12 * 8 = 96", "12 * 8 is 96."),
    ("What is on that page?", "The call failed: nobody answers.", "I could not find out: the tool failed."),
    (
        "What day and time is it?",
        "2025-03-07T09:15:00+00:00, Friday, UTC (UTC)",
        "It is Friday, 2025-03-07, 09:15 UTC.",
    ),
)


def fitting(question: str, tools: Sequence[OfferedTool], *, must_call: bool) -> tuple[OfferedTool, ...]:
    """The few tools that share words with the question, most first: none where none does, unless one is a must."""
    asked = _cues(question[:_MOST_CUE_CHARACTERS])
    shared = [(len(asked & _tool_cues(tool)), tool) for tool in tools]
    best = sorted((pair for pair in shared if pair[0] or must_call), key=lambda pair: -pair[0])
    return tuple(tool for _, tool in best[:_MOST_TOOLS])


def _tool_cues(tool: OfferedTool) -> frozenset[str]:
    examples = " ".join(asked for asked, _ in _WITH_TOOL.get(tool.name, ()))
    properties = tool.parameters.get("properties")
    parameters = " ".join(properties) if isinstance(properties, dict) else ""
    return _cues(f"{tool.name} {_first_sentence(tool.description)} {parameters} {examples}".replace("_", " "))


def _cues(text: str) -> frozenset[str]:
    """The words that tell what a text is about; any number and any address is as good as another."""
    cues: set[str] = set()
    for match in _WORD.finditer(text):
        word = match.group().casefold()
        if match.lastgroup:
            cues.add(match.lastgroup)
        elif word not in _COMMON:
            cues.update(terms_of_word(word) or (word,))
    return frozenset(cues)


def choice_prompt(question: str, tools: Sequence[OfferedTool]) -> tuple[str, tuple[Line, ...]]:
    """The system's text and the messages that end with the question."""
    listed = [f"{tool.name}: {brief(tool.description)}" for tool in tools]
    system = "\n".join([_CHOOSE, *listed, f"{NO_TOOL}: for everything else."])
    lines: list[Line] = []
    for asked, choice in _examples(tools):
        lines += [Line(ChatRole.USER, asked), Line(ChatRole.ASSISTANT, orjson.dumps(choice).decode())]
    return system, (*lines, Line(ChatRole.USER, broken_up(beginning(question, _MOST_QUESTION_TOKENS))))


def brief(description: str) -> str:
    """The first sentence of a description, or what fits of it."""
    return broken_up(_first_sentence(description)[:_MOST_DESCRIPTION_CHARACTERS])


def _first_sentence(description: str) -> str:
    return " ".join(_SENTENCE_END.split(description.strip(), maxsplit=1)[0].split())


def _examples(tools: Sequence[OfferedTool]) -> list[tuple[str, dict[str, Any]]]:
    """A few of each tool, each round of them between examples of no tool."""
    most = _MOST_EXAMPLES_OF_ONE if len(tools) == 1 else _MOST_EXAMPLES_OF_EACH
    rounds = zip_longest(*((_WITH_TOOL.get(tool.name) or (_made_example(tool),))[:most] for tool in tools))
    none = iter(_WITHOUT_TOOL)
    examples: list[tuple[str, dict[str, Any]]] = []
    for round_ in rounds:
        examples.append((next(none), {"tool": NO_TOOL}))
        for tool, example in zip(tools, round_, strict=True):
            if example is not None:
                examples.append((example[0], {"tool": tool.name, "args": example[1]}))
    return [*examples, (next(none), {"tool": NO_TOOL})]


def _made_example(tool: OfferedTool) -> tuple[str, dict[str, Any]]:
    """A tool that nobody wrote examples for is asked for by its name."""
    arguments: dict[str, Any] = {}
    properties = tool.parameters.get("properties")
    for name in tool.parameters.get("required") or ():
        about = properties.get(name) if isinstance(properties, dict) else None
        if isinstance(about, dict) and about.get("type") == "string" and "enum" not in about:
            arguments[name] = _SAMPLE_WORD
    words = brief(tool.description).rstrip(".") or tool.name.replace("_", " ")
    return f"{words}: {_SAMPLE_WORD}", arguments


def answer_prompt(question: str, results: Sequence[tuple[str, str]], budget: int) -> tuple[str, tuple[Line, ...]]:
    """The system's text, and messages that end with the question and what the tools said. `budget` is in tokens."""
    lines: list[Line] = []
    for asked, result, answer in _ANSWERS:
        lines += [Line(ChatRole.USER, f"Question: {asked}\nResult: {result}"), Line(ChatRole.ASSISTANT, answer)]
    left = budget - sum(estimated_tokens(line.content) for line in lines) - _MOST_QUESTION_TOKENS
    asked = broken_up(beginning(question, _MOST_QUESTION_TOKENS))
    return _ANSWER, (*lines, Line(ChatRole.USER, f"Question: {asked}\n{told(results, max(left, budget // 4))}"))


def told(results: Sequence[tuple[str, str]], budget: int) -> str:
    """What tools said, as much of each as fits. `budget` is in tokens."""
    each = budget // max(1, len(results))
    return "\n".join(f"Result: {broken_up(beginning(' '.join(text.split()), each))}" for _, text in results)


def beginning(text: str, tokens: int) -> str:
    """What fits of the text."""
    while (taken := estimated_tokens(text)) > tokens:
        text = text[: min(len(text) - 1, len(text) * tokens // taken)]
    return text
