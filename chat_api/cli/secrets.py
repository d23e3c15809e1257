"""`colloquy secrets reseal`: after a change of `COLLOQUY_SECRET_KEY`, what is stored sealed is sealed anew."""

from __future__ import annotations

import click

from chat_api.cli.progress import progress
from chat_api.config import ApiSettings
from chat_api.kit.clock import SystemClock
from chat_api.kit.db import Database
from chat_api.webhooks.resealing import Resealed, Resealing
from chat_api.webhooks.secrets import WebhookSecrets

_SHOWN = 20


async def reseal(settings: ApiSettings) -> bool:
    """Says on standard output what was done. Returns whether every secret in use is under the current key now."""
    database = await Database.open(settings)
    try:
        resealing = Resealing(database, WebhookSecrets(settings.secret_keys), SystemClock())
        with progress("Webhooks", await resealing.count()) as bar:
            done = await resealing.run(bar.update)
    finally:
        await database.close()
    _tell(done)
    return not done.unreadable


def _tell(done: Resealed) -> None:
    click.echo(f"sealed {_counted(done.rewritten, 'secret')} anew; {done.current} were under the current key already")
    if not done.unreadable:
        return
    click.echo(
        f"{_counted(len(done.unreadable), 'webhook')} cannot be read with the current key or the previous ones: add "
        "the right key to COLLOQUY_PREVIOUS_SECRET_KEYS, or have the owners make new secrets"
    )
    for webhook_id in done.unreadable[:_SHOWN]:
        click.echo(f"  {webhook_id}")
    if len(done.unreadable) > _SHOWN:
        click.echo(f"  and {len(done.unreadable) - _SHOWN} more")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
