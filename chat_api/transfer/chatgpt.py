"""Reading ChatGPT's `conversations.json`: each conversation is a tree, and the branch shown last is what was said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import orjson

from chat_api.messages.models import MessageRole
from chat_api.sessions.models import SessionStatus
from chat_api.transfer.errors import InvalidImport
from chat_api.transfer.exported_sessions import UNTITLED
from chat_api.transfer.json_events import JsonEvents, Shape
from chat_api.transfer.schemas import MAX_CONTENT_CHARS, ImportSource, LeftOut
from chat_api.transfer.staging import Row, Staging
from shared.contracts.chat import Provider

_LONGEST_ID = 200
_LONGEST_TITLE = 200
_EVERYTHING: Shape = None
_NODE: Shape = {
    "parent": _EVERYTHING,
    "message": {
        "author": {"role": _EVERYTHING},
        "create_time": _EVERYTHING,
        "content": dict.fromkeys(("content_type", "parts", "text", "language"), _EVERYTHING),
        "metadata": dict.fromkeys(("model_slug", "is_visually_hidden_from_conversation"), _EVERYTHING),
    },
}
_EARLIEST = 0.0
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class _Node:
    """`at` is where its message is put aside; None where it has none."""

    parent: str | None
    at: int | None


class ChatGptReader:
    """Collects one conversation. `messages` holds its messages until it is known which of them are taken, and `place`
    is where it stands in the file.

    Everything raises `InvalidImport`.
    """

    def __init__(self, staging: Staging, messages: IO[bytes], place: list[str | int], *, max_nodes: int) -> None:
        self._staging = staging
        self._messages = messages
        self._place = place
        self._max_nodes = max_nodes
        self._nodes: dict[str, _Node] = {}
        self._left_out = LeftOut()
        self.is_there = False

    def read_mapping(self, events: JsonEvents) -> None:
        if self.is_there:
            raise self._invalid("There is one tree of messages")
        self.is_there = True
        for node_id in events.fields():
            node = events.value(shape=_NODE)
            if not isinstance(node, dict) or len(node_id) > _LONGEST_ID or node_id in self._nodes:
                raise self._invalid("The nodes of a conversation have ids, each once")
            if len(self._nodes) == self._max_nodes:
                raise self._invalid(f"A conversation may have {self._max_nodes} messages", kind="too_long")
            parent, message = node.get("parent"), node.get("message")
            at = None
            if isinstance(message, dict):
                at = self._messages.tell()
                self._messages.write(orjson.dumps(message) + b"\n")
            self._nodes[node_id] = _Node(parent if isinstance(parent, str) else None, at)

    def finish(self, fields: Mapping[str, Any]) -> None:
        """With the other fields of the conversation."""
        self._check_tree()
        branch = self._branch(fields.get("current_node"))
        self._left_out.other_branches = sum(node.at is not None for node in self._nodes.values()) - len(branch)
        begun = _moment(fields.get("create_time"))
        asked: int | None = None
        for at in branch:
            self._messages.seek(at)
            asked = self._take(orjson.loads(self._messages.readline()), asked, begun)
        source_id = next((fields[name] for name in ("conversation_id", "id") if isinstance(fields.get(name), str)), "")
        archived = fields.get("is_archived") is True
        session: Row = {
            "title": _title(fields.get("title")),
            "status": (SessionStatus.ARCHIVED if archived else SessionStatus.ACTIVE).value,
            "created_at": begun,
        }
        self._staging.end(ImportSource.CHATGPT, _storable(source_id)[:_LONGEST_ID], session, self._left_out)

    def _check_tree(self) -> None:
        """That every way up ends: each node is walked over once."""
        sound: set[str] = set()
        for start in self._nodes:
            path: set[str] = set()
            node_id: str | None = start
            while node_id is not None and node_id not in sound and node_id in self._nodes:
                if node_id in path:
                    raise self._invalid("Messages answer each other in a circle", kind="cycle")
                path.add(node_id)
                node_id = self._nodes[node_id].parent
            sound |= path

    def _branch(self, current: object) -> list[int]:
        """Where the messages of the branch shown last are, the first one first."""
        if not isinstance(current, str) or current not in self._nodes:
            parents = {node.parent for node in self._nodes.values()}
            leaves = [node_id for node_id in self._nodes if node_id not in parents]
            current = leaves[-1] if leaves else None
        branch = []
        while current is not None and (node := self._nodes.get(str(current))) is not None:
            if node.at is not None:
                branch.append(node.at)
            current = node.parent
        return branch[::-1]

    def _take(self, message: Row, asked: int | None, begun: str | None) -> int | None:
        """Stage a message, if there is anything to it. Returns the number of the question that the next one answers."""
        metadata = _mapping(message.get("metadata"))
        if metadata.get("is_visually_hidden_from_conversation") is True:
            self._left_out.hidden += 1
            return asked
        role = _role(_mapping(message.get("author")).get("role"))
        text, others = _text(_mapping(message.get("content")))
        self._left_out.unsupported += others
        if role is None or len(text) > MAX_CONTENT_CHARS:
            self._left_out.unsupported += 1
            return asked
        if not text.strip():
            self._left_out.empty += int(not others)
            return asked
        seq = self._staging.messages + 1
        is_reply = role is MessageRole.ASSISTANT
        model = metadata.get("model_slug")
        self._staging.add_message(
            {
                "seq": seq,
                "parent_seq": asked if is_reply else None,
                "role": role.value,
                "content": text,
                "created_at": _moment(message.get("create_time")) or begun,
                "provider": Provider.OPENAI.value if is_reply else None,
                "model": _storable(model)[:_LONGEST_ID] if is_reply and isinstance(model, str) else None,
            }
        )
        return seq if role is MessageRole.USER else asked

    def _invalid(self, reason: str, kind: str = "import") -> InvalidImport:
        return InvalidImport(reason, place=[*self._place, "mapping"], kind=kind)


def _text(content: Mapping[str, Any]) -> tuple[str, int]:
    """What a message says, and how many parts of it are nothing that can be said here, such as pictures."""
    match content.get("content_type"):
        case "text" | "multimodal_text":
            parts = content.get("parts")
            parts = parts if isinstance(parts, list) else []
            texts = [part for part in parts if isinstance(part, str)]
            # Speech is an object with its transcript.
            texts += [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
            return _storable("\n\n".join(text for text in texts if text.strip())), len(parts) - len(texts)
        case "code" if isinstance(content.get("text"), str):
            language = content.get("language")
            named = language if isinstance(language, str) and language.isalnum() and language != "unknown" else ""
            return _storable(f"```{named}\n{content['text']}\n```") if content["text"].strip() else "", 0
        case "execution_output" if isinstance(content.get("text"), str):
            return _storable(content["text"]), 0
        case _:
            return "", 1


def _role(value: object) -> MessageRole | None:
    return next((role for role in MessageRole if role.value == value), None)


def _title(value: object) -> str:
    title = " ".join(_storable(value).split())[:_LONGEST_TITLE] if isinstance(value, str) else ""
    return title or UNTITLED


def _moment(seconds: object) -> str | None:
    """RFC 3339 of seconds since 1970; None for what is no time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    if not _EARLIEST <= seconds < _LATEST:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _storable(text: str) -> str:
    return text.replace("\x00", "\ufffd")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
