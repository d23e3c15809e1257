"""Processes of the chat API with plans that a test chooses."""

from __future__ import annotations

import pytest

from tests.factories.plans import WithPlans, plans_over
from tests.stores import Database


@pytest.fixture
def with_plans(clean_database: Database, redis_url: str) -> WithPlans:
    return plans_over(clean_database.api_url, redis_url)
