"""What a run costs: the tokens that it used, by the operator's price table."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from chat_api.config import ModelPrice

_TOKENS_PER_PRICE = 1_000_000
_STORED_DIGITS = Decimal("0.000000001")


class PriceTable:
    """`prices` are per million tokens, by `provider:model`, or by provider for its models that are not named."""

    def __init__(self, prices: Mapping[str, ModelPrice]) -> None:
        self._prices = prices

    def cost(self, provider: str | None, model: str | None, usage: Mapping[str, Any] | None) -> Decimal | None:
        """None where nobody knows what was used, which model it was, or what that one costs: not the same as free."""
        if provider is None or usage is None:
            return None
        price = self._prices.get(f"{provider}:{model}") or self._prices.get(provider)
        if price is None:
            return None
        spent: Decimal = usage["prompt_tokens"] * price.prompt + usage["completion_tokens"] * price.completion
        return (spent / _TOKENS_PER_PRICE).quantize(_STORED_DIGITS)
