"""Puts together the calls that a model streams in fragments, and bounds them.

Servers that speak OpenAI's API agree on little here: fragments carry an index or none, the same index for every
call, an id in each fragment or none at all; a call comes in pieces or whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from agent_service.domain.turn import CallWanted
from shared.contracts.tools import MAX_ARGUMENT_BYTES, MAX_CALLS, MAX_SIGNATURE_CHARACTERS

MAX_ARGUMENT_CHARACTERS = 2 * MAX_ARGUMENT_BYTES
"""What is kept of one call's arguments. It is more than a call may have, so that a call that was cut is refused."""
_MAX_WORD_CHARACTERS = 200


@dataclass(slots=True)
class _Fragments:
    name: str
    id: str
    arguments: list[str] = field(default_factory=list)
    length: int = 0

    def add(self, arguments: str) -> None:
        if arguments and self.length < MAX_ARGUMENT_CHARACTERS:
            self.arguments.append(arguments[: MAX_ARGUMENT_CHARACTERS - self.length])
            self.length += len(self.arguments[-1])

    def is_complete(self) -> bool:
        try:
            orjson.loads("".join(self.arguments))
        except orjson.JSONDecodeError:
            return False
        return True


class CallAssembler:
    """The calls of one answer, at most `MAX_CALLS`: what goes beyond is left out."""

    def __init__(self) -> None:
        self._calls: list[_Fragments] = []
        self._by_index: dict[int, _Fragments | None] = {}
        self._latest: _Fragments | None = None
        self.is_cut = False

    def feed(self, fragments: list[dict[str, Any]]) -> None:
        """The `tool_calls` of one delta. Raises `TypeError` and `AttributeError` for what is none."""
        for fragment in fragments:
            function = fragment.get("function") or {}
            name, arguments = function.get("name") or "", function.get("arguments")
            if isinstance(arguments, dict):  # some servers do not write them as a string
                arguments = orjson.dumps(arguments).decode()
            given_id = fragment.get("id") or ""
            if not (isinstance(name, str) and isinstance(given_id, str) and isinstance(arguments, str | None)):
                raise TypeError
            self._feed_one(fragment.get("index"), given_id, name, arguments or "")

    def calls(self) -> list[CallWanted]:
        return [bounded(CallWanted(call.id, call.name, "".join(call.arguments))) for call in self._calls]

    def _feed_one(self, index: object, given_id: str, name: str, arguments: str) -> None:
        place = index if isinstance(index, int) else None
        known = self._latest if place is None else self._by_index.get(place)
        is_new = (place is not None and place not in self._by_index) or (place is None and not self._calls)
        if is_new or self._begins(known, given_id, name, has_place=place is not None):
            known = self._begin(place, given_id, name)
        if known is None:  # of a call that is left out
            return
        known.id = known.id or given_id
        known.name = known.name or name
        known.add(arguments)

    def _begin(self, place: int | None, given_id: str, name: str) -> _Fragments | None:
        call: _Fragments | None = None
        if len(self._calls) < MAX_CALLS:
            call = _Fragments(name, given_id)
            self._calls.append(call)
        else:
            self.is_cut = True
        self._latest = call
        if place is not None and (call is not None or place in self._by_index):
            self._by_index[place] = call
        return call

    @staticmethod
    def _begins(known: _Fragments | None, given_id: str, name: str, *, has_place: bool) -> bool:
        """Whether a fragment for a place that is taken is the beginning of another call."""
        if not name or known is None:
            return bool(name)
        if not known.name:
            return False
        if given_id and known.id:
            return given_id != known.id
        return not has_place or name != known.name or known.is_complete()


def bounded(call: CallWanted) -> CallWanted:
    """The call with no part of it longer than anybody takes. What cannot be cut is left out."""
    return CallWanted(
        id=call.id if len(call.id) <= _MAX_WORD_CHARACTERS else "",
        name=call.name[:_MAX_WORD_CHARACTERS],
        arguments=call.arguments[:MAX_ARGUMENT_CHARACTERS],
        signature=call.signature if len(call.signature or "") <= MAX_SIGNATURE_CHARACTERS else None,
    )
