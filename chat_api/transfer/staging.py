"""What was read of a file, in one shape whatever it came from, on disk until all of it is known to be sound.

Each conversation is a run of lines: its messages, their earlier texts, then the session. The lines are also what makes
two conversations the same: their hash is part of what an import is known by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from chat_api.transfer.errors import InvalidImport
from chat_api.transfer.schemas import ImportSource, LeftOut

_BATCH_ROWS = 500
_BATCH_BYTES = 1024 * 1024

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StagedConversation:
    """Where the lines of one conversation are, and what is told of it."""

    source: ImportSource
    source_id: str
    title: str
    starts_at: int
    messages: int
    revisions: int
    content_hash: bytes
    left_out: LeftOut


@dataclass(slots=True)
class _Open:
    starts_at: int
    hash: Any = field(default_factory=hashlib.sha256)
    messages: int = 0
    revisions: int = 0


class Staging:
    """A file of lines, written first and then read. Blocks: use it in a thread."""

    def __init__(self, folder: Path, *, max_messages: int) -> None:
        self.folder = folder
        self._file = (folder / "staged").open("w+b")
        self._max_messages = max_messages
        self._open: _Open | None = None
        self.conversations: list[StagedConversation] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

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
        self._write(session)
        done, self._open = self._open, None
        self.conversations.append(
            StagedConversation(
                source=source,
                source_id=source_id,
                title=session["title"],
                starts_at=done.starts_at,
                messages=done.messages,
                revisions=done.revisions,
                content_hash=done.hash.digest(),
                left_out=left_out,
            )
        )

    def read(self, conversation: StagedConversation) -> tuple[Row, Iterator[list[Row]], Iterator[list[Row]]]:
        """The session, then batches of its messages and of earlier texts, to be taken in this order."""
        # Only the last line is needed first, and it is a long way off in few conversations.
        self._file.seek(conversation.starts_at)
        for _ in range(conversation.messages + conversation.revisions):
            self._file.readline()
        session: Row = orjson.loads(self._file.readline())
        self._file.seek(conversation.starts_at)
        return session, self._batches(conversation.messages), self._batches(conversation.revisions)

    def _write(self, row: Row) -> None:
        assert self._open is not None
        line = orjson.dumps(row) + b"\n"
        self._open.hash.update(line)
        self._file.write(line)

    def _batches(self, rows: int) -> Iterator[list[Row]]:
        left = rows
        while left:
            batch: list[Row] = []
            size = 0
            while left and len(batch) < _BATCH_ROWS and size < _BATCH_BYTES:
                line = self._file.readline()
                size += len(line)
                batch.append(orjson.loads(line))
                left -= 1
            yield batch
