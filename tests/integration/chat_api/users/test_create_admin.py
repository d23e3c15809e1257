"""Making an administrator from the command line."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from chat_api.users.accounts import create_admin
from chat_api.users.errors import EmailTaken
from tests.factories.accounts import PASSWORD, AccountsApi


async def test_an_administrator_is_made_with_a_real_hash(api: AccountsApi) -> None:
    root = await create_admin(api.settings, "root@example.org", "root", PASSWORD)

    assert root.is_admin
    row = await api.database.fetch_row("SELECT is_admin, password_hash FROM chat.users WHERE id = $1", root.id)
    assert row is not None
    assert row["is_admin"]
    assert row["password_hash"].startswith("$argon2id$")


async def test_what_registration_refuses_is_refused(api: AccountsApi) -> None:
    await api.person("ada")

    with pytest.raises(EmailTaken):
        await create_admin(api.settings, "ada@example.org", "root", PASSWORD)
    with pytest.raises(ValidationError):
        await create_admin(api.settings, "root@example.org", "root", "short")
