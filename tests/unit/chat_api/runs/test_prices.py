"""What a run costs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from chat_api.config import ApiSettings, ModelPrice
from chat_api.runs.prices import PriceTable

USAGE = {"prompt_tokens": 1_000, "completion_tokens": 500, "total_tokens": 1_500, "estimated": True}
PRICES = {
    "openai:small": ModelPrice(prompt=Decimal("0.15"), completion=Decimal("0.60")),
    "openai": ModelPrice(prompt=Decimal(2), completion=Decimal(8)),
    "local": ModelPrice(prompt=Decimal(0), completion=Decimal(0)),
}


@pytest.mark.parametrize(
    ("provider", "model", "cost"),
    [
        ("openai", "small", "0.000450000"),
        ("openai", "large", "0.006000000"),
        ("openai", None, "0.006000000"),
        ("local", "anything", "0"),
    ],
)
def test_a_model_has_its_own_price_or_its_providers(provider: str, model: str | None, cost: str) -> None:
    assert PriceTable(PRICES).cost(provider, model, USAGE) == Decimal(cost)


@pytest.mark.parametrize(("provider", "usage"), [("google_genai", USAGE), (None, USAGE), ("openai", None)])
def test_what_nobody_knows_is_not_free(provider: str | None, usage: dict[str, int] | None) -> None:
    assert PriceTable(PRICES).cost(provider, "small", usage) is None


def test_a_single_token_is_not_lost() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}
    assert PriceTable(PRICES).cost("openai", "small", usage) == Decimal("0.000000150")


def test_prices_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLOQUY_PRICES", '{"openai:small": {"prompt": "0.1", "completion": 0.4}}')
    settings = ApiSettings.load()
    assert PriceTable(settings.prices).cost("openai", "small", USAGE) == Decimal("0.000300000")
    assert PriceTable(settings.prices).cost("local", "any", USAGE) is None


@pytest.mark.parametrize(
    "price", ['{"prompt": -1, "completion": 1}', '{"prompt": 1}', '{"prompt": "NaN", "completion": 1}']
)
def test_a_price_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch, price: str) -> None:
    monkeypatch.setenv("COLLOQUY_PRICES", f'{{"openai": {price}}}')
    with pytest.raises(Exception, match="COLLOQUY_PRICES"):
        ApiSettings.load()
