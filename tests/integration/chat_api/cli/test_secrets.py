"""`colloquy secrets reseal`: what it says, what it exits with, and what it never shows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chat_api.cli.main import colloquy
from chat_api.webhooks.secrets import WebhookSecrets
from shared.security import KeyRing
from tests.factories.chat import ChatApi, Person
from tests.factories.webhooks import Webhooks

NEW = "the new secret key of more than thirty-two bytes"
STRANGE = "a strange secret key of more than thirty-two bytes"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


async def command(chat: ChatApi, *previous: str) -> Result:
    """As in a process of its own, with a loop of its own."""
    assert chat.settings.database_url is not None
    environment: dict[str, Any] = {
        "COLLOQUY_DATA_DIR": str(Path.cwd()),
        "COLLOQUY_DATABASE_URL": chat.settings.database_url.get_secret_value(),
        "COLLOQUY_SECRET_KEY": NEW,
        "COLLOQUY_PREVIOUS_SECRET_KEYS": json.dumps(previous),
    }
    return await asyncio.to_thread(CliRunner().invoke, colloquy, ["secrets", "reseal"], env=environment)


async def test_it_says_what_it_did(chat: ChatApi, ann: Person) -> None:
    old = chat.settings.secret_key.get_secret_value()
    hooks = Webhooks(chat)
    made = [await hooks.make(ann) for _ in range(2)]

    first, second = [await command(chat, old) for _ in range(2)]
    third = await command(chat)

    assert first.stdout.splitlines() == ["sealed 2 secrets anew; 0 were under the current key already"]
    assert "Webhooks" in first.stderr
    for later in (second, third):
        assert later.stdout.splitlines() == ["sealed 0 secrets anew; 2 were under the current key already"]
    assert [done.exit_code for done in (first, second, third)] == [0, 0, 0]
    shown = "".join(done.output for done in (first, second, third))
    assert not [secret for secret in (old, NEW, *(hook["secret"] for hook in made)) if secret in shown]


async def test_it_names_what_it_cannot_read(chat: ChatApi, ann: Person) -> None:
    hook = await Webhooks(chat).make(ann)
    alien = WebhookSecrets(KeyRing(STRANGE)).seal("whsec_c2VjcmV0")
    await chat.rows("UPDATE chat.webhook_endpoints SET secret = $1", alien)

    done = await command(chat, chat.settings.secret_key.get_secret_value())
    await chat.rows(
        "INSERT INTO chat.webhook_endpoints (id, user_id, url, secret)"
        " SELECT gen_random_uuid(), user_id, url, secret FROM chat.webhook_endpoints, generate_series(1, 21)"
    )
    many = await command(chat)

    assert done.exit_code == many.exit_code == 1
    head, told, which = done.stdout.splitlines()
    assert head == "sealed 0 secrets anew; 0 were under the current key already"
    assert told.startswith("1 webhook cannot be read ")
    assert "COLLOQUY_PREVIOUS_SECRET_KEYS" in told
    assert which == f"  {hook['id']}"
    assert many.stdout.splitlines()[1].startswith("22 webhooks cannot be read ")
    assert many.stdout.splitlines()[-1] == "  and 2 more"
