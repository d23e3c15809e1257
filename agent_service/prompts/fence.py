"""The fence that quoted material stands in.

    <passage-kqzrwh 1 document="harbour.md" page="3">
    The harbour closes at ten.
    </passage-kqzrwh>

The code is new in every turn and known to nobody who wrote a document, so no document can close its own fence or
open another. What only looks like a mark is disarmed all the same: a model need not compare letters exactly.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from agent_service.domain.text import TextCleaner
from agent_service.domain.turn import Quotation
from agent_service.prompts.control_tokens import broken_up

WORD = "passage"

CODE_LENGTH = 8

# Consonants only: a code is never a word, nor a number that an answer may well contain.
_LETTERS = "bcdfghjkmnpqrtvwxz"
MOST_NAME_CHARACTERS = 120
_BRIEF_NAME_CHARACTERS = 24
_MOST_MARK_CHARACTERS = 600

_LINE_ENDS = re.compile(r"\r\n?|[\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Read by models, unseen by people: joiners, direction marks, tags, variation selectors, fillers.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
# Persian and the scripts of India join letters with these; between Latin ones they only hide something.
_MISPLACED_JOINERS = re.compile("(?<=[\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?=[\x00-\x7f])")
_ANGLES = re.compile("[<\u02c2\u2039\u2329\u276c\u2770\u27e8\u29fc\u3008\ufe64\uff1c]")
_LOOKALIKES = str.maketrans("арѕеɡαε", "apsegae")
_NEAR = 48


def new_code(texts: Iterable[str], choose: Callable[[str], str] = secrets.choice) -> str:
    """Random letters that occur in none of the texts: one of eleven thousand million."""
    folded = [text.casefold() for text in texts]
    while True:
        code = "".join(choose(_LETTERS) for _ in range(CODE_LENGTH))
        if not any(code in text for text in folded):
            return code


def fenced(quotation: Quotation, code: str) -> str:
    passage = quotation.passage
    about = [f'document="{_attribute(passage.document_name)}"']
    if passage.page is not None:
        about.append(f'page="{passage.page}"')
    if passage.heading:
        about.append(f'heading="{_attribute(passage.heading)}"')
    return _between_marks(quotation, code, about)


def fenced_briefly(quotation: Quotation, code: str) -> str:
    """The same with the name alone: to a small model each word of a mark is one more to stumble over."""
    return _between_marks(
        quotation, code, [f'"{_attribute(quotation.passage.document_name)[:_BRIEF_NAME_CHARACTERS]}"']
    )


def _between_marks(quotation: Quotation, code: str, about: Sequence[str]) -> str:
    text = disarmed(quotation.text).strip()
    return f"<{WORD}-{code} {quotation.number} {' '.join(about)}>\n{text}\n</{WORD}-{code}>"


def disarmed(text: str) -> str:
    """The text as a model may be shown it: nothing unseen, nothing like a mark of ours, no control tokens."""
    text = _INVISIBLE.sub("", _CONTROLS.sub(" ", _LINE_ENDS.sub("\n", text)))
    text = _MISPLACED_JOINERS.sub("", text)
    return broken_up(_ANGLES.sub(_bent, text))


def one_line(text: str, most: int = MOST_NAME_CHARACTERS) -> str:
    """What others named something, disarmed, in one line of so many characters at most."""
    return " ".join(disarmed(text).split())[:most]


def _bent(angle: re.Match[str]) -> str:
    near = unicodedata.normalize("NFKD", angle.string[angle.end() : angle.end() + _NEAR]).casefold()
    letters = "".join(filter(str.isalpha, near.translate(_LOOKALIKES)))
    return "(" if letters.startswith((WORD, f"end{WORD}")) else angle.group()


def _attribute(value: str) -> str:
    return one_line(value.replace('"', "'")).replace("<", "(").replace(">", ")")


class AnswerCleaner(TextCleaner):
    """Cleans the answer to quoted material, and keeps in `said` what went out.

    Marks that the model repeats are taken out, and so is their code. An exclamation mark is kept apart from a
    bracket: `![](https://…?what-was-said)` in an answer makes a reader's browser fetch that address unasked, which
    is how a document would carry a conversation away.
    """

    def __init__(self, code: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self._code = code
        self._starts = (f"<{WORD}-{code}", f"</{WORD}-{code}")
        self._waiting = ""
        self._last = ""

    def feed(self, text: str) -> str:
        waiting = self._waiting + super().feed(text)
        held = self._held_from(waiting)
        self._waiting = waiting[held:]
        return self._spoken(waiting[:held])

    def flush(self) -> str:
        waiting, self._waiting = self._waiting + super().flush(), ""
        return self._spoken(waiting)

    def _held_from(self, text: str) -> int:
        """Where that begins which may yet turn out to be a mark."""
        angle = text.rfind("<", max(0, len(text) - _MOST_MARK_CHARACTERS))
        if angle >= 0:
            tail = text[angle:].casefold()
            open_mark = tail.startswith(self._starts) and ">" not in tail and "\n" not in tail
            if open_mark or any(start.startswith(tail) for start in self._starts):
                return angle
        folded = text[-len(self._code) :].casefold()
        for length in range(min(len(self._code) - 1, len(folded)), 0, -1):
            if self._code.startswith(folded[-length:]):
                return len(text) - length
        return len(text)

    def _spoken(self, text: str) -> str:
        if self._code in text.casefold():
            text = self._without_marks(text)
        if self._last == "!" and text.startswith("["):
            text = f" {text}"
        text = text.replace("![", "! [")
        if text:
            self._last = text[-1]
            self.said.append(text)
        return text

    def _without_marks(self, text: str) -> str:
        # Made here, because most answers repeat nothing: an expression for a code of its own costs half a millisecond.
        mark = rf"</?{WORD}-{self._code}[^>\n]{{0,{_MOST_MARK_CHARACTERS}}}>|(?:</?{WORD}-)?{self._code}"
        return re.sub(mark, "", text, flags=re.IGNORECASE)
