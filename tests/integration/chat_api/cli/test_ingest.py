"""A folder into a bot: everything that can be read, once, and again where it was stopped."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from chat_api.cli.ingest import UNITS, CannotIngest, Ingest, Item, find_documents
from chat_api.cli.main import colloquy
from chat_api.documents.extraction.errors import DocumentEncrypted
from chat_api.kit.outbox import Jobs
from chat_api.worker import INDEXING_QUEUE, job_runners
from deploy.local.ports import free_port
from tests.factories.chat import ChatApi, Json, Person
from tests.factories.document_jobs import ParagraphExtraction

BOT = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"


class Bar:
    """What a progress bar would show."""

    def __init__(self) -> None:
        self.position = 0

    def update(self, n_steps: int) -> None:
        assert n_steps > 0
        self.position += n_steps


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four documents of three kinds; a picture, an empty file, and what is hidden."""
    folder = tmp_path / "library"
    files = {
        "a.md": b"# Harbour\n\nIt closes at ten.",
        "b.txt": b"A berth costs 20.",
        "below/c.csv": b"berth,price\n1,20\n",
        "below/deeper/d": b"No ending, and text all the same.",
        "picture.png": b"\x89PNG\r\n\x1a\n\x00\x00",
        "empty.txt": b"",
        ".hidden.md": b"# Hidden",
        ".git/config": b"[core]",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "round").symlink_to(folder)
    return folder


class Library:
    """The real API, with a worker in this process."""

    def __init__(self, chat: ChatApi, ann: Person, bot: Json) -> None:
        self.bot_id = str(bot["id"])
        self.extraction = ParagraphExtraction()
        self.uploads = 0
        self._chat = chat
        self._ann = ann

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        state = self._chat.app.state
        runner = job_runners(self._chat.settings, state.database, state.storage, self.extraction, state.collections)[
            INDEXING_QUEUE
        ]

        async def work() -> None:
            while True:
                for entry in await Jobs(state.database).due(runner.topics, 10):
                    await runner.run(entry.id)
                await asyncio.sleep(0.01)

        task = asyncio.create_task(work())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await runner.stop(0)

    async def ingest(self, folder: Path, bot_id: str | None = None) -> tuple[list[Item], Bar]:
        async def count(request: httpx.Request) -> None:
            self.uploads += request.method == "POST"

        transport = httpx.ASGITransport(app=self._chat.app)
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://colloquy.test",
            headers=self._ann.headers,
            event_hooks={"request": [count]},
        ) as http:
            work = Ingest(http, bot_id or self.bot_id, pause=quickly)
            await work.prepare()
            bar = Bar()
            return await work.run(find_documents(folder).files, bar), bar


async def quickly(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.02))


@pytest.fixture
async def library(chat: ChatApi, ann: Person) -> Library:
    return Library(chat, ann, await chat.bot(ann))


def names(items: list[Item]) -> list[str]:
    return [item.path.name for item in items]


class Draining(httpx.AsyncBaseTransport):
    """An API that is busy once, reads every upload to its end, and has it ready at once."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        self.lengths.append(sum([len(piece) async for piece in request.stream]))
        if len(self.lengths) == 1:
            return httpx.Response(503)
        document = {"id": BOT, "status": "ready", "progress": {"done": 1, "total": 1}}
        return httpx.Response(202, json=document)


async def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    size = 24 * 1024 * 1024
    large = tmp_path / "large.txt"
    large.write_bytes(b"x" * size)
    transport = Draining()
    async with httpx.AsyncClient(transport=transport, base_url="http://colloquy.test") as http:
        tracemalloc.start()
        try:
            [item] = await Ingest(http, BOT, pause=quickly).run([large], Bar())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert item.status == "ready"
    assert len(transport.lengths) == 2
    assert all(size < length < size + 1024 for length in transport.lengths)
    assert peak < size / 4


def test_what_can_be_read_is_found_whatever_it_is_called(folder: Path) -> None:
    found = find_documents(folder)
    assert [str(path.relative_to(folder)) for path in found.files] == ["a.md", "b.txt", "below/c.csv", "below/deeper/d"]
    assert found.others == 2


async def test_a_folder_becomes_ready_documents_and_a_second_run_uploads_nothing(
    library: Library, folder: Path
) -> None:
    async with library.working():
        items, bar = await library.ingest(folder)
        assert [item.status for item in items] == ["ready"] * 4
        assert names(items) == ["a.md", "b.txt", "c.csv", "d"]
        assert not any(item.was_there for item in items)
        assert bar.position == 4 * UNITS
        again, bar = await library.ingest(folder)
    assert library.uploads == 4
    assert all(item.was_there for item in again)
    assert [item.document_id for item in again] == [item.document_id for item in items]
    assert bar.position == 4 * UNITS


async def test_only_what_changed_is_uploaded(library: Library, folder: Path) -> None:
    async with library.working():
        await library.ingest(folder)
        (folder / "b.txt").write_text("A berth costs 25.")
        items, _ = await library.ingest(folder)
    assert library.uploads == 5
    assert [item.was_there for item in items] == [True, False, True, True]


async def test_what_failed_is_told_with_its_reason_and_tried_again_by_the_next_run(
    library: Library, folder: Path
) -> None:
    library.extraction.failures.append(DocumentEncrypted())
    async with library.working():
        items, bar = await library.ingest(folder)
        (failed,) = [item for item in items if item.status == "failed"]
        assert failed.reason == DocumentEncrypted.detail
        assert bar.position == 4 * UNITS
        again, _ = await library.ingest(folder)
    assert [item.status for item in again] == ["ready"] * 4
    assert library.uploads == 5


async def test_one_that_is_too_large_does_not_hold_up_the_others(library: Library, folder: Path, chat: ChatApi) -> None:
    chat.settings.max_document_bytes = 20
    async with library.working():
        items, _ = await library.ingest(folder)
    assert [item.status for item in items] == ["failed", "ready", "ready", "failed"]
    assert "20 bytes" in str(items[0].reason)


async def test_stopped_in_the_middle_it_goes_on_when_it_is_run_again(
    library: Library, folder: Path, chat: ChatApi
) -> None:
    """Nothing is indexed yet, so the first run waits; then somebody presses Ctrl-C."""
    running = asyncio.create_task(library.ingest(folder))
    async with asyncio.timeout(60):
        while len(await chat.rows("SELECT id FROM chat.documents")) < 4:
            await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    async with library.working():
        items, _ = await library.ingest(folder)
    assert [item.status for item in items] == ["ready"] * 4
    assert library.uploads == 4, "what was uploaded is only waited for"
    assert len(await chat.rows("SELECT id FROM chat.documents")) == 4


async def test_a_bot_that_is_not_there_ends_it_before_anything_is_sent(library: Library, folder: Path) -> None:
    with pytest.raises(CannotIngest, match="no such bot"):
        await library.ingest(folder, BOT)
    assert library.uploads == 0


async def test_somebody_elses_bot_is_refused_once_not_for_each_file(
    chat: ChatApi, ann: Person, bob: Person, folder: Path
) -> None:
    bot = await chat.bot(bob, visibility="public")
    library = Library(chat, ann, bot)
    with pytest.raises(CannotIngest):
        await library.ingest(folder)
    assert library.uploads <= 4


# -- an API that has its troubles -------------------------------------------------------------------------

READY = {"id": "d", "status": "ready", "sha256": "", "error": None, "progress": {"done": 1, "total": 1}}
Handler = Callable[[httpx.Request], httpx.Response]


def answer(request: httpx.Request) -> httpx.Response:
    if request.method == "POST":
        return httpx.Response(202, json=READY)
    if request.url.path.endswith("/documents"):
        return httpx.Response(200, json={"items": [], "next_cursor": None})
    return httpx.Response(200, json=READY)


async def scripted(handler: Handler, folder: Path) -> tuple[list[Item], list[float]]:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://colloquy.test") as http:
        work = Ingest(http, BOT, pause=pause)
        await work.prepare()
        return await work.run([folder / "a.md"], Bar()), pauses


async def test_an_api_that_is_busy_or_away_for_a_moment_is_asked_again(folder: Path) -> None:
    troubles: list[httpx.Response | httpx.TransportError] = [
        httpx.Response(503, headers={"Retry-After": "7"}),
        httpx.ConnectError("refused"),
        httpx.Response(429),
    ]

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and troubles:
            trouble = troubles.pop(0)
            if isinstance(trouble, httpx.TransportError):
                raise trouble
            return trouble
        return answer(request)

    items, pauses = await scripted(handle, folder)
    assert [item.status for item in items] == ["ready"]
    assert [seconds for seconds in pauses if seconds >= 1] == [7, 2, 4]


async def test_an_api_that_stays_away_ends_it(folder: Path) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            raise httpx.ConnectError("refused")
        return answer(request)

    with pytest.raises(CannotIngest, match="does not answer"):
        await scripted(handle, folder)


async def test_a_document_that_somebody_deletes_meanwhile_is_told(folder: Path) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(202, json=READY | {"status": "pending"})
        if "/documents/" in request.url.path:
            return httpx.Response(404, json={"detail": "There is no such document."})
        return answer(request)

    items, _ = await scripted(handle, folder)
    assert [(item.status, item.reason) for item in items] == [("failed", "There is no such document.")]


# -- the command ------------------------------------------------------------------------------------------


def run(*arguments: str, key: str | None = "a-key") -> tuple[int, str]:
    done = CliRunner().invoke(colloquy, ["documents", "ingest", *arguments], env={"COLLOQUY_API_KEY": key})
    return done.exit_code, done.output


def test_an_api_that_is_not_there_is_one_line(folder: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, output = run(str(folder), "--bot", BOT, "--api-url", url)
    assert code == 1
    assert output.splitlines()[-1] == f"Error: {url} does not answer (ConnectError)"


def test_a_folder_with_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    code, output = run(str(tmp_path), "--bot", BOT)
    assert (code, output) == (1, f"Error: there is nothing to read in {tmp_path}\n")


@pytest.mark.parametrize("arguments", [["no-such-folder", "--bot", BOT], [".", "--bot", "not-an-id"], ["."]])
def test_what_makes_no_sense_is_a_mistake_of_usage(arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2
