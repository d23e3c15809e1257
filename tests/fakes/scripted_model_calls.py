"""What the scripted model makes of tools: what it calls next, and what it was told. See `scripted_model`.

A conversation is read in neither provider's words: `read_openai` and `read_gemini` turn a request into `Prompt`.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.scripted_model_directive import Script, ScriptedCall

_CALL_ORDER = re.compile(r"\[\[call\s+([\w.:-]+)\s*")
_SAY_ORDER = re.compile(r"\[\[say\s+(.*?)\]\]", re.DOTALL)
_LEAK_ORDER = re.compile(r"\[\[leak\]\]")
_ESCAPE = re.compile(r"""\\(["'\\/])""")


@dataclass(frozen=True, slots=True)
class Turn:
    """What to answer: words first, then calls. `is_decided` words are no text that `tokens` may replace."""

    reply: str
    calls: tuple[ScriptedCall, ...] = ()
    is_decided: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request: `made` are the calls since the user last spoke, `told` what tools answered to the latest of them."""

    user: str
    system: str
    may_call: bool
    rounds: int
    made: frozenset[tuple[str, str]]
    told: tuple[str, ...]
    unsigned: bool


def turn_for(script: Script, said: str, prompt: Prompt, body: dict[str, Any]) -> Turn:
    """The next answer under this script."""
    if script.decide is not None and "response_format" in body:
        return Turn(script.decide, is_decided=True)
    wanted = _wanted(script, prompt, body) if script.calls_tools and (prompt.may_call or script.force) else ()
    if wanted:
        calls = tuple(
            replace(call, id=call.id if call.id is not None else f"call_{prompt.rounds}_{index}")
            for index, call in enumerate(wanted)
        )
        return Turn(script.say or "", calls, is_decided=True)
    results = " | ".join(prompt.told)
    if script.text is not None:
        reply = script.text.replace("{results}", results)
    else:
        reply = f"Tools said: {results}" if prompt.told else f"You said: {said}"
    if script.obey:
        reply = " ".join([reply, *_ordered_words(prompt, body)])
    return Turn(reply)


def _wanted(script: Script, prompt: Prompt, body: dict[str, Any]) -> tuple[ScriptedCall, ...]:
    groups = script.rounds_of_calls
    rounds = len(groups) if script.rounds is None else script.rounds
    if groups and prompt.rounds < rounds:
        return groups[min(prompt.rounds, len(groups) - 1)] * script.copies
    if not script.obey:
        return ()
    ordered = dict.fromkeys(_ordered_calls(body))
    return tuple(
        call for call in ordered if script.insist or (call.name, _canonical(call.arguments)) not in prompt.made
    )


def _ordered_calls(body: dict[str, Any]) -> Iterator[ScriptedCall]:
    """`[[call NAME {…}]]` anywhere in what the model reads, tool descriptions and escaped JSON included."""
    for text in _texts(body):
        for order in _CALL_ORDER.finditer(text):
            yield ScriptedCall(order.group(1), _arguments(text[order.end() :]))


def _arguments(text: str) -> str:
    for _ in range(3):
        if not text.startswith("{"):
            return "{}"
        try:
            value, _end = json.JSONDecoder().raw_decode(text)
            return json.dumps(value)
        except ValueError:
            text = _ESCAPE.sub(r"\1", html.unescape(text))
    return text.partition("]]")[0]


def _ordered_words(prompt: Prompt, body: dict[str, Any]) -> Iterator[str]:
    texts = list(_texts(body))
    for text in texts:
        yield from _SAY_ORDER.findall(text)
    if any(_LEAK_ORDER.search(text) for text in texts):
        yield prompt.system


def _texts(value: object) -> Iterator[str]:
    """Every string of a request but the arguments of calls that were made."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in ("tool_calls", "functionCall"):
                yield from _texts(item)


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except ValueError:
        return arguments


def read_openai(body: dict[str, Any]) -> Prompt:
    messages = [item for item in body.get("messages", []) if isinstance(item, dict)]
    last_user = max((index for index, item in enumerate(messages) if item.get("role") == "user"), default=-1)
    since = messages[last_user + 1 :]
    rounds = [item["tool_calls"] for item in since if item.get("role") == "assistant" and item.get("tool_calls")]
    made = {(call["function"]["name"], _canonical(call["function"]["arguments"])) for calls in rounds for call in calls}
    return Prompt(
        user=_content(messages[last_user].get("content")) if last_user >= 0 else "",
        system="\n\n".join(_content(item.get("content")) for item in messages if item.get("role") == "system"),
        may_call=bool(body.get("tools")) and body.get("tool_choice") != "none",
        rounds=len(rounds),
        made=frozenset(made),
        told=tuple(_content(item.get("content")) for item in _ending(since, lambda item: item.get("role") == "tool")),
        unsigned=False,
    )


def _content(content: object) -> str:
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return " ".join(str(part.get("text", "")) for part in parts)


def read_gemini(body: dict[str, Any]) -> Prompt:
    contents = [item for item in body.get("contents", []) if isinstance(item, dict)]
    spoken = [_is_spoken(item) for item in contents]
    last_user = max((index for index, is_spoken in enumerate(spoken) if is_spoken), default=-1)
    since = contents[last_user + 1 :]
    rounds = [calls for item in since if (calls := [part for part in item["parts"] if "functionCall" in part])]
    made = {
        (part["functionCall"]["name"], _canonical(json.dumps(part["functionCall"].get("args") or {})))
        for calls in rounds
        for part in calls
    }
    told = [
        part["functionResponse"]["response"]
        for item in _ending(since, lambda item: any("functionResponse" in part for part in item["parts"]))
        for part in item["parts"]
    ]
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    return Prompt(
        user=_parts_text(contents[last_user]) if last_user >= 0 else "",
        system=_parts_text(body.get("systemInstruction") or {}),
        may_call=any(tool.get("functionDeclarations") for tool in body.get("tools") or ())
        and calling.get("mode") != "NONE",
        rounds=len(rounds),
        made=frozenset(made),
        told=tuple(" ".join(_texts(response)) for response in told),
        unsigned=any("thoughtSignature" not in calls[0] for calls in rounds),
    )


def _is_spoken(content: dict[str, Any]) -> bool:
    return content.get("role", "user") == "user" and any("text" in part for part in content["parts"])


def _parts_text(content: dict[str, Any]) -> str:
    return " ".join(str(part.get("text", "")) for part in content.get("parts", []))


def _ending(items: list[dict[str, Any]], belongs: Any) -> list[dict[str, Any]]:
    count = 0
    while count < len(items) and belongs(items[-1 - count]):
        count += 1
    return items[len(items) - count :]


def openai_deltas(script: Script, calls: tuple[ScriptedCall, ...]) -> list[dict[str, Any]]:
    """The calls as fragments, as servers send them in all their forms."""
    forms = script.form.split(",")
    fragments: list[list[dict[str, Any]]] = []
    for index, call in enumerate(calls):
        step = len(call.arguments) or 1 if "whole" in forms else script.fragment
        cuts = [call.arguments[start : start + step] for start in range(0, len(call.arguments), step)] or [""]
        entry: dict[str, Any] = {"index": index, "id": call.id, "type": "function"}
        entry["function"] = {"name": call.name, "arguments": cuts[0] if "whole" in forms else ""}
        rest = [] if "whole" in forms else cuts
        pieces = [entry, *({"index": index, "function": {"arguments": cut}} for cut in rest)]
        for piece in pieces:
            if "noindex" in forms:
                del piece["index"]
            if "noid" in forms:
                piece.pop("id", None)
        fragments.append(pieces)
    extra = {"content": ""} if "empty" in forms else {}
    if "whole" in forms:
        return [{"tool_calls": [piece for pieces in fragments for piece in pieces]} | extra]
    if "mixed" in forms:
        longest = max(len(pieces) for pieces in fragments)
        order = [pieces[turn] for turn in range(longest) for pieces in fragments if turn < len(pieces)]
    else:
        order = [piece for pieces in fragments for piece in pieces]
    return [{"tool_calls": [piece]} | extra for piece in order]


def openai_calls(calls: tuple[ScriptedCall, ...]) -> list[dict[str, Any]]:
    """The calls of an answer that is not streamed."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]


def gemini_parts(script: Script, calls: tuple[ScriptedCall, ...]) -> list[dict[str, Any]] | None:
    """The calls as parts. `None` where arguments are no JSON object: Gemini then ends with a reason of its own."""
    parts: list[dict[str, Any]] = []
    for index, call in enumerate(calls):
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            return None
        if not isinstance(arguments, dict):
            return None
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": arguments}}
        if script.signed and index == 0:
            part["thoughtSignature"] = base64.b64encode(f"thought of {call.name}".encode()).decode()
        parts.append(part)
    return parts
