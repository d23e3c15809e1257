"""Keeps the processes that read documents, and replaces those that did not survive one."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from chat_api.documents.extraction.child import BLOCKS, HEADER, READING
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.errors import DocumentTooComplex, UnreadableDocument, problem_of
from chat_api.documents.extraction.failure import Failure
from shared.contracts.knowledge import Block
from shared.logging import get_logger
from shared.problems import ServiceUnavailable

log = get_logger("documents.extraction")

_BLOCKS: TypeAdapter[list[Block]] = TypeAdapter(list[Block])
_SOURCE_ROOT = Path(__file__).resolve().parents[3]
_DOCUMENTS_PER_CHILD = 100
_LARGE_FILE_BYTES = 2 * 1024 * 1024
_READ_AHEAD_BYTES = 1024 * 1024
_PARSED_IN_PLACE_BYTES = 64 * 1024
_HEADROOM_BYTES = 1024 * 1024
_START_SECONDS = 5.0
_TRIES_TO_BEGIN = 3
_STOP_SECONDS = 1.0
# A process that waited for most of its time says nothing about its document.
_BUSY_SHARE = 0.3
_MACHINE_IS_BUSY = "Reading the file took too long because the machine is busy. Nothing was changed; try again."
# What the kernel and the C libraries end a process with that takes too much time or memory.
_RESOURCE_SIGNALS = {signal.SIGKILL, signal.SIGXCPU, signal.SIGABRT, signal.SIGTRAP, signal.SIGILL}


class Extraction(Protocol):
    async def extract(self, path: Path, document_format: DocumentFormat) -> list[Block]:
        """The document's text in reading order; never an empty list.

        Raises an `UnreadableDocument` that says what a person can do about the file. Trying again with the same
        bytes gives the same.
        """
        ...

    async def aclose(self) -> None: ...


class ExtractionUnavailable(ServiceUnavailable):
    """The fault is ours, not the document's: try again."""

    code = "extraction-unavailable"
    title = "Documents cannot be read now"
    detail = "The process that reads documents does not start. Nothing was changed; try again."


class _Child:
    """One process, and how much it has read."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.documents = 0
        self.is_tired = False

    @classmethod
    async def start(cls, memory_mb: int) -> _Child:
        # No secret of ours is in its environment, and what it prints may quote a document.
        environment = {"PYTHONPATH": str(_SOURCE_ROOT), "PYTHONUTF8": "1", "LANG": "C.UTF-8"}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-s", "-m", "chat_api.documents.extraction.child",
                "--parent", str(os.getpid()), "--memory-mb", str(memory_mb),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                env=environment, cwd="/", limit=_READ_AHEAD_BYTES,
            )  # fmt: skip
        except OSError:
            log.exception("extraction.child_not_started")
            raise ExtractionUnavailable from None
        log.info("extraction.child_started", pid=process.pid)
        return cls(process)

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def begin(self, request: bytes) -> None:
        """Returns when it reads the document. Raises `EOFError` or `ConnectionError` when it had died before."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(request)
        await self.process.stdin.drain()
        await self.process.stdout.readexactly(len(READING))

    async def answer(self, most_bytes: int) -> tuple[bytes, bytes]:
        """Raises `EOFError` or `ConnectionError` when it died of it, `ValueError` on an answer too large."""
        assert self.process.stdout is not None
        kind, length = HEADER.unpack(await self.process.stdout.readexactly(HEADER.size))
        if length > most_bytes:
            raise ValueError("more than was asked for")
        return kind, await self.process.stdout.readexactly(length)

    def let_go(self) -> None:
        """It ends by itself, as soon as it is done."""
        self.is_tired = True
        if self.process.stdin is not None:
            self.process.stdin.close()

    async def kill(self) -> int:
        """Its exit code; -9 unless it had gone by itself."""
        if self.is_alive:
            # `Process.kill` would take the exit code of one that has just died, and asyncio would never learn it.
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
        return await self._end()

    async def stop(self) -> None:
        self.let_go()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._end()
        except TimeoutError:
            await self.kill()

    async def _end(self) -> int:
        self.let_go()
        code = await self.process.wait()
        # What it still said is read and forgotten: its pipe closes only then.
        while self.process.stdout is not None and await self.process.stdout.read(_READ_AHEAD_BYTES):
            pass
        return code


class Extractor:
    """An `Extraction` in processes that stay warm.

    A document that is too much for its process costs that process only. `seconds` counts from when a process is
    free for the document. At most `children` documents are read at once; the others wait.
    """

    def __init__(self, *, seconds: float, memory_mb: int, max_characters: int, children: int = 1) -> None:
        self._seconds = seconds
        self._memory_mb = memory_mb
        self._max_characters = max_characters
        self._most_bytes = 16 * max_characters + _HEADROOM_BYTES
        self._free = asyncio.Semaphore(children)
        self._idle: list[_Child] = []
        self._is_closed = False

    async def extract(self, path: Path, document_format: DocumentFormat) -> list[Block]:
        async with self._free:
            kind, answer = await self._read(path, document_format)
        if kind != BLOCKS:
            failed = json.loads(answer)
            raise problem_of(Failure(failed["failure"]), failed["detail"])
        try:
            if len(answer) <= _PARSED_IN_PLACE_BYTES:
                return _BLOCKS.validate_json(answer)
            return await asyncio.to_thread(_BLOCKS.validate_json, answer)
        except ValidationError:  # a process that a document has taken over, or a fault of ours: nothing to keep
            log.exception("extraction.answer_invalid", format=document_format)
            raise UnreadableDocument from None

    async def aclose(self) -> None:
        self._is_closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(child.stop() for child in idle))

    async def _read(self, path: Path, document_format: DocumentFormat) -> tuple[bytes, bytes]:
        path, size = await asyncio.to_thread(_located, path)
        request = {
            "path": str(path),
            "format": document_format,
            "max_characters": self._max_characters,
            "cpu_seconds": self._seconds,
        }
        child = await self._begun(json.dumps(request).encode() + b"\n")
        started, used = time.perf_counter(), _cpu_seconds(child.process.pid)
        is_whole = False
        try:
            async with asyncio.timeout(self._seconds):
                answer = await child.answer(self._most_bytes)
            is_whole = True
        except TimeoutError:
            used = _cpu_seconds(child.process.pid) - used
            log.warning("extraction.timed_out", format=document_format, bytes=size, cpu_seconds=round(used, 1))
            if used < self._seconds * _BUSY_SHARE:
                raise ExtractionUnavailable(_MACHINE_IS_BUSY) from None
            raise DocumentTooComplex(
                f"Reading the file takes longer than {self._seconds:g} s. Save it in a simpler form, or split it."
            ) from None
        except (EOFError, ConnectionError):
            code = await child.kill()
            log.warning("extraction.child_died", format=document_format, bytes=size, code=code)
            raise _problem_of_death(code) from None
        except ValueError:
            raise DocumentTooComplex from None
        finally:
            # Also when we are cancelled: a process in the middle of a document is of no use to the next one.
            if is_whole:
                self._give_back(child, size)
            else:
                await asyncio.shield(child.kill())
        seconds = round(time.perf_counter() - started, 3)
        log.info("extraction.read", format=document_format, bytes=size, answered=len(answer[1]), seconds=seconds)
        return answer

    async def _begun(self, request: bytes) -> _Child:
        """A process that has begun. One that died while it had nothing to do is no fault of the document's."""
        for _ in range(_TRIES_TO_BEGIN):
            child = await self._take()
            has_begun = False
            try:
                async with asyncio.timeout(_START_SECONDS):
                    await child.begin(request)
                has_begun = True
                return child
            except (EOFError, ConnectionError, TimeoutError):
                log.warning("extraction.child_not_ready", pid=child.process.pid)
            finally:
                if not has_begun:
                    await asyncio.shield(child.kill())
        raise ExtractionUnavailable

    async def _take(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.is_alive and not child.is_tired:
                return child
            await child.stop()
        return await _Child.start(self._memory_mb)

    def _give_back(self, child: _Child, size: int) -> None:
        child.documents += 1
        # What a large document took stays with its process, and small leaks add up.
        if child.documents >= _DOCUMENTS_PER_CHILD or size > _LARGE_FILE_BYTES or self._is_closed:
            child.let_go()  # it ends while nobody waits for it
        self._idle.append(child)


def _located(path: Path) -> tuple[Path, int]:
    """Its path for a process in another folder, and its size in bytes. Raises `FileNotFoundError`."""
    return path.absolute(), path.stat().st_size


def _cpu_seconds(pid: int) -> float:
    """What the process has used so far; infinite where only Linux could tell, or it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return math.inf


def _problem_of_death(code: int) -> UnreadableDocument | ExtractionUnavailable:
    if code >= 0:  # it ended by itself: it never started well, or lost the file
        return ExtractionUnavailable()
    if -code in _RESOURCE_SIGNALS:
        return DocumentTooComplex()
    return UnreadableDocument(
        "The file breaks the program that reads it: it is damaged, or needs too much memory. Save it anew or in a "
        "simpler form, and upload that."
    )
