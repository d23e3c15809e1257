"""One call to a model, and what it says back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from shared.contracts.chat import ChatImage, ChatMessage, ChatRole, FinishReason, ImageType, Provider, Usage
from shared.contracts.knowledge import Passage

IMAGE_NOT_SHOWN = "[image: not shown to this model]"
"""Stands for a picture where the model cannot be given it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One message as a model reads it: who spoke is part of the text, pictures come after it."""

    role: ChatRole
    content: str
    images: tuple[ChatImage, ...] = ()

    @classmethod
    def of(cls, message: ChatMessage) -> Line:
        images = tuple(message.images or ())
        # Providers disagree on a name field, or drop it; in the text all of them see it.
        if message.name is not None and message.role is ChatRole.USER:
            return cls(message.role, f"{message.name}: {message.content}", images)
        return cls(message.role, message.content, images)

    def showing(self, takes: Collection[ImageType]) -> Line:
        """The line for a model that takes pictures of these types only: a note stands for each of the others."""
        if all(image.media_type in takes for image in self.images):
            return self
        kept = tuple(image for image in self.images if image.media_type in takes)
        notes = [IMAGE_NOT_SHOWN] * (len(self.images) - len(kept))
        return Line(self.role, "\n".join([self.content, *notes]), kept)


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

    @property
    def has_images(self) -> bool:
        return any(line.images for line in self.lines)

    def without_images(self) -> ModelCall:
        """The same for a model that cannot see: notes stand for the pictures."""
        return replace(self, lines=tuple(line.showing(()) for line in self.lines))

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
