"""The accounts API over a database that each test finds empty."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.factories.accounts import AccountsApi, accounts_api
from tests.stores import Database


@pytest.fixture
async def api(clean_database: Database) -> AsyncIterator[AccountsApi]:
    async with accounts_api(clean_database) as api:
        yield api
