"""What a file says becomes the importer's own: ids of here in place of those of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from chat_api.kit.models import new_id
from chat_api.transfer.export_statements import IMPORTED_AUTHOR
from chat_api.transfer.staging import Batch, Row, StagedConversation


class Person(Protocol):
    """Who imports: everything that is imported is theirs."""

    @property
    def id(self) -> UUID: ...

    @property
    def username(self) -> str: ...


class Adoption:
    """`session_ids` are by the place of a conversation in the file. Batches come in the file's order, once."""

    def __init__(
        self, person: Person, conversations: Sequence[StagedConversation], session_ids: Mapping[int, UUID]
    ) -> None:
        self._person = person
        self._person_id = str(person.id)
        self._conversations = conversations
        self._session_ids = session_ids
        self._message_ids: dict[int, list[str]] = {}

    def adopt(self, batch: Batch, files: Mapping[str, Mapping[str, Any]], bots: Mapping[UUID, bool]) -> None:
        """Change the rows to what is stored. `files` are those that the person may read, `bots` whether they may."""
        # Only the last conversation of a batch goes on in the next one.
        self._message_ids = dict(list(self._message_ids.items())[-1:])
        for row in batch.sessions:
            conversation = self._conversations[row["place"]]
            row["id"], row["messages"] = self._session_ids[row["place"]], conversation.messages
            if row.get("bot_id") is not None and not bots[UUID(row["bot_id"])]:
                row["bot_id"] = None
        for row in batch.messages:
            place = row.pop("place")
            self._place_message(row, place)
            self._make_own(row, files, self._conversations[place])
        for row in batch.revisions:
            place = row.pop("place")
            row["session_id"] = self._session_ids[place]
            row["message_id"] = self._message_ids[place][row.pop("seq") - 1]

    def _place_message(self, row: Row, place: int) -> None:
        ids = self._message_ids.setdefault(place, [])
        ids.append(str(new_id()))
        row["session_id"], row["id"] = self._session_ids[place], ids[-1]
        asked = row.pop("parent_seq")
        row["parent_id"] = None if asked is None else ids[asked - 1]

    def _make_own(self, row: Row, files: Mapping[str, Mapping[str, Any]], conversation: StagedConversation) -> None:
        """Who wrote it, who reacted, which file it is."""
        if row["role"] == "user":
            row["sender_id"] = self._person_id
            author = row.get("author")
            # Without what the file has under that name itself.
            metadata = {name: value for name, value in row.get("metadata", {}).items() if name != IMPORTED_AUTHOR}
            if author is not None and author != self._person.username:
                metadata[IMPORTED_AUTHOR] = author
            row["metadata"] = metadata
        if row.get("attachments"):
            kept = [
                {name: value for name, value in files[wanted["id"]].items() if name != "sha256"}
                for wanted in row["attachments"]
                if wanted["id"] in files and wanted["sha256"] == files[wanted["id"]]["sha256"]
            ]
            conversation.left_out.attachments += len(row["attachments"]) - len(kept)
            row["attachments"] = kept
        if row.get("reactions"):
            given = sum(len(people) for people in row["reactions"].values())
            own = [emoji for emoji, people in row["reactions"].items() if self._person.username in people]
            conversation.left_out.reactions += given - len(own)
            row["reactions"] = {emoji: [self._person_id] for emoji in own}
