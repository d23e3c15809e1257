"""The OpenAPI documents: committed, valid, and complete enough that a generated client needs no edits."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner

from chat_api.cli.main import colloquy
from shared.problems import PROBLEM_JSON
from tests.factories.operations import (
    FORM_BODY,
    JSON_BODY,
    MULTIPART_BODY,
    OPENAI_SHAPED,
    Operation,
    operations_of,
)

Json = dict[str, Any]

SNAPSHOTS = Path(__file__).resolve().parents[2] / "docs" / "openapi"
SERVICES = ("chat_api", "agent_service")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
EVENT_STREAM = "text/event-stream"
PUBLIC = {
    "register", "create_token", "refresh_token", "logout",
    "get_liveness", "get_readiness", "get_database_health", "get_metrics",
    "live", "ready", "metrics",
}  # fmt: skip
"""Operations that need no credential. Whoever adds one has to mean it."""

STREAMS = {
    "chat",
    "create_chat_completion",
    "follow_run",
    "put_document",
    "regenerate_message",
    "send_message",
    "watch_bot_documents",
    "watch_document",
}
FILES = {
    "get_attachment": {"image/png", "image/jpeg", "image/gif", "image/webp", "application/octet-stream"},
    "export_session": {JSON_BODY, "text/markdown", "text/csv"},
    "export_me": {JSON_BODY, "application/zip"},
}
"""Routes that hand out files, and the only types that they say these have."""

CREATING_LATER = {"upload_documents", "create_text_document"}
"""They answer 202: what they make is not finished yet."""
FOR_THE_UNKNOWN = {"put_document", "delete_document", "delete_collection"}
"""Operations that make what is not there, or are content that it is gone."""


def nodes(part: Any, where: str = "#") -> Iterator[tuple[str, Json]]:
    """Every object in a document, with where it stands. Examples are data, so they are left out."""
    if isinstance(part, dict):
        yield where, part
        for name, value in part.items():
            if name not in ("example", "examples", "default", "const", "enum"):
                yield from nodes(value, f"{where}/{name}")
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from nodes(value, f"{where}/{index}")


def follow(document: Json, reference: str) -> Any:
    found: Any = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_the_document_is_the_committed_one(service: str, request: pytest.FixtureRequest) -> None:
    served = request.getfixturevalue("chat_document" if service == "chat_api" else "agent_document")
    committed = json.loads((SNAPSHOTS / f"{service}.json").read_text(encoding="utf-8"))

    assert served == committed, (
        f"The OpenAPI document of {service} is not docs/openapi/{service}.json. If the change is meant, "
        "`make openapi` rewrites the file; look at its diff as a client would."
    )


@pytest.mark.parametrize("service", SERVICES)
def test_the_command_writes_what_is_committed(service: str, tmp_path: Path) -> None:
    written = tmp_path / "document.json"

    result = CliRunner().invoke(colloquy, ["openapi", "--service", service, "--output", str(written)])

    assert result.exit_code == 0, result.output
    assert written.read_bytes() == (SNAPSHOTS / f"{service}.json").read_bytes()


def test_it_keeps_to_the_specification(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version", "description"} <= set(document["info"])
    for place, node in nodes(document):
        if "$ref" in node:
            assert isinstance(follow(document, node["$ref"]), dict), place
    for operation in operations_of(document):
        assert set(operation.path_parameters) == {found["name"] for found in operation.parameters("path")}
        assert all(found["required"] for found in operation.parameters("path")), str(operation)
        for status, response in operation.spec["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status), str(operation)
            assert response["description"], f"{operation} {status}"
            assert "content" not in response or status != "204", str(operation)


def test_every_operation_is_described(document: Json) -> None:
    declared = {tag["name"] for tag in document["tags"]}
    assert all(tag["description"] for tag in document["tags"])
    for operation in operations_of(document):
        assert operation.spec["summary"], str(operation)
        assert operation.spec["description"], str(operation)
        assert operation.spec["tags"], str(operation)
        assert set(operation.spec["tags"]) <= declared, str(operation)


def test_operation_ids_are_names_that_a_client_can_use(document: Json) -> None:
    names = [operation.id for operation in operations_of(document)]

    assert len(names) == len(set(names))
    for name in names:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), name
        assert not keyword.iskeyword(name)


def test_every_operation_says_who_may_call_it(document: Json) -> None:
    schemes = set(document["components"]["securitySchemes"])
    for operation in operations_of(document):
        assert operation.is_public is (operation.id in PUBLIC), str(operation)
        assert operation.security <= schemes, str(operation)
        if not operation.is_public:
            assert {"401", "503"} <= set(operation.spec["responses"]), str(operation)


def test_every_body_has_an_example_that_it_would_accept(document: Json) -> None:
    for operation in operations_of(document):
        if operation.body_type is None:
            continue
        assert operation.requires_body or not operation.body_schema.get("required"), str(operation)
        assert operation.body_type in (JSON_BODY, FORM_BODY, MULTIPART_BODY), str(operation)
        example, schema = operation.body_example(), operation.body_schema
        assert set(schema.get("required", ())) <= set(example) <= set(schema["properties"]), str(operation)


def test_schemas_are_schemas(document: Json) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid({"$schema": DIALECT, **schema}), name


def test_every_example_is_what_its_schema_says(document: Json) -> None:
    checked = 0
    for name, schema in document["components"]["schemas"].items():
        if "example" in schema:
            rooted = {"$schema": DIALECT, "components": document["components"], "$ref": f"#/components/schemas/{name}"}
            jsonschema_rs.validator_for(rooted, validate_formats=True).validate(schema["example"])
            checked += 1
    assert checked >= 4


def errors_of(operation: Operation) -> Iterator[tuple[str, Json]]:
    for status, response in operation.spec["responses"].items():
        if status.startswith(("4", "5")):
            yield status, response


def test_every_error_is_a_problem_document(document: Json) -> None:
    for operation in operations_of(document):
        documented = dict(errors_of(operation))
        assert {"400", "413"} <= set(documented), str(operation)
        if operation.path_parameters or operation.body_type is not None:
            expected = "400" if operation.id in OPENAI_SHAPED else "422"
            assert expected in documented, str(operation)
        if operation.path_parameters and operation.id not in FOR_THE_UNKNOWN:
            assert "404" in documented, str(operation)
        for status, response in documented.items():
            kinds = set(response["content"])
            own = operation.id in OPENAI_SHAPED or (status == "503" and operation.id in ("ready", "get_readiness"))
            assert kinds <= ({PROBLEM_JSON, JSON_BODY} if own else {PROBLEM_JSON}), f"{operation} {status}: {kinds}"
            if PROBLEM_JSON not in kinds:
                continue
            content = response["content"][PROBLEM_JSON]
            assert content["schema"] == {"$ref": "#/components/schemas/ProblemDocument"}, f"{operation} {status}"
            assert content["examples"], f"{operation} {status}"
            for code, example in content["examples"].items():
                value = follow(document, example["$ref"])["value"] if "$ref" in example else example["value"]
                assert value["code"] == code, f"{operation} {status}"
                assert str(value["status"]) == status, f"{operation} {status}"


def test_no_error_model_of_the_frameworks_is_left(document: Json) -> None:
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])
    assert "HTTPValidationError" not in json.dumps(document)


def test_what_may_be_tried_again_says_when(document: Json) -> None:
    for operation in operations_of(document):
        for status, response in errors_of(operation):
            if status in ("429", "503") and PROBLEM_JSON in response["content"]:
                assert "Retry-After" in response["headers"], f"{operation} {status}"


def test_media_types_are_what_is_sent(document: Json) -> None:
    for operation in operations_of(document):
        good = [answer for status, answer in operation.spec["responses"].items() if status.startswith("2")]
        assert good, str(operation)
        kinds = {kind for answer in good for kind in answer.get("content", {})}
        assert (EVENT_STREAM in kinds) is (operation.id in STREAMS), str(operation)
        assert kinds <= FILES.get(operation.id, {JSON_BODY, EVENT_STREAM, "text/plain"}), str(operation)
        for answer in good:
            # A stream is text to whoever parses a whole body; its events are schemas of their own.
            if EVENT_STREAM in answer.get("content", {}):
                assert answer["content"][EVENT_STREAM]["schema"] == {"type": "string"}, str(operation)
                assert answer["content"][EVENT_STREAM]["example"], str(operation)


def test_every_answer_carries_the_request_id(document: Json) -> None:
    for operation in operations_of(document):
        for status, response in operation.spec["responses"].items():
            assert "X-Request-ID" in response["headers"], f"{operation} {status}"


def test_creating_takes_an_idempotency_key(chat_document: Json) -> None:
    creating = [
        operation
        for operation in operations_of(chat_document)
        if operation.method == "POST"
        and ("201" in operation.spec["responses"] or operation.id in CREATING_LATER)
        and not operation.is_public
    ]
    assert len(creating) >= 4
    for operation in creating:
        assert operation.takes_idempotency_key, str(operation)
        status = "202" if operation.id in CREATING_LATER else "201"
        assert "Idempotent-Replayed" in operation.spec["responses"][status]["headers"], str(operation)


def test_nothing_changes_by_leaving_it_out_of_a_patch(chat_document: Json) -> None:
    """A generated client sends a documented default with every call, so a PATCH may have none."""
    patches = [operation for operation in operations_of(chat_document) if operation.method == "PATCH"]
    assert patches
    for operation in patches:
        assert not operation.body_schema.get("required"), str(operation)
        for name, declared in operation.body_schema["properties"].items():
            # Null is no value, and generators leave it out.
            assert declared.get("default") is None, f"{operation}: {name} has a default"


def test_bodies_are_closed_and_answers_are_whole(document: Json) -> None:
    for operation in operations_of(document):
        if operation.body_type == JSON_BODY:
            assert operation.body_schema["additionalProperties"] is operation.is_open, str(operation)
        for status, response in operation.spec["responses"].items():
            for kind, content in response.get("content", {}).items():
                assert content["schema"], f"{operation} {status} {kind} says nothing of its content"


def test_names_are_ones_that_generators_can_write(document: Json) -> None:
    classes = [name.replace("_", "").lower() for name in document["components"]["schemas"]]
    assert len(classes) == len(set(classes)), "two schemas would become one class"
    for place, node in nodes(document["components"]["schemas"], "#/components/schemas"):
        if "anyOf" in node or "oneOf" in node:
            # Without a title of its own, or a name, generators invent one from where it stands.
            branches = [branch for branch in (node.get("anyOf") or node["oneOf"]) if branch.get("type") != "null"]
            models = [branch for branch in branches if "$ref" in branch or branch.get("type") == "object"]
            assert "title" in node or not models or len(branches) == 1, place
        if "enum" in node:
            assert node.get("type") == "string", place
            assert "title" in node, place
