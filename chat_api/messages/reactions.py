"""What a reaction may be: one short sign, the same bytes whoever sends it."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

LONGEST_EMOJI = 32
"""Characters. The longest emoji that Unicode recommends is a family or a couple of 10, the flag of Wales has 7."""

_UNREADABLE = "\ufffd"
"""What stands for bytes that are no text."""
_JOINER = "\u200d"
_TAGS = range(0xE0020, 0xE0080)
_ATTACHED = frozenset({"Cf", "Mn", "Me"})
"""Categories of what only changes the sign before it."""


def clean_emoji(raw: str) -> str:
    """In normal form C. Raises `PydanticCustomError` for what is too long, cannot be seen, or breaks a line."""
    emoji = unicodedata.normalize("NFC", raw)
    if not 1 <= len(emoji) <= LONGEST_EMOJI:
        raise PydanticCustomError("emoji_length", "A reaction has 1 to 32 characters")
    if not all(_is_allowed(sign) for sign in emoji) or unicodedata.category(emoji[0]) in _ATTACHED:
        raise PydanticCustomError("emoji", "A reaction is an emoji, or a short word without spaces")
    return emoji


def _is_allowed(sign: str) -> bool:
    """Unassigned code points are taken: new emoji come faster than new tables of them."""
    category = unicodedata.category(sign)
    if category == "Cf":
        return sign == _JOINER or ord(sign) in _TAGS
    if category == "Cn":
        return ord(sign) & 0xFFFE != 0xFFFE and not 0xFDD0 <= ord(sign) <= 0xFDEF
    return category[0] != "Z" and category not in ("Cc", "Cs", "Co") and sign != _UNREADABLE


Emoji = Annotated[
    str,
    Path(
        min_length=1,
        max_length=LONGEST_EMOJI,
        description="The emoji, percent-encoded; without spaces and control characters.",
        examples=["\N{THUMBS UP SIGN}"],
    ),
    AfterValidator(clean_emoji),
]
