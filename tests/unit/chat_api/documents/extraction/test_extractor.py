"""Documents are read in processes that may die, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.errors import (
    DocumentEncrypted,
    DocumentTooComplex,
    DocumentTooLong,
    DocumentWithoutText,
    UnreadableDocument,
)
from chat_api.documents.extraction.extractor import ExtractionUnavailable, Extractor
from shared.contracts.knowledge import Block
from tests.factories import document_files as files

SECONDS = 8.0
MEMORY_MB = 256
HELLO = files.text("Greeting", "Hello there.")
HELLO_BLOCKS = [Block(text="Hello there.", heading="Greeting")]

Read = Callable[[bytes, DocumentFormat], Awaitable[list[Block]]]


@pytest.fixture
async def extractor() -> AsyncIterator[Extractor]:
    extractor = Extractor(seconds=SECONDS, memory_mb=MEMORY_MB, max_characters=100_000)
    yield extractor
    await extractor.aclose()


@pytest.fixture
def read(extractor: Extractor, tmp_path: Path) -> Read:
    async def read_bytes(content: bytes, document_format: DocumentFormat) -> list[Block]:
        path = tmp_path / f"document-{len(content)}"
        path.write_bytes(content)
        return await extractor.extract(path, document_format)

    return read_bytes


def children() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children():
        try:
            if "chat_api.documents.extraction.child" in process.cmdline():
                found.append(process)
        except psutil.Error:  # it ends while we look
            continue
    return found


async def gone(processes: list[psutil.Process]) -> bool:
    for _ in range(100):
        if not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_one_process_reads_many_documents(read: Read) -> None:
    assert await read(HELLO, DocumentFormat.TEXT) == HELLO_BLOCKS
    first = children()
    assert await read(files.pdf([["Page one."], ["Page two."]]), DocumentFormat.PDF) == [
        Block(text="Page one.", page=1),
        Block(text="Page two.", page=2),
    ]
    assert await read(HELLO, DocumentFormat.TEXT) == HELLO_BLOCKS
    assert [child.pid for child in children()] == [child.pid for child in first]
    assert len(first) == 1


async def test_a_process_has_no_secret_of_ours(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLOQUY_SECRET_KEY", "of the parent")
    await read(HELLO, DocumentFormat.TEXT)
    environment = children()[0].environ()
    assert not [name for name in environment if name.startswith("COLLOQUY")]


async def test_what_reads_knows_no_framework(read: Read) -> None:
    code = (
        "import sys; import chat_api.documents.extraction.child; "
        "print([name for name in ('pydantic', 'fastapi', 'sqlalchemy', 'structlog', 'lxml', 'pypdfium2') "
        "if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[5]
    )
    output, _ = await process.communicate()
    assert output.decode().strip() == "[]"


# Made when they are needed: bombs take seconds to make.
BAD_FILES = [
    pytest.param(
        lambda: files.pdf([["Hello."]], password="x"), DocumentFormat.PDF, DocumentEncrypted, id="encrypted-pdf"
    ),
    pytest.param(files.truncated_pdf, DocumentFormat.PDF, UnreadableDocument, id="truncated-pdf"),
    pytest.param(files.malformed_pdf, DocumentFormat.PDF, UnreadableDocument, id="malformed-pdf"),
    pytest.param(lambda: files.pdf([["x"]] * 100), DocumentFormat.PDF, DocumentWithoutText, id="one-glyph-pdf"),
    pytest.param(files.pdf_bomb, DocumentFormat.PDF, DocumentTooComplex, id="pdf-bomb"),
    pytest.param(files.docx_bomb, DocumentFormat.DOCX, DocumentTooComplex, id="zip-bomb"),
    pytest.param(lambda: files.docx_bomb(20), DocumentFormat.DOCX, DocumentTooLong, id="small-zip-bomb"),
    pytest.param(files.docx_that_lies, DocumentFormat.DOCX, UnreadableDocument, id="zip-bomb-that-lies"),
    pytest.param(files.docx_with_entities, DocumentFormat.DOCX, UnreadableDocument, id="xml-bomb"),
    pytest.param(lambda: files.csv(10_000, 20), DocumentFormat.CSV, DocumentTooComplex, id="10000-columns"),
    pytest.param(lambda: files.BINARY, DocumentFormat.TEXT, UnreadableDocument, id="binary-as-text"),
    pytest.param(lambda: files.PNG, DocumentFormat.PDF, UnreadableDocument, id="png-as-pdf"),
    pytest.param(lambda: b"", DocumentFormat.TEXT, DocumentWithoutText, id="empty"),
    pytest.param(lambda: b"A line of text.\n" * 100_000, DocumentFormat.TEXT, DocumentTooLong, id="too-long"),
    pytest.param(lambda: b"<html>" + b"<div>" * 100_000, DocumentFormat.HTML, DocumentWithoutText, id="deep-html"),
]


@pytest.mark.parametrize(("make", "document_format", "problem"), BAD_FILES)
async def test_a_bad_file_fails_soon_and_hurts_no_other(
    read: Read, make: Callable[[], bytes], document_format: DocumentFormat, problem: type[UnreadableDocument]
) -> None:
    content = make()
    started = time.monotonic()
    with pytest.raises(UnreadableDocument) as failed:
        await read(content, document_format)
    assert time.monotonic() - started < 10
    assert type(failed.value) is problem
    assert failed.value.status == 422
    assert failed.value.detail
    assert await read(HELLO, DocumentFormat.TEXT) == HELLO_BLOCKS
    assert len(children()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit on memory does not hold")
async def test_memory_stays_within_its_limit(read: Read) -> None:
    bomb = files.pdf_bomb()
    await read(HELLO, DocumentFormat.TEXT)
    child = children()[0]
    peak = child.memory_info().rss
    reading = asyncio.ensure_future(read(bomb, DocumentFormat.PDF))
    while not reading.done():
        with suppress(psutil.Error):  # it dies of it
            peak = max(peak, child.memory_info().rss)
        await asyncio.sleep(0.005)
    with pytest.raises(DocumentTooComplex):
        await reading
    assert peak < MEMORY_MB * 2**20


async def test_what_takes_too_long_is_ended_and_said(tmp_path: Path) -> None:
    path = tmp_path / "slow"
    path.write_bytes(b"<html>" + b"<p><b><i>" * 600_000)
    extractor = Extractor(seconds=0.25, memory_mb=MEMORY_MB, max_characters=100_000)
    with pytest.raises((DocumentTooComplex, ExtractionUnavailable), match=r"longer than 0.25 s|busy"):
        await extractor.extract(path, DocumentFormat.HTML)
    assert await gone(children())
    await extractor.aclose()


async def test_a_process_that_only_waited_says_nothing_about_its_document(tmp_path: Path) -> None:
    fifo = tmp_path / "nobody-writes"
    os.mkfifo(fifo)
    extractor = Extractor(seconds=0.5, memory_mb=MEMORY_MB, max_characters=100_000)
    with pytest.raises(ExtractionUnavailable if sys.platform == "linux" else DocumentTooComplex):
        await extractor.extract(fifo, DocumentFormat.TEXT)
    await extractor.aclose()


async def test_a_killed_process_is_replaced(read: Read) -> None:
    await read(HELLO, DocumentFormat.TEXT)
    killed = children()
    os.kill(killed[0].pid, signal.SIGKILL)
    assert await read(HELLO, DocumentFormat.TEXT) == HELLO_BLOCKS


async def test_a_process_killed_while_it_reads_is_the_document_s_end_only(tmp_path: Path, extractor: Extractor) -> None:
    hello = tmp_path / "hello"
    hello.write_bytes(HELLO)
    fifo = tmp_path / "nobody-writes"
    os.mkfifo(fifo)
    await extractor.extract(hello, DocumentFormat.TEXT)
    reading = asyncio.ensure_future(extractor.extract(fifo, DocumentFormat.TEXT))
    await asyncio.sleep(0.05)
    os.kill(children()[0].pid, signal.SIGSEGV)
    with pytest.raises(UnreadableDocument):
        await reading
    assert await extractor.extract(hello, DocumentFormat.TEXT) == HELLO_BLOCKS


async def test_a_cancelled_reading_leaves_no_answer_for_the_next(tmp_path: Path, extractor: Extractor) -> None:
    hello = tmp_path / "hello"
    hello.write_bytes(HELLO)
    other = tmp_path / "other"
    other.write_bytes(b"<html>" + b"<p>Other words.</p>" * 4_000)
    await extractor.extract(hello, DocumentFormat.TEXT)
    reading = asyncio.ensure_future(extractor.extract(other, DocumentFormat.HTML))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await extractor.extract(hello, DocumentFormat.TEXT) == HELLO_BLOCKS


async def test_documents_wait_for_a_free_process(tmp_path: Path) -> None:
    extractor = Extractor(seconds=SECONDS, memory_mb=MEMORY_MB, max_characters=100_000, children=2)
    paths = [tmp_path / f"{number}" for number in range(12)]
    for path in paths:
        path.write_bytes(files.text("Greeting", f"Hello {path.name}."))
    found = await asyncio.gather(*(extractor.extract(path, DocumentFormat.TEXT) for path in paths))
    assert [blocks[0].text for blocks in found] == [f"Hello {path.name}." for path in paths]
    assert len(children()) <= 2
    await extractor.aclose()


async def test_a_process_is_replaced_after_a_large_file(read: Read) -> None:
    await read(HELLO, DocumentFormat.TEXT)
    before = children()
    await read(b"Hello.\n" + b" " * 3_000_000, DocumentFormat.TEXT)
    assert await read(HELLO, DocumentFormat.TEXT) == HELLO_BLOCKS
    assert await gone(before)


async def test_a_file_that_is_not_there_is_not_the_document_s_fault(extractor: Extractor, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await extractor.extract(tmp_path / "none", DocumentFormat.TEXT)


async def test_closing_ends_the_processes(tmp_path: Path) -> None:
    extractor = Extractor(seconds=SECONDS, memory_mb=MEMORY_MB, max_characters=100_000)
    path = tmp_path / "hello"
    path.write_bytes(HELLO)
    await extractor.extract(path, DocumentFormat.TEXT)
    kept = children()
    await extractor.aclose()
    assert kept
    assert await gone(kept)


async def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(HELLO)
    code = f"""
import asyncio, os, pathlib
from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.extractor import Extractor

async def main():
    extractor = Extractor(seconds=8, memory_mb=256, max_characters=1000)
    await extractor.extract(pathlib.Path({str(path)!r}), DocumentFormat.TEXT)
    print(extractor._idle[0].process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[5]
    )
    assert parent.stdout is not None
    lines = [line async for line in _until_number(parent.stdout)]
    child = psutil.Process(int(lines[-1]))
    parent.kill()
    await parent.wait()
    assert await gone([child])


async def _until_number(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The parent also logs."""
    while line := await stream.readline():
        yield line
        if line.strip().isdigit():
            return
