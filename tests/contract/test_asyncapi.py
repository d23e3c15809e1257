"""The AsyncAPI document of the WebSockets: committed, served, well-formed, and as complete as the code it speaks of."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import jsonschema_rs
import pytest
from click.testing import CliRunner

from chat_api.cli.main import colloquy
from chat_api.config import ApiSettings
from chat_api.main import create_app
from chat_api.realtime import errors
from chat_api.realtime.asyncapi import (
    ANSWERS,
    CLIENT_FRAMES,
    CLOSE_CODES,
    EVENT_FRAMES,
    FRAMES,
    PROBLEMS,
    Frame,
    asyncapi_document,
)
from chat_api.realtime.frames import ClientFrame, ServerFrame
from chat_api.realtime.socket import CloseCode
from chat_api.realtime.vocabulary import DURABLE, EVENTS
from chat_api.runs.events import TERMINAL_TYPES
from chat_api.sessions.models import EventType
from shared.problems import Problem
from shared.settings import Environment

Json = dict[str, Any]

SNAPSHOT = Path(__file__).resolve().parents[2] / "docs" / "asyncapi" / "chat_api.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAME = re.compile(r"[A-Za-z0-9_.-]+")

# What AsyncAPI 3.0.0 knows of each kind of object that is used here, and what of it must be there.
FIELDS = {
    "document": {
        "asyncapi!", "id", "info!", "servers", "defaultContentType", "channels", "operations", "components",
    },
    "info": {
        "title!", "version!", "description", "termsOfService", "contact", "license", "tags", "externalDocs",
    },
    "server": {
        "host!", "protocol!", "protocolVersion", "pathname", "description", "title", "summary", "variables",
        "security", "tags", "externalDocs", "bindings",
    },
    "channel": {
        "address", "messages", "title", "summary", "description", "servers", "parameters", "tags", "externalDocs",
        "bindings",
    },
    "parameter": {"enum", "default", "description", "examples", "location"},
    "operation": {
        "action!", "channel!", "title", "summary", "description", "security", "tags", "externalDocs", "bindings",
        "traits", "messages", "reply",
    },
    "reply": {"address", "channel", "messages"},
    "message": {
        "headers", "payload", "correlationId", "contentType", "name", "title", "summary", "description", "tags",
        "externalDocs", "bindings", "examples", "traits",
    },
    "example": {"headers", "payload", "name", "summary"},
    "tag": {"name!", "description", "externalDocs"},
    "components": {
        "schemas", "servers", "channels", "operations", "messages", "securitySchemes", "serverVariables", "parameters",
        "correlationIds", "replies", "replyAddresses", "externalDocs", "tags", "operationTraits", "messageTraits",
        "serverBindings", "channelBindings", "operationBindings", "messageBindings",
    },
    "binding": {"method", "query", "headers", "bindingVersion"},
}  # fmt: skip


@pytest.fixture(scope="module")
def document() -> Json:
    plain: Json = json.loads(json.dumps(asyncapi_document("0.1.0")))
    return plain


def check(kind: str, node: Json) -> None:
    known = {name.rstrip("!") for name in FIELDS[kind]}
    needed = {name.rstrip("!") for name in FIELDS[kind] if name.endswith("!")}
    assert needed <= set(node) <= known, f"{kind}: {set(node)}"


def follow(document: Json, reference: Json) -> Any:
    assert set(reference) == {"$ref"}
    found: Any = document
    for part in reference["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for name, value in node.items():
            if name != "examples":
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


# -- the document itself --------------------------------------------------------------------------------------


def test_the_document_is_the_committed_one(document: Json) -> None:
    assert document == json.loads(SNAPSHOT.read_text(encoding="utf-8")), (
        "The AsyncAPI document is not docs/asyncapi/chat_api.json. If the change is meant, `make openapi` rewrites the "
        "file; look at its diff as a client would."
    )


def test_the_command_writes_what_is_committed(tmp_path: Path) -> None:
    written = tmp_path / "document.json"

    result = CliRunner().invoke(colloquy, ["openapi", "--sockets", "--output", str(written)])

    assert result.exit_code == 0, result.output
    assert written.read_bytes() == SNAPSHOT.read_bytes()


def test_the_agent_has_no_sockets() -> None:
    result = CliRunner().invoke(colloquy, ["openapi", "--service", "agent_service", "--sockets"])

    assert result.exit_code == 2
    assert "WebSockets" in result.output


async def test_everybody_may_read_it(document: Json) -> None:
    transport = httpx.ASGITransport(app=create_app(ApiSettings(environment=Environment.TEST)))
    async with httpx.AsyncClient(transport=transport, base_url="http://colloquy.test") as client:
        answer = await client.get("/asyncapi.json")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document


def test_it_keeps_to_the_specification(document: Json) -> None:
    assert document["asyncapi"] == "3.0.0"
    check("document", document)
    check("info", document["info"])
    check("components", document["components"])
    for server in document["servers"].values():
        check("server", server)
        assert "://" not in server["host"]
        assert set(re.findall(r"\{(\w+)\}", server["host"])) == set(server["variables"])
        for scheme in server["security"]:
            assert follow(document, scheme)["type"] in ("httpApiKey", "http")
    for reference in references(document):
        assert follow(document, {"$ref": reference}) is not None
    for kinds in (document["channels"], document["operations"], *document["components"].values()):
        assert all(NAME.fullmatch(name) for name in kinds)
    for tag in document["info"]["tags"]:
        check("tag", tag)


def test_channels_are_the_two_addresses(document: Json) -> None:
    assert {channel["address"] for channel in document["channels"].values()} == {
        "/api/v1/ws",
        "/api/v1/ws/sessions/{session_id}",
    }
    for channel in document["channels"].values():
        check("channel", channel)
        check("binding", channel["bindings"]["ws"])
        assert channel["title"]
        assert channel["summary"]
        parameters = channel.get("parameters", {})
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(parameters)
        for parameter in parameters.values():
            check("parameter", parameter)
        for name, reference in channel["messages"].items():
            assert follow(document, reference)["name"] == name
        assert set(channel["messages"]) == set(document["components"]["messages"])
        assert "ticket" in channel["bindings"]["ws"]["query"]["properties"]


def test_operations_send_and_receive_what_their_channel_has(document: Json) -> None:
    said: dict[tuple[str, str], set[str]] = {}
    for operation in document["operations"].values():
        check("operation", operation)
        assert operation["title"]
        assert operation["summary"]
        channel = operation["channel"]["$ref"]
        sent = [(operation["action"], message) for message in operation["messages"]]
        if "reply" in operation:
            check("reply", operation["reply"])
            assert operation["reply"]["channel"] == operation["channel"]
            sent += [("send", message) for message in operation["reply"]["messages"]]
        for action, message in sent:
            assert action in ("send", "receive")
            assert message["$ref"].startswith(f"{channel}/messages/")
            said.setdefault((channel, action), set()).add(message["$ref"].rpartition("/")[2])
    for name in document["channels"]:
        channel = f"#/channels/{name}"
        assert said[channel, "receive"] == {frame.name for frame in CLIENT_FRAMES}
        assert said[channel, "send"] == {frame.name for frame in (*ANSWERS, *EVENT_FRAMES)}


def test_every_message_is_described_and_its_examples_are_what_its_schema_says(document: Json) -> None:
    assert set(document["components"]["messages"]) == {frame.name for frame in FRAMES}
    for name, message in document["components"]["messages"].items():
        check("message", message)
        assert message["name"] == name
        assert message["title"], name
        assert message["summary"], name
        assert message["summary"].endswith("."), name
        assert message["examples"], name
        rooted = {"$schema": DIALECT, "components": document["components"], **message["payload"]}
        validator = jsonschema_rs.validator_for(rooted, validate_formats=True)
        for example in message["examples"]:
            check("example", example)
            validator.validate(example["payload"])
            assert example["payload"]["type"] == name
        assert not validator.is_valid({**message["examples"][0]["payload"], "type": "something-else"})


def test_schemas_are_schemas(document: Json) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid({"$schema": DIALECT, **schema}), name
        assert "example" not in schema, f"{name}: JSON Schema says `examples`"


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
def test_every_example_is_what_its_model_reads(frame: Frame) -> None:
    for example in frame.examples:
        read = frame.model.model_validate_json(json.dumps(example))
        assert json.loads(read.model_dump_json(exclude_unset=True)) == example


# -- nothing is missing ---------------------------------------------------------------------------------------


def test_every_frame_that_is_read_or_sent_is_in_it() -> None:
    client_union, _ = get_args(ClientFrame)
    assert [frame.model for frame in CLIENT_FRAMES] == list(get_args(client_union))
    assert [frame.model for frame in ANSWERS] == list(get_args(ServerFrame))


def test_every_event_is_in_it() -> None:
    assert {event.kind for event in DURABLE} == set(EventType)
    assert all(event.is_durable for event in DURABLE)
    assert {event.kind for event in EVENTS if not event.is_durable} == {
        "message.delta",
        "message.citations",
        "typing",
        "presence",
    }


def test_what_event_streams_have_as_well_is_marked(document: Json) -> None:
    marked = {name for name, message in document["components"]["messages"].items() if message.get("tags")}

    assert marked == {
        "message.created",
        "message.updated",
        "message.delta",
        "message.citations",
        "run.started",
        *(kind for kind in EventType if kind.startswith("tool.")),
        *(TERMINAL_TYPES & set(EventType)),
    }


def test_every_close_code_is_told(document: Json) -> None:
    assert set(CLOSE_CODES) == {1009, *CloseCode}
    for code in (1009, 1011, 1012, 4401, 4403, 4408, 4429):
        assert f"* `{code}` " in document["info"]["description"]


def test_every_problem_of_a_frame_is_an_example() -> None:
    own = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, Problem) and kind.__module__ == errors.__name__
    }
    assert {kind.code for kind in own} <= {kind.code for kind in PROBLEMS}
