"""What was read of a file, in one shape whatever it came from, on disk until all of it is known to be sound.

Each conversation is a run of lines: its messages, their earlier texts, then the session. The lines are also what makes
two conversations the same: their hash is part of what an import is known by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from chat_api.transfer.errors import InvalidImport
from chat_api.transfer.schemas import ImportSource, LeftOut

_BATCH_ROWS = 500
_BATCH_BYTES = 1024 * 1024
_BUFFER_BYTES = 64 * 1024

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StagedConversation:
    """Where the lines of one conversation are, and what is told of it."""

    source: ImportSource
    source_id: str
    title: str
    starts_at: int
    session_at: int
    messages: int
    revisions: int
    content_hash: bytes
    left_out: LeftOut


@dataclass(slots=True)
class Batch:
    """Rows that are stored together. Each has the `place` of its conversation among those of the file.

    Many short conversations fit in one. A long one begins in one and ends in another, its session in the first.
    """

    sessions: list[Row] = field(default_factory=list)
    messages: list[Row] = field(default_factory=list)
    revisions: list[Row] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0

    @property
    def is_full(self) -> bool:
        return self.rows >= _BATCH_ROWS or self.bytes >= _BATCH_BYTES


@dataclass(slots=True)
class _Open:
    starts_at: int
    hash: Any = field(default_factory=hashlib.sha256)
    messages: int = 0
    revisions: int = 0


class Staging:
    """A file of lines, written first and then read, and gone with the block. Blocks: use it in a thread."""

    def __init__(self, folder: Path, *, max_messages: int) -> None:
        self.folder = folder
        self._path = folder / "staged"
        self._file = self._path.open("w+b", buffering=_BUFFER_BYTES)
        self._max_messages = max_messages
        self._open: _Open | None = None
        self.conversations: list[StagedConversation] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink()

    def begin(self) -> None:
        self._open = _Open(self._file.tell())

    @property
    def messages(self) -> int:
        """Of the conversation that is being written."""
        assert self._open is not None
        return self._open.messages

    def add_message(self, row: Row) -> None:
        """Raises `InvalidImport` for one more than a conversation may have."""
        assert self._open is not None
        assert not self._open.revisions
        if self._open.messages == self._max_messages:
            raise InvalidImport(f"A conversation may have {self._max_messages} messages", kind="too_long")
        self._open.messages += 1
        self._write(row)

    def add_revision(self, row: Row) -> None:
        assert self._open is not None
        self._open.revisions += 1
        self._write(row)

    def end(self, source: ImportSource, source_id: str, session: Row, left_out: LeftOut) -> None:
        assert self._open is not None
        session_at = self._file.tell()
        self._write(session)
        done, self._open = self._open, None
        self.conversations.append(
            StagedConversation(
                source=source,
                source_id=source_id,
                title=session["title"],
                starts_at=done.starts_at,
                session_at=session_at,
                messages=done.messages,
                revisions=done.revisions,
                content_hash=done.hash.digest(),
                left_out=left_out,
            )
        )

    def batches(self, places: Iterable[int]) -> Iterator[Batch]:
        """The rows of the conversations at these places, one after the other, as many at a time as may be held."""
        batch = Batch()
        for place in places:
            conversation = self.conversations[place]
            # The session is written last, because it is known last, and needed first.
            self._file.seek(conversation.session_at)
            self._take(batch.sessions, batch, place)
            self._file.seek(conversation.starts_at)
            for number in range(conversation.messages + conversation.revisions):
                if batch.is_full:
                    yield batch
                    batch = Batch()
                self._take(batch.messages if number < conversation.messages else batch.revisions, batch, place)
            if batch.is_full:
                yield batch
                batch = Batch()
        if batch.rows:
            yield batch

    def _write(self, row: Row) -> None:
        assert self._open is not None
        line = orjson.dumps(row) + b"\n"
        self._open.hash.update(line)
        self._file.write(line)

    def _take(self, rows: list[Row], batch: Batch, place: int) -> None:
        line = self._file.readline()
        row: Row = orjson.loads(line)
        row["place"] = place
        rows.append(row)
        batch.rows += 1
        batch.bytes += len(line)
