"""Reads the directives of the scripted model. What they do is described in `scripted_model`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

_START = re.compile(r"\[\[script\b")
# A value in quotes of either kind, where a backslash takes the next quote or backslash as it is; or a bare word.
_OPTION = re.compile(r"""(\w+)=(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|(.*?)(?=\s|\]\]))""", re.DOTALL)
_ESCAPED_QUOTE = re.compile(r"""\[\[script\b[^"'\\]*\\["']""")
_ESCAPE = re.compile(r"""\\(["'\\])""")
_WORD = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """One call as the directive wants it: `arguments` as they are written, whether they are JSON or not."""

    name: str
    arguments: str = "{}"
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """One parsed directive. The names are those of the options, but for `rounds_of_calls`: one entry per round."""

    text: str | None = None
    tokens: int | None = None
    chunk: int | None = None
    delay_ms: float = 0
    first_delay_ms: float = 0
    burst: int = 1
    finish: str = "stop"
    usage: bool = True
    status: int | None = None
    retry_after: int | None = None
    times: int | None = None
    key: str | None = None
    silent: bool = False
    fail_after: int | None = None
    hang_after: int | None = None
    drop_after: int | None = None
    end_after: int | None = None
    surrogate: str | None = None
    nul: bool = False
    crlf: bool = False
    comments: bool = False
    block: bool = False
    code: str | None = None
    dimensions: int | None = None
    lists: bool = False
    missing: int = 0
    zero: bool = False
    logits: bool = False
    garbage: bool = False
    rounds_of_calls: tuple[tuple[ScriptedCall, ...], ...] = ()
    rounds: int | None = None
    copies: int = 1
    say: str | None = None
    form: str = ""
    fragment: int = 8
    signed: bool = False
    force: bool = False
    obey: bool = False
    insist: bool = False
    decide: str | None = None

    def applies(self, seen_before: int) -> bool:
        """Whether the faults of this script still happen: `times` limits them to the first calls."""
        return self.times is None or seen_before < self.times

    def healthy(self) -> Script:
        """The same answer without the faults."""
        return replace(
            Script(),
            **{name: getattr(self, name) for name in _NO_FAULTS},
        )

    @property
    def calls_tools(self) -> bool:
        return bool(self.rounds_of_calls) or self.obey

    def pieces(self, reply: str) -> list[str]:
        if self.tokens is not None:
            word = self.text
            pieces = [word if word is not None else f"word{index} " for index in range(self.tokens)]
        elif self.chunk:
            pieces = [reply[start : start + self.chunk] for start in range(0, len(reply), self.chunk)]
        else:
            pieces = _WORD.findall(reply)
        match self.surrogate:
            case "1" | "pair":
                pieces[1:1] = ["\ud83d", "\ude00"]
            case "lone":
                pieces[1:1] = ["a\ud83db"]
        if self.nul:
            pieces[1:1] = ["a\x00b"]
        return pieces


_NO_FAULTS = (
    *("text", "tokens", "chunk", "delay_ms", "key", "rounds_of_calls", "rounds", "copies", "say", "signed", "force"),
    *("obey", "insist", "decide", "form", "fragment"),
)


@lru_cache(maxsize=512)
def parse_script(message: str) -> tuple[Script, str]:
    """The first directive in the message, and the message without any. Raises `ValueError` on an unknown option."""
    if "[[script" not in message:
        return Script(), message.strip()
    if _ESCAPED_QUOTE.search(message):  # the message stands within a JSON string
        message = _ESCAPE.sub(r"\1", message)
    script: Script | None = None
    said: list[str] = []
    done = 0
    while (start := _START.search(message, done)) is not None:
        options, end = _options(message, start.end())
        if end is None:
            break
        script = script or _script(options)
        said.append(message[done : start.start()])
        done = end
    said.append(message[done:])
    return script or Script(), "".join(said).strip()


def _options(message: str, position: int) -> tuple[list[tuple[str, str]], int | None]:
    """The options from here to the end of the directive, and where that is: `None` for one that does not end."""
    options: list[tuple[str, str]] = []
    while position < len(message):
        if message.startswith("]]", position):
            return options, position + 2
        found = _OPTION.match(message, position)
        if found is None:
            position += 1
            continue
        name, double, single, bare = found.groups()
        quoted = double if double is not None else single
        options.append((name, bare if quoted is None else _ESCAPE.sub(r"\1", quoted)))
        position = found.end()
    return options, None


def _script(options: list[tuple[str, str]]) -> Script:
    values: dict[str, Any] = {}
    rounds: list[list[ScriptedCall]] = [[]]
    for name, raw in options:
        if name == "call":
            rounds[-1].append(ScriptedCall(raw))
        elif name in ("args", "id"):
            if not rounds[-1]:
                raise ValueError(f"the scripted model needs a call before {name!r}")
            changed = {"arguments" if name == "args" else "id": raw}
            rounds[-1][-1] = replace(rounds[-1][-1], **changed)
        elif name == "then":
            rounds.append([])
        else:
            values[name] = _value(name, raw)
    if rounds != [[]]:
        values["rounds_of_calls"] = tuple(tuple(calls) for calls in rounds)
    return Script(**values)


def _value(name: str, raw: str) -> Any:
    kind = str(Script.__annotations__.get(name, ""))
    if not kind or name == "rounds_of_calls":
        raise ValueError(f"the scripted model knows no option {name!r}")
    if "int" in kind:
        return int(raw)
    if kind == "float":
        return float(raw)
    if kind == "bool":
        return raw not in ("0", "false")
    return raw
