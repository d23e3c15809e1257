"""The file that `colloquy backup` writes: a zip of one dump, the stored files, and a manifest of both.

Nothing in it is packed a second time: the dump is, and so are most files. The manifest comes last, because the
checksums are known then, and a file without one is no backup.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT = 1
MANIFEST = "manifest.json"
DUMP = "database.dump"
OBJECTS = "objects"
SCHEMAS = ("chat", "agent", "migrations")
_READ_BYTES = 1024 * 1024

Name = Annotated[str, Field(pattern=r"^(chat|agent|migrations)\.[a-z_][a-z0-9_]*$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class NotABackup(Exception):
    """The message says what is wrong with the file."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TableState(_Part):
    """`checksum` is the sum of a hash of every row, so the order of rows does not matter."""

    rows: int = Field(ge=0)
    checksum: Annotated[str, Field(pattern=r"^-?\d+$")]


class StoredPart(_Part):
    """Bytes in the archive."""

    bytes: int = Field(ge=0)
    sha256: Digest


class Manifest(_Part):
    """`missing` are keys of files that rows name and the storage did not have when it was asked."""

    format: int
    created_at: datetime
    colloquy: str
    postgres: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-z_]+$")] | None
    tables: dict[Name, TableState]
    dump: StoredPart
    objects: dict[str, StoredPart]
    missing: list[str]


def object_name(key: str) -> str:
    return f"{OBJECTS}/{key}"


class ArchiveWriter:
    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file

    def add(self, name: str, pieces: Iterable[bytes]) -> StoredPart:
        digest = hashlib.sha256()
        size = 0
        # Its size is not known beforehand, and may need more than 32 bits.
        with self._file.open(name, "w", force_zip64=True) as member:
            for piece in pieces:
                member.write(piece)
                digest.update(piece)
                size += len(piece)
        return StoredPart(bytes=size, sha256=digest.hexdigest())

    def finish(self, manifest: Manifest) -> None:
        self._file.writestr(MANIFEST, manifest.model_dump_json(indent=1))


@contextmanager
def new_archive(target: Path) -> Iterator[ArchiveWriter]:
    """Write beside `target`, and take its name at the end: a backup that broke off leaves the earlier one alone.

    Readable by its owner only: it holds everything that everybody wrote. Raises `OSError`.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as file:
                yield ArchiveWriter(file)
            raw.flush()
            os.fsync(raw.fileno())
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


class ArchiveReader:
    """Use it in a `with` block. Raises `NotABackup` and `OSError`."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise NotABackup(f"{path} is no backup, or was cut off") from None
        try:
            self.manifest = self._read_manifest(path)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def size_bytes(self) -> int:
        return self.manifest.dump.bytes + sum(part.bytes for part in self.manifest.objects.values())

    def verify(self, tell: Callable[[int], None]) -> None:
        """Compare every byte with the manifest. `tell` hears how many more were read."""
        expected = {DUMP: self.manifest.dump}
        expected |= {object_name(key): part for key, part in self.manifest.objects.items()}
        for name, part in expected.items():
            digest = hashlib.sha256()
            for piece in self.pieces(name):
                digest.update(piece)
                tell(len(piece))
            if digest.hexdigest() != part.sha256:
                raise NotABackup(f"{name} in the backup is not what was written")

    def pieces(self, name: str) -> Iterator[bytes]:
        try:
            with self._file.open(name) as member:
                while piece := member.read(_READ_BYTES):
                    yield piece
        except (KeyError, zipfile.BadZipFile):
            raise NotABackup(f"{name} in the backup is missing or damaged") from None

    def _read_manifest(self, path: Path) -> Manifest:
        try:
            manifest = Manifest.model_validate_json(self._file.read(MANIFEST))
        except (KeyError, ValidationError, zipfile.BadZipFile):
            raise NotABackup(f"{path} has no manifest that can be read: it is no backup of ours") from None
        if manifest.format != FORMAT:
            raise NotABackup(f"{path} has format {manifest.format}, and this version reads {FORMAT}")
        return manifest
