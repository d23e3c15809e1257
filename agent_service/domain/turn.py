"""One call to a model, and what it says back."""

from __future__ import annotations

from dataclasses import dataclass

from shared.contracts.chat import ChatMessage, ChatRole, FinishReason, Provider, Usage
from shared.contracts.knowledge import Passage


@dataclass(frozen=True, slots=True)
class Line:
    """One message as a model reads it: who spoke is part of the text."""

    role: ChatRole
    content: str

    @classmethod
    def of(cls, message: ChatMessage) -> Line:
        # Providers disagree on a name field, or drop it; in the text all of them see it.
        if message.name is not None and message.role is ChatRole.USER:
            return cls(message.role, f"{message.name}: {message.content}")
        return cls(message.role, message.content)


@dataclass(frozen=True, slots=True)
class ModelCall:
    """Everything a model gets. `None` leaves the choice to the provider.

    The first `pinned` lines are no history, but examples of what is wanted: they stay where history is cut.
    """

    provider: Provider
    model: str
    lines: tuple[Line, ...]
    system_prompt: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    pinned: int = 0

    def system_text(self) -> str | None:
        """All that speaks with the system's voice, joined: some providers take one system text only."""
        parts = [self.system_prompt or "", *(line.content for line in self.lines if line.role is ChatRole.SYSTEM)]
        return "\n\n".join(part for part in parts if part) or None


@dataclass(frozen=True, slots=True)
class Quotation:
    """What a model is shown of a passage: its characters `start` to `end`, under a number that counts from 1."""

    number: int
    passage: Passage
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.passage.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class TextPiece:
    """More text, as it came: it may end within a surrogate pair, or hold what no database stores."""

    text: str


@dataclass(frozen=True, slots=True)
class UsageReport:
    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    """The model's own word that it is done. A stream that ends without it was cut."""

    reason: FinishReason


ModelEvent = TextPiece | UsageReport | Finished
