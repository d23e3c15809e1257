"""`colloquy sessions export` and `import`: conversations from the database to files, and from files to the database."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from uuid import UUID

import click

from chat_api.cli.progress import Bar, Unit, progress
from chat_api.config import ApiSettings
from chat_api.kit.clock import SystemClock
from chat_api.kit.db import Database
from chat_api.kit.file_names import clean_name
from chat_api.kit.scratch import scratch_folder
from chat_api.sessions.errors import SessionNotFound
from chat_api.transfer.export import ExportCutShort, ExportScope, SessionExport, open_export, owned_sessions
from chat_api.transfer.formats import ExportFormat
from chat_api.transfer.importer import Importer, ImportProgress
from chat_api.transfer.schemas import ImportOutcome, ImportReport
from chat_api.users.repository import UserRepository
from chat_api.users.schemas import UserSummary

_TITLE_BYTES = 120
"""With an id and what says its kind it has to be a name that file systems take: 255 bytes."""
_PART = ".part"


class CannotTransfer(Exception):
    """The message says why in a line."""


async def export_one(settings: ApiSettings, session_id: UUID, kind: ExportFormat, output: Path | None) -> None:
    """Write one session to a file; without one, to a file of its name in the current folder."""
    async with _opened(settings) as database:
        target = output or Path(f"{session_id}.{kind.suffix}")
        with progress("Messages") as bar:
            try:
                await write_export(await _open(database, session_id, bar.update, bar), kind, target)
            except ExportCutShort:
                raise CannotTransfer("the session was deleted meanwhile") from None
    click.echo(f"wrote {target}")


async def export_all(settings: ApiSettings, username: str, kind: ExportFormat, folder: Path) -> None:
    """Write every session that a person owns, each to a file. Those that were deleted meanwhile are passed over."""
    written = 0
    async with _opened(settings) as database:
        person = await _person(database, username)
        with _writing(folder):
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        ids = [session_id async for session_id in owned_sessions(database, person.id)]
        with progress("Sessions", len(ids)) as bar:
            for session_id in ids:
                try:
                    export = await _open(database, session_id)
                    await write_export(export, kind, folder / _file_name(export, session_id, kind))
                except (SessionNotFound, ExportCutShort):
                    pass
                else:
                    written += 1
                bar.update(1)
    click.echo(f"wrote {written} sessions to {folder}")


async def import_file(settings: ApiSettings, file: Path, username: str) -> None:
    """Make sessions of what is in a file, for one person. Raises `InvalidImport` and `CannotTransfer`."""
    importer = Importer(SystemClock(), max_messages=settings.max_session_copy_messages)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(_opened(settings))
        person = await _person(database, username)
        copy = await stack.enter_async_context(scratch_folder()) / "file"
        try:
            await asyncio.to_thread(shutil.copyfile, file, copy)
        except OSError as error:
            raise CannotTransfer(f"{file} cannot be read ({error.strerror})") from None
        size = (await asyncio.to_thread(copy.stat)).st_size
        with progress("Reading", size, unit=Unit.BYTES) as bar:
            staging = await stack.enter_async_context(importer.staged(copy, _Read(bar)))
        with progress("Storing messages", sum(one.messages for one in staging.conversations)) as bar:
            async with database.unit() as db:
                await importer.claim(db, person)
                report = await importer.store(db, person, staging, _Stored(bar))
    _tell(report)


class _Read(ImportProgress):
    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def read(self, size: int) -> None:
        self._bar.update(size)


class _Stored(ImportProgress):
    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def stored(self, messages: int) -> None:
        self._bar.update(messages)


@asynccontextmanager
async def _opened(settings: ApiSettings) -> AsyncIterator[Database]:
    database = await Database.open(settings)
    try:
        yield database
    finally:
        await database.close()


async def _person(database: Database, username: str) -> UserSummary:
    async with database.unit() as db:
        user = await UserRepository(db).by_name(username)
    if user is None:
        raise CannotTransfer(f"there is nobody called {username!r}")
    return UserSummary.model_validate(user)


async def _open(
    database: Database, session_id: UUID, tell: Callable[[int], None] | None = None, bar: Bar | None = None
) -> SessionExport:
    scope = ExportScope(session_id, None)
    export = await open_export(database, SystemClock(), scope, tell=tell or (lambda _: None))
    if bar is not None:
        bar.set_total(export.last_seq)
    return export


async def write_export(export: SessionExport, kind: ExportFormat, target: Path) -> None:
    """Under another name until it is whole: what a run that was stopped leaves cannot be taken for an export.

    Raises `CannotTransfer`, and `ExportCutShort` where the session is deleted meanwhile; nothing is left then.
    """
    part = target.with_name(target.name + _PART)
    with _writing(target):
        file = part.open("wb")
    with file:
        try:
            async for piece in export.pieces(kind):
                with _writing(target):
                    file.write(piece)
        except ExportCutShort:
            part.unlink()
            raise
    with _writing(target):
        part.replace(target)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """What the system says against a file is not about the database."""
    try:
        yield
    except OSError as error:
        raise CannotTransfer(f"{target} cannot be written ({error.strerror})") from None


def _file_name(export: SessionExport, session_id: UUID, kind: ExportFormat) -> str:
    name = clean_name(export.title.replace("/", " ")).encode()[:_TITLE_BYTES]
    title = name.decode(errors="ignore").strip(". ")
    return f"{title} {session_id}.{kind.suffix}".strip()


def _tell(report: ImportReport) -> None:
    click.echo(f"imported {report.imported} sessions with {report.messages} messages")
    if report.already_there:
        click.echo(f"{report.already_there} were there already")
    empty = sum(one.outcome is ImportOutcome.EMPTY for one in report.conversations)
    if empty:
        click.echo(f"{empty} had nothing in them")
    left_out: dict[str, int] = {}
    for one in report.conversations:
        if one.outcome is ImportOutcome.IMPORTED:
            for name, count in one.left_out.model_dump().items():
                left_out[name] = left_out.get(name, 0) + count
    for name, count in left_out.items():
        if count:
            click.echo(f"left out: {count} {name.replace('_', ' ')}")
