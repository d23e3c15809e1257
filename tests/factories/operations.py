"""Every operation of an OpenAPI document, ready to be called: for walks that no new route can escape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx

Json = dict[str, Any]

JSON_BODY = "application/json"
FORM_BODY = "application/x-www-form-urlencoded"
MULTIPART_BODY = "multipart/form-data"
OPENAI_SHAPED = {"list_models", "get_model", "create_chat_completion", "create_embeddings"}
"""Operations whose own errors take OpenAI's shape, because its clients call them; the same at both services."""

JSON_RPC = {"send_mcp_message"}
"""Operations that take messages of JSON-RPC: what `params` may be is the method's business, and answered in its way."""

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class NotKnownHow(AssertionError):
    """A walk met an operation that it cannot call. Teach it: a route that is skipped is a route that is not tested."""


@dataclass(frozen=True)
class Operation:
    """One method on one path, with the document that says what it takes."""

    id: str
    method: str
    path: str
    spec: Json
    document: Json

    def __str__(self) -> str:
        return f"{self.id} ({self.method} {self.path})"

    @property
    def is_public(self) -> bool:
        return not self.spec["security"]

    @property
    def security(self) -> set[str]:
        """Names of the schemes, any of which lets a caller in."""
        return {name for requirement in self.spec["security"] for name in requirement}

    @property
    def path_parameters(self) -> list[str]:
        return _PLACEHOLDER.findall(self.path)

    def parameters(self, place: str) -> list[Json]:
        """What it takes in `query`, `header` or `path`."""
        return [found for found in self.spec.get("parameters", []) if found["in"] == place]

    @property
    def takes_idempotency_key(self) -> bool:
        return any(found["name"] == "Idempotency-Key" for found in self.parameters("header"))

    @property
    def body_type(self) -> str | None:
        content = self.spec.get("requestBody", {}).get("content", {})
        return next(iter(content), None)

    @property
    def requires_body(self) -> bool:
        required: bool = self.spec.get("requestBody", {}).get("required", False)
        return required

    @property
    def body_schema(self) -> Json:
        """The schema of the body, its references followed; empty where it takes none."""
        kind = self.body_type
        return {} if kind is None else self.resolve(self.spec["requestBody"]["content"][kind]["schema"])

    @property
    def is_open(self) -> bool:
        """Whether its body may have fields that it does not name: those that OpenAI's clients send next year."""
        return self.id in OPENAI_SHAPED and self.body_schema.get("additionalProperties") is True

    def body_example(self) -> Any:
        """The documented example of the body, a new one each time; None where it takes none."""
        if self.body_type is None:
            return None
        if "example" not in self.body_schema:
            raise NotKnownHow(f"{self} takes a body, and documents no example of one")
        return dict(self.body_schema["example"])

    def resolve(self, schema: Json) -> Json:
        while "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def url(self, values: Mapping[str, str]) -> str:
        """The path, filled, with examples of what the query must have. Raises `NotKnownHow` for what has no value."""
        missing = [name for name in self.path_parameters if name not in values]
        others = self.parameters("query") + self.parameters("header")
        missing += [found["name"] for found in others if found["required"] and "examples" not in found]
        if missing:
            raise NotKnownHow(f"{self} needs {missing}, and this walk has no value for it")
        path = _PLACEHOLDER.sub(lambda match: values[match[1]], self.path)
        asked = {found["name"]: _example(found) for found in self.parameters("query") if found["required"]}
        return f"{path}?{urlencode(asked)}" if asked else path

    async def call(
        self,
        client: httpx.AsyncClient,
        values: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """As the document says, with its own example for a body, in which `values` stand for what they name."""
        body = self.sent_body(values)
        url = httpx.URL(self.url(values)).copy_merge_params(params or {})
        return await client.request(self.method, url, headers=headers, **body)

    def sent_body(self, values: Mapping[str, str]) -> dict[str, Any]:
        """The documented example of the body, as httpx takes it."""
        body = self.body_example()
        if isinstance(body, dict):
            body |= {name: values[name] for name in body.keys() & values.keys()}
        match self.body_type:
            case None:
                return {}
            case kind if kind == FORM_BODY:
                return {"data": body}
            case kind if kind == MULTIPART_BODY:
                each = ((name, [texts] if isinstance(texts, str) else texts) for name, texts in body.items())
                named = ((name, text) for name, texts in each for text in texts)
                return {"files": [(name, (f"{at}.md", text.encode())) for at, (name, text) in enumerate(named)]}
            case _:
                return {"json": body}


def _example(parameter: Json) -> Any:
    example: Json = next(iter(parameter["examples"].values()))
    return example["value"]


def operations_of(document: Json) -> list[Operation]:
    return [
        Operation(spec["operationId"], method.upper(), path, spec, document)
        for path, item in document["paths"].items()
        for method, spec in item.items()
        if method in _METHODS
    ]
