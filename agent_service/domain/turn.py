"""One call to a model, and what it says back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from shared.contracts.chat import ChatImage, ChatMessage, ChatRole, FinishReason, ImageType, Provider, ToolChoice, Usage
from shared.contracts.knowledge import Passage
from shared.contracts.tools import ToolCall

IMAGE_NOT_SHOWN = "[image: not shown to this model]"
"""Stands for a picture where the model cannot be given it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One message as a model reads it: who spoke is part of the text, pictures come after it.

    `tool_calls` are what the assistant asked for after its words. A line of a tool answers the call `tool_call_id`, of
    the tool `tool_name`; where it quotes `passages`, the turn shows those in place of its words.
    """

    role: ChatRole
    content: str
    images: tuple[ChatImage, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    tool_name: str | None = None
    passages: tuple[Passage, ...] = ()

    @classmethod
    def of(cls, message: ChatMessage) -> Line:
        images = tuple(message.images or ())
        # Providers disagree on a name field, or drop it; in the text all of them see it.
        if message.name is not None and message.role is ChatRole.USER:
            return cls(message.role, f"{message.name}: {message.content}", images)
        return cls(
            message.role,
            message.content,
            images,
            tool_calls=tuple(message.tool_calls or ()),
            tool_call_id=message.tool_call_id,
            tool_name=message.name if message.role is ChatRole.TOOL else None,
            passages=tuple(message.passages or ()),
        )

    def showing(self, takes: Collection[ImageType]) -> Line:
        """The line for a model that takes pictures of these types only: a note stands for each of the others."""
        if all(image.media_type in takes for image in self.images):
            return self
        kept = tuple(image for image in self.images if image.media_type in takes)
        notes = [IMAGE_NOT_SHOWN] * (len(self.images) - len(kept))
        return replace(self, content="\n".join([self.content, *notes]), images=kept)


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool as a model is told of it. `parameters` is the JSON Schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


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
    tools: tuple[OfferedTool, ...] = ()
    tool_choice: ToolChoice = ToolChoice.AUTO

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
class CallWanted:
    """The model asks for a tool. `arguments` is the JSON that it wrote, which may be none at all.

    `id` is the provider's own, empty where it gives none. `signature` is a mark that the provider wants back.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class UsageReport:
    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    """The model's own word that it is done. A stream that ends without it was cut."""

    reason: FinishReason


ModelEvent = TextPiece | CallWanted | UsageReport | Finished


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """Both together. None is a provider that does not count."""
    if one is None or other is None:
        return one or other
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        total_tokens=one.total_tokens + other.total_tokens,
    )
