"""The database as its owning role sees it: the one that is set, or that of the data folder, started for one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from chat_api.config import ApiSettings
from chat_api.kit.address import dsn


@contextmanager
def owner_address(settings: ApiSettings) -> Iterator[str]:
    """An address that asyncpg and PostgreSQL's own programs understand. Raises `click.ClickException`.

    Without an address in the settings, and with nobody running it, the embedded server runs until the block ends.
    Call it in the main thread.
    """
    url = settings.migration_database_url or settings.database_url
    if url is not None:
        yield dsn(url.get_secret_value())
        return
    from deploy.local.errors import CannotStart

    try:
        with _embedded(settings) as address:
            yield address
    except CannotStart as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _embedded(settings: ApiSettings) -> Iterator[str]:
    from deploy.local.credentials import Credentials
    from deploy.local.database import prepare
    from deploy.local.errors import CannotStart
    from deploy.local.files import FileLock
    from deploy.local.postgres import EmbeddedPostgres

    folder = settings.data_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    # The lock of `colloquy up`: it starts the same server, and writes the same addresses.
    lock = FileLock(folder / "up.lock")
    if not lock.acquire(seconds=0.5):
        raise CannotStart(f"Colloquy is just starting or stopping on {folder} (process {lock.holder()}): try again")
    try:
        credentials = Credentials.load_or_create(folder)
        server = EmbeddedPostgres(folder, credentials)
        try:
            server.start()
            yield dsn(prepare(server, credentials).owner)
        finally:
            server.stop()
    finally:
        lock.release()
