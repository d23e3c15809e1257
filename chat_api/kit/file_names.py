"""Names of files, as people may see them. They are never paths of ours."""

from __future__ import annotations

import re
import unicodedata

LONGEST_NAME = 255
_LONGEST_SUFFIX = 32
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They can make `exe.fdp` read as `pdf.exe`."""


def clean_name(raw: str) -> str:
    """The last part of a path, without control characters, 255 characters at most; empty where nothing is left."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", raw))[-1]
    kept = "".join(" " if unicodedata.category(sign) in ("Zl", "Zp") else sign for sign in last if _is_shown(sign))
    name = " ".join(kept.split())
    if not name.strip("."):
        return ""
    if len(name) <= LONGEST_NAME:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > _LONGEST_SUFFIX:
        return name[:LONGEST_NAME]
    return stem[: LONGEST_NAME - len(suffix) - 1] + dot + suffix


def _is_shown(sign: str) -> bool:
    # Tabs and line breaks become the space between words.
    return sign in "\t\n\r" or (unicodedata.category(sign) not in ("Cc", "Cs", "Cn") and sign not in _DIRECTIONS)
