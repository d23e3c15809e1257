"""Reading a file that may be imported: every conversation in it, of any source, or a reason why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from chat_api.transfer.chatgpt import ChatGptReader
from chat_api.transfer.errors import InvalidImport
from chat_api.transfer.exported_sessions import ExportedSessionReader
from chat_api.transfer.json_events import JsonEvents
from chat_api.transfer.staging import Staging

MAX_CONVERSATIONS = 20_000
_HELD_BYTES = 1024 * 1024

_FIELDS = frozenset(
    {"format", "version", "title", "create_time", "current_node", "id", "conversation_id", "is_archived"}
)
_CONTAINERS = ("start_map", "start_array")


def read_import(path: Path, staging: Staging, *, max_messages: int, tell: Callable[[int], None]) -> None:
    """Stage what is in the file: one conversation, or a list of them. Blocks: call it in a thread.

    `tell` hears of the bytes that were read. Raises `InvalidImport`, and then nothing of the file is any good.
    """
    with path.open("rb") as file:
        events = JsonEvents(file, tell)
        first, _ = events.next()
        if first == "start_map":
            _read_conversation(events, staging, [], max_messages)
        elif first == "start_array":
            for number, (event, _) in enumerate(events.items()):
                if event != "start_map":
                    raise InvalidImport("A conversation is an object", place=[number])
                if number == MAX_CONVERSATIONS:
                    raise InvalidImport(f"A file may have {MAX_CONVERSATIONS} conversations", kind="too_long")
                _read_conversation(events, staging, [number], max_messages)
        else:
            raise InvalidImport
        events.finish()
    if not staging.conversations:
        raise InvalidImport("There is no conversation in the file")


def _read_conversation(events: JsonEvents, staging: Staging, place: list[str | int], max_messages: int) -> None:
    staging.begin()
    exported = ExportedSessionReader(staging, place)
    fields: dict[str, Any] = {}
    # In memory as long as it is short: a file for each of thousands takes longer than reading them.
    with SpooledTemporaryFile(_HELD_BYTES, dir=str(staging.folder)) as aside:
        tree = ChatGptReader(staging, aside, place, max_nodes=max_messages)
        for name in events.fields():
            first = events.next()
            match name, first[0]:
                case "session", "start_map":
                    exported.read_session(events, first)
                case "messages", "start_array":
                    exported.read_messages(events)
                case "revisions", "start_array":
                    exported.read_revisions(events)
                case "mapping", "start_map":
                    tree.read_mapping(events)
                case _ if name in _FIELDS and first[0] not in _CONTAINERS:
                    fields[name] = first[1]
                case _:
                    events.skip(first[0])
        if not tree.is_there:
            exported.finish(fields)
        elif staging.messages:
            raise InvalidImport("A conversation is of one kind", place=place)
        else:
            tree.finish(fields)
