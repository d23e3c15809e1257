"""Text that can be stored and sent, from text as models produce it."""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"


def _is_high_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udbff"


class TextCleaner:
    """Joins surrogate pairs that were cut in two, and replaces NUL and surrogates that stay alone by U+FFFD.

    Models that stream by token cut an emoji's two escapes apart, so the first half waits for the next piece.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        if not self._held and text.isascii():
            return text.replace("\x00", REPLACEMENT) if "\x00" in text else text
        text = self._held + text
        self._held = ""
        if text and _is_high_surrogate(text[-1]):
            self._held = text[-1]
            text = text[:-1]
        return _clean(text)

    def flush(self) -> str:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return REPLACEMENT if held else ""


_LINE_ENDS = re.compile(r"\r\n?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def plain_text(text: str) -> str:
    """A whole text that can be stored, sent, and shown: no control characters but tabs and ends of lines."""
    return _CONTROLS.sub(REPLACEMENT, _LINE_ENDS.sub("\n", _clean(text)))


def _clean(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\x00", REPLACEMENT)
