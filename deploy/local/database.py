"""The database inside a new server: created, closed to everybody, opened to three roles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.local.credentials import Credentials
from deploy.local.errors import CannotStart
from deploy.local.postgres import EmbeddedPostgres

DATABASE = "colloquy"
# By default everybody may connect to the two databases that come with a server, and make temporary tables.
_CREATE = """
SELECT format('CREATE DATABASE %I', :'name') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name')
\\gexec
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
REVOKE ALL ON DATABASE template1 FROM PUBLIC;
"""
ROLES_SQL = Path(__file__).parent.parent / "roles.sql"


@dataclass(frozen=True)
class DatabaseUrls:
    """One database as each of its roles sees it, with SQLAlchemy's driver name in front."""

    owner: str
    api: str
    agent: str


def urls(server: EmbeddedPostgres, credentials: Credentials, database: str = DATABASE) -> DatabaseUrls:
    return DatabaseUrls(
        owner=server.url("colloquy_owner", credentials.owner, database),
        api=server.url("colloquy_api", credentials.api, database),
        agent=server.url("colloquy_agent", credentials.agent, database),
    )


def prepare(server: EmbeddedPostgres, credentials: Credentials, database: str = DATABASE) -> DatabaseUrls:
    """Create `database` where it is missing and give the three roles exactly their rights. Can be repeated.

    Raises `CannotStart`.
    """
    _run(server, f"\\set name '{database}'\n{_CREATE}", database="postgres")
    apply_roles(server, credentials, database)
    return urls(server, credentials, database)


def apply_roles(server: EmbeddedPostgres, credentials: Credentials, database: str) -> None:
    """Run `deploy/roles.sql` in `database` as the superuser. Raises `CannotStart`."""
    script = (
        f"\\set owner_password '{credentials.owner}'\n"
        f"\\set api_password '{credentials.api}'\n"
        f"\\set agent_password '{credentials.agent}'\n" + ROLES_SQL.read_text()
        # Not \i: psql may run as a user who cannot read the file.
    )
    _run(server, script, database=database)


def _run(server: EmbeddedPostgres, script: str, *, database: str) -> None:
    done = server.psql(database=database, script=script)
    if done.returncode != 0:
        raise CannotStart(f"preparing the database {database} failed: {done.stderr.strip()}")
