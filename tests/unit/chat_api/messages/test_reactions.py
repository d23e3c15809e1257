"""What may be a reaction, and that the same emoji is the same bytes."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from chat_api.messages.reactions import LONGEST_EMOJI, clean_emoji

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
FLAG_OF_WALES = "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f"


@pytest.mark.parametrize(
    "emoji",
    ["👍", "👍🏽", "❤️", "1️⃣", "🇫🇮", FAMILY, FLAG_OF_WALES, "+1", "ok", "é", "\U0001fae9", "x" * LONGEST_EMOJI],
    ids=ascii,
)
def test_what_is_taken_stays_as_it_is(emoji: str) -> None:
    assert clean_emoji(emoji) == emoji


def test_two_ways_to_write_a_sign_are_one() -> None:
    assert clean_emoji("e\u0301") == "é"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " ",
        "a b",
        "a\u00a0b",
        "\u2028",
        "a\n",
        "\t",
        "\x00",
        "\x1b[31m",
        "\u202e",
        "\u200b",
        "\ufeff",
        "\u200d",
        "\ufe0f",
        "\u0301",
        "\ufffd",
        "\uffff",
        "\ufdd0",
        "\ue000",
        chr(0xD83D),
        "x" * (LONGEST_EMOJI + 1),
        # Normal form C is longer than what was sent.
        "\u0958" * 20,
    ],
    ids=ascii,
)
def test_what_cannot_be_seen_or_is_too_long_is_refused(raw: str) -> None:
    with pytest.raises(PydanticCustomError):
        clean_emoji(raw)
