"""Makes FastAPI's OpenAPI document say what is true of both services, so that generated clients need no edits.

FastAPI documents an error model of its own that nobody here sends, and knows nothing of what the middleware
answers and adds: refused addresses and bodies, and the request id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from shared.problems import PROBLEM_JSON, MalformedRequest, PayloadTooLarge, ProblemDocument
from shared.web.responses import problems

Json = dict[str, Any]

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_REF = "#/components/schemas/{model}"
_NOT_OURS = ("HTTPValidationError", "ValidationError")
_HEADERS: Json = {
    "X-Request-ID": {
        "description": "The caller's own id, or a new one. It is in every log line of the request.",
        "schema": {"type": "string"},
        "example": "0198f3a2c4e17d0c8f3e6b1a2d4c5e6f",
    },
    "Idempotent-Replayed": {
        "description": "`true` where the stored answer of an earlier request is given again; else absent.",
        "schema": {"type": "string", "const": "true"},
    },
}


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Path, method and operation of everything in the document."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, method, operation


def add_schema(document: Json, name: str, kind: Any) -> None:
    """Put a model or a union of models into the components, with all that it refers to."""
    schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=_REF)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for other, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(other, definition)
    schemas.setdefault(name, {"title": name, **schema})


def complete(document: Json) -> Json:
    """Change the document in place, and return it."""
    add_schema(document, "ProblemDocument", ProblemDocument)
    for name in _NOT_OURS:
        document["components"]["schemas"].pop(name, None)
    document["components"].setdefault("headers", {}).update(_HEADERS)
    for schema in document["components"]["schemas"].values():
        if "example" in schema:
            schema["example"] = _restore_nulls(document, schema, schema["example"])
    refusals = problems(MalformedRequest, PayloadTooLarge)
    for _, _, operation in operations(document):
        responses: Json = operation["responses"]
        _drop_validation_error(responses)
        for status, refusal in refusals.items():
            documented = responses.setdefault(str(status), {"description": refusal["description"], "content": {}})
            documented["content"].setdefault(PROBLEM_JSON, refusal["content"][PROBLEM_JSON])
        _describe_streams(responses)
        _share_examples(document, responses)
        _add_headers(operation)
        # Said rather than left out: whoever reads the document sees that it is meant.
        operation.setdefault("security", [])
        operation["responses"] = dict(sorted(responses.items()))
    return document


def _drop_validation_error(responses: Json) -> None:
    content = responses.get("422", {}).get("content", {})
    if content.get("application/json", {}).get("schema", {}).get("$ref", "").endswith("/HTTPValidationError"):
        del responses["422"]


def _describe_streams(responses: Json) -> None:
    """To a client that reads whole bodies a stream is text. OpenAPI 3.2's `itemSchema` is an extension in 3.1."""
    for response in responses.values():
        stream = response.get("content", {}).get("text/event-stream")
        if stream is not None:
            stream["schema"] = {"type": "string"}
            if "itemSchema" in stream:
                stream["x-itemSchema"] = stream.pop("itemSchema")


def _restore_nulls(document: Json, schema: Json, example: Any) -> Any:
    """An example with its nulls, which FastAPI drops; a field that is required and missing was one."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(example, list) and "items" in schema:
        return [_restore_nulls(document, schema["items"], item) for item in example]
    if not isinstance(example, dict):
        return example
    for branch in schema.get("anyOf", ()):
        if "$ref" in branch:
            return _restore_nulls(document, branch, example)
    properties = schema.get("properties", {})
    required = set(schema.get("required", ()))
    return {
        **{
            name: _restore_nulls(document, declared, example[name]) if name in example else None
            for name, declared in properties.items()
            if name in example or name in required
        },
        **{name: value for name, value in example.items() if name not in properties},
    }


def _share_examples(document: Json, responses: Json) -> None:
    """Write each problem's example once: most problems are on most operations."""
    shared: Json = document["components"].setdefault("examples", {})
    for response in responses.values():
        content = response.get("content", {}).get(PROBLEM_JSON, {})
        for code, example in content.get("examples", {}).items():
            if "$ref" not in example and shared.setdefault(code, example) == example:
                content["examples"][code] = {"$ref": f"#/components/examples/{code}"}


def _add_headers(operation: Json) -> None:
    creates_once = any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))
    for status, response in operation["responses"].items():
        headers: Json = response.setdefault("headers", {})
        headers["X-Request-ID"] = {"$ref": "#/components/headers/X-Request-ID"}
        if creates_once and status.startswith("2"):
            headers["Idempotent-Replayed"] = {"$ref": "#/components/headers/Idempotent-Replayed"}
