"""Reading back what was exported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from chat_api.messages.models import MessageStatus
from chat_api.transfer.errors import InvalidImport
from chat_api.transfer.formats import FORMAT, VERSION
from chat_api.transfer.json_events import JsonEvents
from chat_api.transfer.schemas import (
    ExportedMessage,
    ExportedRevision,
    ExportedSession,
    ImportSource,
    LeftOut,
)
from chat_api.transfer.staging import Row, Staging

UNTITLED = "Imported conversation"

Model = TypeVar("Model", bound=BaseModel)


class ExportedSessionReader:
    """Collects one exported session, whose fields may come in any order but for `messages` before `revisions`.

    `place` is where it stands in the file. Everything raises `InvalidImport`.
    """

    def __init__(self, staging: Staging, place: list[str | int]) -> None:
        self._staging = staging
        self._place = place
        self._session: ExportedSession | None = None
        self._positions: dict[int, int] = {}
        self._unknown_parents: dict[int, int] = {}
        self._revised: set[tuple[int, int]] = set()
        self._left_out = LeftOut()
        self._has_messages = False

    def read_session(self, events: JsonEvents, first: tuple[str, Any]) -> None:
        self._session = self._valid(ExportedSession, events.value(first), "session")

    def read_messages(self, events: JsonEvents) -> None:
        if self._has_messages:
            raise self._invalid("There is one list of messages", "messages")
        self._has_messages = True
        for number, first in enumerate(events.items()):
            self._take(self._valid(ExportedMessage, events.value(first), "messages", number), number)

    def read_revisions(self, events: JsonEvents) -> None:
        for number, first in enumerate(events.items()):
            revision = self._valid(ExportedRevision, events.value(first), "revisions", number)
            seq = self._positions.get(revision.message_id.int)
            if seq is None or (seq, revision.revision) in self._revised:
                raise self._invalid("An earlier text belongs to a message before it, once", "revisions", number)
            self._revised.add((seq, revision.revision))
            row = revision.model_dump(mode="json", exclude={"message_id"})
            self._staging.add_revision({"seq": seq, **row})

    def finish(self, fields: Mapping[str, Any]) -> None:
        """With the other fields of the object."""
        if fields.get("format") != FORMAT:
            raise self._invalid("It is no conversation of a kind that can be imported", "format")
        if fields.get("version") != VERSION:
            raise self._invalid("It was exported in a version of the format that is not known here", "version")
        if self._session is None or not self._has_messages:
            raise self._invalid("An exported session has `session` and `messages`")
        session = self._session
        row = session.model_dump(mode="json", exclude={"id", "participants", "settings"})
        row["settings"] = session.settings.model_dump(mode="json", exclude_none=True)
        row["title"] = session.title if session.title and session.title.strip() else UNTITLED
        self._left_out.unknown_parents = sum(self._unknown_parents.values())
        self._staging.end(ImportSource.COLLOQUY, session.id, row, self._left_out)

    def _take(self, message: ExportedMessage, number: int) -> None:
        seq = self._staging.messages + 1
        if message.id is not None:
            if message.id.int in self._positions:
                raise self._invalid("Two messages have the same id", "messages", number, "id")
            if message.id.int in self._unknown_parents or message.id == message.parent_id:
                # Links only go back, so they cannot go round.
                raise self._invalid("A message comes after the one that it answers", "messages", number, "id")
            self._positions[message.id.int] = seq
        self._staging.add_message(self._row(message, seq))

    def _row(self, message: ExportedMessage, seq: int) -> Row:
        row = message.model_dump(mode="json", exclude={"id", "seq", "parent_id", "usage"})
        usage = message.usage
        return {
            "seq": seq,
            "parent_seq": self._position_of(message.parent_id),
            **row,
            "status": settled(message.status).value,
            "prompt_tokens": None if usage is None else usage.prompt_tokens,
            "completion_tokens": None if usage is None else usage.completion_tokens,
            "total_tokens": None if usage is None else usage.total_tokens,
        }

    def _position_of(self, message_id: UUID | None) -> int | None:
        if message_id is None:
            return None
        position = self._positions.get(message_id.int)
        if position is None:
            self._unknown_parents[message_id.int] = self._unknown_parents.get(message_id.int, 0) + 1
        return position

    def _valid(self, kind: type[Model], value: object, *place: str | int) -> Model:
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
            # Keys of the file's own may be in the place: up to the first, it is ours.
            known = [part for part in wrong["loc"][:1] if part in kind.model_fields]
            raise self._invalid(wrong["msg"], *place, *known, kind=wrong["type"]) from None

    def _invalid(self, reason: str, *place: str | int, kind: str = "import") -> InvalidImport:
        return InvalidImport(reason, place=[*self._place, *place], kind=kind)


def settled(status: MessageStatus) -> MessageStatus:
    """A copy has no run that would finish it: what was said so far is all there will be."""
    unfinished = (MessageStatus.STREAMING, MessageStatus.AWAITING_APPROVAL)
    return MessageStatus.CANCELLED if status in unfinished else status
