"""Reading JSON of any size from a file: values are built one at a time, and each within limits.

ijson (over yajl, in C) tells of tokens as it finds them. It would hold a token of any length, so the bytes since the
last one are counted; how deep values nest and how many of them an object may have is counted here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import ijson

from chat_api.transfer.errors import InvalidImport

_READ_BYTES = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Shape = dict[str, Any] | None
"""Which fields of an object are wanted, and of them again; None for everything."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`values` and `object_bytes` are of one object that is built: a message with all that belongs to it."""

    token_bytes: int = 4 * 1024 * 1024
    depth: int = 64
    values: int = 50_000
    object_bytes: int = 16 * 1024 * 1024


_USUAL = Limits()
_OPENING = frozenset({"start_map", "start_array"})
_CLOSING = frozenset({"end_map", "end_array"})


class _CountedFile:
    """Stands between the file and the parser, which reads until it has a token."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], None], limit: int) -> None:
        self._file = file
        self._tell = tell
        self._limit = limit
        self._is_first = True
        self.since_token = 0
        self.position = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.since_token += len(data)
        self.position += len(data)
        if self.since_token > self._limit:
            raise InvalidImport("A single value of the file is too long", kind="too_long")
        self._tell(len(data))
        if self._is_first and data:  # the parser reads nothing at first, to see what kind of file it is
            self._is_first = False
            return data.removeprefix(_BYTE_ORDER_MARK)
        return data


class JsonEvents:
    """The tokens of one file, in order. Blocks: use it in a thread.

    Everything raises `InvalidImport` for what is no JSON, or more of it than there may be.
    """

    def __init__(self, file: BinaryIO, tell: Callable[[int], None], limits: Limits = _USUAL) -> None:
        self._limits = limits
        self._file = _CountedFile(file, tell, limits.token_bytes)
        self._events: Iterator[tuple[str, Any]] = ijson.basic_parse(self._file, buf_size=_READ_BYTES, use_float=True)
        self._depth = 0
        self._values = 0
        self._longest = 0

    def next(self) -> tuple[str, Any]:
        """The next token: ijson's name of it, and its value."""
        try:
            event, value = next(self._events)
        except StopIteration:
            raise InvalidImport("The file ends too early", kind="json") from None
        except (ijson.JSONError, ValueError, OverflowError):
            # The parser's own words quote the file.
            raise InvalidImport("The file is not valid JSON", kind="json") from None
        self._file.since_token = 0
        if event in _OPENING:
            self._depth += 1
            if self._depth > self._limits.depth:
                raise InvalidImport(f"The file nests deeper than {self._limits.depth} levels", kind="too_deep")
        elif event in _CLOSING:
            self._depth -= 1
        return event, value

    def finish(self) -> None:
        """See that nothing comes after the value."""
        try:
            next(self._events)
        except StopIteration:
            return
        except (ijson.JSONError, ValueError, OverflowError):
            pass
        raise InvalidImport("The file is not valid JSON", kind="json")

    def fields(self) -> Iterator[str]:
        """The names of an object that has just begun. Whoever gets one takes its value before the next."""
        while True:
            event, value = self.next()
            if event == "end_map":
                return
            yield value

    def items(self) -> Iterator[tuple[str, Any]]:
        """The first tokens of an array's items. Whoever gets one takes the rest of it before the next."""
        while True:
            event, value = self.next()
            if event == "end_array":
                return
            yield event, value

    def skip(self, event: str) -> None:
        """Pass over the value that began with this token."""
        depth = int(event in _OPENING)
        while depth:
            event, _ = self.next()
            depth += (event in _OPENING) - (event in _CLOSING)

    def value(self, first: tuple[str, Any] | None = None, shape: Shape = None) -> Any:
        """The value that begins now, or began with `first`, as Python has it."""
        self._values = 0
        self._longest = self._file.position + self._limits.object_bytes
        return self._build(first or self.next(), shape)

    def _build(self, token: tuple[str, Any], shape: Shape) -> Any:
        self._values += 1
        if self._values > self._limits.values or self._file.position > self._longest:
            raise InvalidImport("One object of the file is too large", kind="too_long")
        event, value = token
        if event == "start_array":
            return [self._build(item, shape) for item in self.items()]
        if event != "start_map":
            return value
        built = {}
        for name in self.fields():
            first = self.next()
            if shape is not None and name not in shape:
                self.skip(first[0])
            else:
                built[name] = self._build(first, None if shape is None else shape[name])
        return built
