"""`colloquy documents ingest`: a folder's documents into a bot, over HTTP, as any client would do it.

What the bot has already is known by its bytes, so a run that was stopped is simply run again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click
import httpx

from chat_api.cli.progress import Unit, progress
from chat_api.documents.extraction.errors import EmptyDocument, UnsupportedDocument
from chat_api.documents.extraction.formats import detect

UPLOADS_AT_ONCE = 4
UNITS = 100
"""Of the progress bar, for each file: so many when it is ready."""

_UPLOADED_UNITS = 20
_WATCHED_AT_ONCE = 16
_POLL_SECONDS = 0.5
_TRIES = 8
_LONGEST_PAUSE_SECONDS = 20.0
_TIMEOUT = httpx.Timeout(60, connect=5)
_BUSY = frozenset({429, 502, 503, 504})
_OURS = frozenset({401, 403, 404})
"""Answers that would be the same for every file."""


class CannotIngest(Exception):
    """Nothing can be done for any file; the message says why in a line."""


class ApiRefused(Exception):
    """One request was answered with a problem."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        try:
            body = answer.json()
        except ValueError:
            body = {}
        detail = body.get("detail") if isinstance(body, dict) else None
        super().__init__(str(detail or f"the chat API answered {answer.status_code}"))


class Progress(Protocol):
    """A bar of `UNITS` for each file."""

    def update(self, n_steps: int, /) -> None: ...


@dataclass(slots=True)
class Item:
    """One file on its way. `told` is how much of it the progress bar shows."""

    path: Path
    document_id: str | None = None
    status: str = "waiting"
    reason: str | None = None
    was_there: bool = False
    told: int = 0

    @property
    def is_final(self) -> bool:
        return self.status in ("ready", "failed")


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds. `others` are files of kinds that are not read."""

    files: list[Path]
    others: int


def find_documents(folder: Path) -> Found:
    """Every file below a folder that can be read, in order. What is hidden is left out, and so are links to folders."""
    files, others = [], 0
    for path in _walk(folder):
        try:
            with path.open("rb") as content:
                detect(content, path.name)
        except (UnsupportedDocument, EmptyDocument):
            others += 1
        else:
            files.append(path)
    return Found(files, others)


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():
                yield from _walk(path)
        elif path.is_file():
            yield path


class Ingest:
    """Uploads files to one bot and watches them until each is ready or failed."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        bot_id: str,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._bot = f"/api/v1/bots/{bot_id}"
        self._pause = pause
        self._known: dict[str, dict[str, Any]] = {}
        self._watched: deque[Item] = deque()
        self._uploading = 0
        self._has_answered = False

    async def prepare(self) -> None:
        """See that the bot is there, and what it has already. Raises `CannotIngest`."""
        try:
            await self._request("GET", self._bot)
            cursor: str | None = None
            while True:
                params = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
                page = await self._request("GET", f"{self._bot}/documents", params=params)
                self._known |= {document["sha256"]: document for document in page["items"]}
                cursor = page["next_cursor"]
                if cursor is None:
                    return
        except ApiRefused as refused:
            raise CannotIngest(str(refused)) from None

    async def run(self, files: list[Path], progress: Progress) -> list[Item]:
        """What became of each file, in order. Raises `CannotIngest`."""
        items = [Item(path) for path in files]
        waiting = deque(items)
        self._uploading = min(UPLOADS_AT_ONCE, len(items))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._uploading):
                    group.create_task(self._upload_all(waiting, progress))
                group.create_task(self._watch_all(progress))
        except ExceptionGroup as failures:
            # Not `except*`: what that raises comes in a group of its own before Python 3.11.4.
            refused, _ = failures.split(CannotIngest)
            if refused is None:
                raise
            raise CannotIngest(str(refused.exceptions[0])) from None
        return items

    async def _upload_all(self, waiting: deque[Item], progress: Progress) -> None:
        try:
            while waiting:
                item = waiting.popleft()
                try:
                    await self._upload(item)
                except ApiRefused as refused:
                    if refused.status in _OURS:
                        raise CannotIngest(str(refused)) from None
                    item.status, item.reason = "failed", str(refused)
                except OSError as error:
                    item.status, item.reason = "failed", f"the file cannot be read ({error.strerror})"
                self._tell(item, progress, UNITS if item.is_final else _UPLOADED_UNITS)
                if not item.is_final:
                    self._watched.append(item)
        finally:
            self._uploading -= 1

    async def _upload(self, item: Item) -> None:
        known = self._known.get(await asyncio.to_thread(_sha256, item.path))
        if known is not None and known["status"] != "failed":
            item.was_there = known["status"] == "ready"
            document = known
        else:
            # Read while it is sent, and anew at each try: a folder may hold files of any size.
            with await asyncio.to_thread(item.path.open, "rb") as content:
                files = {"files": (item.path.name, content)}
                document = await self._request("POST", f"{self._bot}/documents", files=files)
        item.document_id = document["id"]
        _take(item, document)

    async def _watch_all(self, progress: Progress) -> None:
        """Ask for the longest waiting: they are indexed in the order they came."""
        while self._uploading or self._watched:
            asked = [self._watched.popleft() for _ in range(min(_WATCHED_AT_ONCE, len(self._watched)))]
            for item in asked:
                await self._watch(item, progress)
            self._watched.extendleft(item for item in reversed(asked) if not item.is_final)
            if not any(item.is_final for item in asked):
                await self._pause(_POLL_SECONDS)

    async def _watch(self, item: Item, progress: Progress) -> None:
        try:
            document = await self._request("GET", f"/api/v1/documents/{item.document_id}")
        except ApiRefused as refused:
            item.status, item.reason = "failed", str(refused)
            self._tell(item, progress, UNITS)
            return
        _take(item, document)
        done, total = document["progress"]["done"], document["progress"]["total"]
        share = done / total if total else 0
        units = UNITS if item.is_final else _UPLOADED_UNITS + int((UNITS - _UPLOADED_UNITS - 1) * share)
        self._tell(item, progress, units)

    @staticmethod
    def _tell(item: Item, progress: Progress, units: int) -> None:
        if units > item.told:
            progress.update(units - item.told)
            item.told = units

    async def _request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Raises `ApiRefused`, and `CannotIngest` when the API stays away."""
        for attempt in range(_TRIES):
            pause = min(2.0**attempt, _LONGEST_PAUSE_SECONDS)
            is_last = attempt == _TRIES - 1
            try:
                answer = await self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                # At the very beginning nobody is there; later somebody was, and may come back.
                if is_last or not self._has_answered:
                    raise CannotIngest(f"{self._http.base_url} does not answer ({type(error).__name__})") from None
            else:
                self._has_answered = True
                if answer.is_success:
                    body: dict[str, Any] = answer.json()
                    return body
                if answer.status_code not in _BUSY or is_last:
                    raise ApiRefused(answer)
                pause = max(pause, _retry_after(answer))
            await self._pause(pause)
        raise AssertionError("the last try returns or raises")


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _take(item: Item, document: dict[str, Any]) -> None:
    item.status = document["status"]
    if item.status == "failed":
        item.reason = str((document["error"] or {}).get("detail", "no reason is given"))


def _retry_after(answer: httpx.Response) -> float:
    value = answer.headers.get("Retry-After", "")
    return min(float(value), _LONGEST_PAUSE_SECONDS) if value.isascii() and value.isdigit() else 0.0


def ingest(folder: Path, bot_id: str, api_url: str, api_key: str) -> bool:
    """Run it for a person at a terminal. Returns whether every document is ready. Raises `CannotIngest`."""
    found = find_documents(folder)
    if found.others:
        click.echo(f"{found.others} files are of no kind that is read here, or empty, and are left out")
    if not found.files:
        raise CannotIngest(f"there is nothing to read in {folder}")
    try:
        items = asyncio.run(_run(found.files, bot_id, api_url, api_key))
    except KeyboardInterrupt:
        raise CannotIngest("stopped; run it again to go on where it was") from None
    return _report(items, folder)


async def _run(files: list[Path], bot_id: str, api_url: str, api_key: str) -> list[Item]:
    headers = {"Authorization": f"Bearer {api_key}"}
    # No proxy from the environment: the API is near, or its address says how to reach it.
    async with httpx.AsyncClient(base_url=api_url, headers=headers, timeout=_TIMEOUT, trust_env=False) as http:
        work = Ingest(http, bot_id)
        await work.prepare()
        with progress(f"{len(files)} documents", len(files) * UNITS, unit=Unit.SHARE) as bar:
            return await work.run(files, bar)


def _report(items: list[Item], folder: Path) -> bool:
    failed = [item for item in items if item.status == "failed"]
    there = sum(item.was_there for item in items)
    click.echo(f"{len(items) - len(failed)} of {len(items)} documents are ready, {there} of them were before")
    for item in failed:
        click.echo(f"failed {item.path.relative_to(folder)}: {item.reason}", err=True)
    return not failed
