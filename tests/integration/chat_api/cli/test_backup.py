"""Backup and restore: what comes back is what was there, or nothing changes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from chat_api.cli.archive import ArchiveReader, Manifest, NotABackup, new_archive
from chat_api.cli.backup import Backup
from chat_api.cli.postgres_tools import PostgresTools, find_tools
from chat_api.cli.restore import CannotRestore, Restore
from chat_api.cli.table_state import SETTINGS, table_state, tables_of
from chat_api.kit.storage import ObjectStorage, local_storage
from tests.stores import Database

ANN = UUID("01900000-0000-7000-8000-000000000001")
SESSION = UUID("01900000-0000-7000-8000-000000000002")
FILE_KEY = f"attachments/{ANN}/01900000-0000-7000-8000-000000000003"
GONE_KEY = f"attachments/{ANN}/01900000-0000-7000-8000-000000000004"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def make_database(new_database: Callable[..., Database]) -> Callable[..., Database]:
    return new_database


async def fill(database: Database) -> None:
    """A person, a conversation with letters of many kinds, two files, and a collection with a vector."""
    connection = await asyncpg.connect(Database.dsn(database.owner_url))
    try:
        await connection.execute(
            "INSERT INTO chat.users (id, email, username, password_hash) VALUES ($1, 'ann@example.org', 'ann', '!')",
            ANN,
        )
        await connection.execute(
            "INSERT INTO chat.sessions (id, title, owner_id, metadata)"
            " VALUES ($1, 'Häfen ⚓', $2, '{\"a\": [1, 2.50]}')",
            SESSION,
            ANN,
        )
        await connection.execute(
            """
            INSERT INTO chat.messages (session_id, seq, id, role, sender_id, content, cost, created_at)
            SELECT $1, n, uuidv7(), 'user', $2, E'line one\\nline \\\\ two \\t ' || n || ' 🦜', 0.000000123, now()
            FROM generate_series(1, 500) AS n
            """,
            SESSION,
            ANN,
        )
        await connection.executemany(
            "INSERT INTO chat.attachments (id, owner_id, name, content_type, size_bytes, sha256, storage_key)"
            " VALUES ($1, $2, 'a', 'text/plain', 5, '\\x00ff', $3)",
            [(UUID(key.rpartition("/")[2]), ANN, key) for key in (FILE_KEY, GONE_KEY)],
        )
        await connection.execute(
            """
            WITH model AS (
                INSERT INTO agent.embedding_models (name, dimensions) VALUES ('test:3', 3) RETURNING id
            )
            INSERT INTO agent.embedded_texts (model_id, text_hash, embedding)
            SELECT id, '\\x01', '[0.1,-2,3.5]'::public.halfvec FROM model
            """
        )
        await connection.execute("INSERT INTO agent.collections (id, text_config) VALUES ($1, 'english')", SESSION)
    finally:
        await connection.close()


async def states(database: Database) -> dict[str, tuple[int, str]]:
    """Every table's rows and checksum, counted anew."""
    connection = await asyncpg.connect(Database.dsn(database.owner_url), server_settings=dict(SETTINGS))
    try:
        found = {table: await table_state(connection, table) for table in await tables_of(connection)}
    finally:
        await connection.close()
    return {table: (state.rows, state.checksum) for table, state in found.items()}


async def rights(database: Database) -> set[tuple[str, ...]]:
    """Who may do what with which table, whose it is, and what new tables would give.

    A right that is granted by name is the same as one that is there by default.
    """
    connection = await asyncpg.connect(Database.dsn(database.owner_url))
    try:
        rows = await connection.fetch(
            """
            SELECT n.nspname || '.' || c.relname, c.relkind::text, c.relowner::regrole::text,
                coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))::text
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname IN ('chat', 'agent', 'migrations') AND c.relkind IN ('r', 'i', 'S', 'v')
            UNION ALL
            SELECT nspname, 'schema', nspowner::regrole::text, coalesce(nspacl, acldefault('n', nspowner))::text
            FROM pg_namespace
            WHERE nspname IN ('chat', 'agent', 'migrations')
            UNION ALL
            SELECT p.proname, 'routine', p.proowner::regrole::text,
                coalesce(p.proacl, acldefault('f', p.proowner))::text
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('chat', 'agent')
            UNION ALL
            SELECT t.tgname, 'trigger', t.tgrelid::regclass::text,
                -- Brackets around conditions come and go with each time that one is read.
                translate(pg_get_triggerdef(t.oid), '()', '')
            FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname IN ('chat', 'agent') AND NOT t.tgisinternal
            UNION ALL
            SELECT coalesce(n.nspname, ''), 'default ' || d.defaclobjtype::text,
                d.defaclrole::regrole::text, d.defaclacl::text
            FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
            """
        )
    finally:
        await connection.close()
    return {tuple(str(value) for value in row) for row in rows}


@pytest.fixture
def files(tmp_path: Path) -> ObjectStorage:
    return local_storage(tmp_path / "files")


@pytest.fixture
async def source(make_database: Callable[..., Database], files: ObjectStorage, tmp_path: Path) -> Database:
    return await make_source(make_database, files, tmp_path)


async def make_source(make_database: Callable[..., Database], files: ObjectStorage, folder: Path) -> Database:
    database = make_database()
    await fill(database)
    (folder / "content").write_bytes(b"bytes")
    await files.put(FILE_KEY, folder / "content")
    await files.put("somebody/elses", folder / "content")
    return database


@dataclass(frozen=True)
class Kept:
    """A database and its backup, of which no test changes anything."""

    database: Database
    files: ObjectStorage
    archive: Path


@pytest.fixture(scope="module")
def kept(make_database: Callable[..., Database], tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    files, archive = local_storage(folder / "files"), folder / "all.backup"

    async def make() -> Database:
        database = await make_source(make_database, files, folder)
        await back_up(database, files, archive)
        return database

    return Kept(asyncio.run(make()), files, archive)


async def back_up(database: Database, storage: ObjectStorage, target: Path) -> Manifest:
    with new_archive(target) as archive:
        return await Backup(Database.dsn(database.owner_url), storage).write(archive)


async def bring_back(source: Path, database: Database, storage: ObjectStorage, *, clean: bool = False) -> None:
    with ArchiveReader(source) as archive:
        archive.verify(lambda _: None)
        await Restore(Database.dsn(database.owner_url), storage).read(archive, clean=clean)


async def test_a_restored_database_has_the_rows_the_rights_and_the_files(
    source: Database, make_database: Callable[..., Database], files: ObjectStorage, tmp_path: Path
) -> None:
    before, allowed = await states(source), await rights(source)
    archive = tmp_path / "all.backup"
    manifest = await back_up(source, files, archive)

    assert {table: (state.rows, state.checksum) for table, state in manifest.tables.items()} == before
    assert before["chat.messages"][0] == 500
    assert list(manifest.objects) == [FILE_KEY], "what rows name, and nothing of others"
    assert manifest.missing == [GONE_KEY]
    assert archive.stat().st_mode & 0o077 == 0, "only its owner reads it"

    target, elsewhere = make_database(migrated=False), local_storage(tmp_path / "elsewhere")
    await bring_back(archive, target, elsewhere)

    assert await states(target) == before
    assert await rights(target) == allowed
    assert b"".join([piece async for piece in await elsewhere.read(FILE_KEY)]) == b"bytes"


@pytest.fixture
async def archive(source: Database, files: ObjectStorage, tmp_path: Path) -> Path:
    path = tmp_path / "all.backup"
    await back_up(source, files, path)
    return path


async def test_what_is_there_is_replaced_only_when_that_is_asked_for(
    source: Database, archive: Path, files: ObjectStorage, tmp_path: Path
) -> None:
    saved = await states(source)
    connection = await asyncpg.connect(Database.dsn(source.owner_url))
    await connection.execute("DELETE FROM chat.messages WHERE seq > 10")
    new_key = f"attachments/{ANN}/new"
    await connection.execute("UPDATE chat.attachments SET storage_key = $1 WHERE storage_key = $2", new_key, GONE_KEY)
    await connection.execute("CREATE TABLE chat.of_a_later_version (id integer)")
    await connection.close()
    await files.put(new_key, tmp_path / "content")
    before = await states(source)

    with pytest.raises(CannotRestore, match="not empty"):
        await bring_back(archive, source, files)
    assert await states(source) == before

    await bring_back(archive, source, files, clean=True)
    assert await states(source) == saved
    left = {stored.key async for batch in files.objects() for stored in batch}
    assert left == {FILE_KEY, "somebody/elses"}, "the files of rows that are gone are gone, and nobody else's"


async def test_services_that_are_connected_are_not_pulled_away(
    kept: Kept, make_database: Callable[..., Database]
) -> None:
    target = make_database(migrated=False)
    service = await asyncpg.connect(Database.dsn(target.api_url))
    try:
        with pytest.raises(CannotRestore, match="stop API, agent and worker first"):
            await bring_back(kept.archive, target, kept.files)
    finally:
        await service.close()


async def test_rows_that_differ_from_what_was_counted_are_not_committed(kept: Kept) -> None:
    """One row less in the manifest: as good as one row too many in the dump."""
    before = await states(kept.database)
    with ArchiveReader(kept.archive) as read:
        state = read.manifest.tables["chat.messages"]
        read.manifest.tables["chat.messages"] = state.model_copy(update={"rows": state.rows - 1})
        with pytest.raises(CannotRestore, match=r"chat\.messages has other rows than the backup"):
            await Restore(Database.dsn(kept.database.owner_url), kept.files).read(read, clean=True)
    assert await states(kept.database) == before


async def test_a_dump_that_breaks_off_leaves_the_database_as_it_was(kept: Kept) -> None:
    class CutOff(ArchiveReader):
        def pieces(self, name: str) -> Iterator[bytes]:
            whole = b"".join(super().pieces(name))
            yield whole[: len(whole) * 9 // 10]

    before = await states(kept.database)
    with CutOff(kept.archive) as read, pytest.raises(CannotRestore):
        await Restore(Database.dsn(kept.database.owner_url), kept.files).read(read, clean=True)
    assert await states(kept.database) == before


def test_a_damaged_archive_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(NotABackup, match="is no backup, or was cut off"):
        ArchiveReader(path)
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("holiday.jpg", b"")
    with pytest.raises(NotABackup, match="no manifest"):
        ArchiveReader(path)


def test_bytes_that_changed_in_the_archive_are_noticed(kept: Kept, tmp_path: Path) -> None:
    content = bytearray(kept.archive.read_bytes())
    place = content.index(b"bytes", content.index(FILE_KEY.encode()))
    content[place] ^= 1
    archive = tmp_path / "changed.backup"
    archive.write_bytes(content)
    with ArchiveReader(archive) as read, pytest.raises(NotABackup):
        read.verify(lambda _: None)


def test_a_backup_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"the earlier one")

    def breaks_off() -> Iterator[bytes]:
        yield b"half of it"
        raise OSError("full")

    with pytest.raises(OSError, match="full"), new_archive(path) as archive:
        archive.add("database.dump", breaks_off())
    assert path.read_bytes() == b"the earlier one"
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_brings_everything_back(
    source: Database, make_database: Callable[..., Database], tmp_path: Path
) -> None:
    """Both commands, as a person calls them; the files are where the settings say."""
    target, archive = make_database(migrated=False), tmp_path / "all.backup"

    def colloquy(*arguments: str, database: Database, files: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "COLLOQUY_DATA_DIR": str(tmp_path),
            "COLLOQUY_MIGRATION_DATABASE_URL": database.owner_url,
            "COLLOQUY_DOCUMENT_STORAGE_URL": (tmp_path / files).as_uri(),
        }
        command = [sys.executable, "-m", "chat_api", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)

    made = colloquy("backup", str(archive), database=source, files="files")
    assert made.returncode == 0, made.stderr
    assert "1 files" in made.stdout
    assert "1 files that rows name were not in the storage" in made.stderr
    back = colloquy("restore", str(archive), database=target, files="elsewhere")
    assert back.returncode == 0, back.stderr
    assert "every table has the backup's checksum" in back.stdout
    assert (tmp_path / "elsewhere" / FILE_KEY).read_bytes() == b"bytes"


async def test_bytes_that_were_missing_and_are_there_again_stay(
    source: Database, archive: Path, files: ObjectStorage, tmp_path: Path
) -> None:
    """The row that names them comes back."""
    await files.put(GONE_KEY, tmp_path / "content")
    await bring_back(archive, source, files, clean=True)
    assert GONE_KEY in {stored.key async for batch in files.objects() for stored in batch}


async def test_nothing_is_committed_before_the_checks_are_known_to_hold(kept: Kept, tmp_path: Path) -> None:
    """What psql was given it goes on with, also when we are killed: so it is not given the end before its answer."""
    given, folder = tmp_path / "given", tmp_path / "bin"
    folder.mkdir()
    psql = folder / "psql"
    psql.write_text(f"#!/bin/sh\nsed '/^.echo checked/q' > {given}\n")
    psql.chmod(0o700)
    (folder / "pg_restore").symlink_to(find_tools(0).folder / "pg_restore")
    restore = Restore(Database.dsn(kept.database.owner_url), kept.files, PostgresTools(folder, 99))
    with ArchiveReader(kept.archive) as read, pytest.raises(CannotRestore):
        await restore.read(read, clean=True)
    script = given.read_text()
    assert "BEGIN;" in script
    assert "other rows than the backup" in script
    assert "COMMIT;" not in script
