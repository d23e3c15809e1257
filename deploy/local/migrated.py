"""Whether an embedded database needs migrating: asking costs 20 ms, loading Alembic to find out a second or two."""

from __future__ import annotations

import hashlib
from pathlib import Path

from deploy.local.database import DATABASE
from deploy.local.postgres import EmbeddedPostgres

HISTORY = Path(__file__).resolve().parents[2] / "migrations" / "versions"
FILE_NAME = "migrated"
_UNKNOWN = "unknown\n"


def is_migrated(server: EmbeddedPostgres, data_dir: Path, history: Path = HISTORY) -> bool:
    """True where these very revisions have been applied and the database still is where they led."""
    try:
        remembered = (data_dir / FILE_NAME).read_text()
    except OSError:
        return False
    return remembered == _state(server, history) != _UNKNOWN


def remember_migrated(server: EmbeddedPostgres, data_dir: Path, history: Path = HISTORY) -> None:
    (data_dir / FILE_NAME).write_text(_state(server, history))


def _state(server: EmbeddedPostgres, history: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(history.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    at = server.psql(database=DATABASE, script="SELECT version_num FROM migrations.alembic_version ORDER BY 1;")
    return f"{digest.hexdigest()} {' '.join(at.stdout.split())}\n" if at.returncode == 0 else _UNKNOWN
