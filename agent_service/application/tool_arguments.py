"""The arguments of calls: JSON that a model or a person wrote, against a schema that a tool brings."""

from __future__ import annotations

import json
from typing import Any

import orjson
from pydantic_core import PydanticCustomError

from agent_service.domain.tool_problems import ToolArgumentsInvalid
from agent_service.ports.tools import ToolSpec
from shared.contracts.tools import MAX_ARGUMENT_BYTES
from shared.json_schema import schema_errors
from shared.problems import FieldError
from shared.schema import check_storable

_NAMES_ONLY = frozenset({"required", "schema"})
"""Kinds of errors whose words hold no value."""


def read_arguments(written: str) -> dict[str, Any]:
    """The object that the model wrote; nothing at all is an empty one. Raises `ToolArgumentsInvalid`."""
    # Each character takes a byte at least, so what is far too long is never copied.
    if len(written) > MAX_ARGUMENT_BYTES or len(written.encode(errors="surrogatepass")) > MAX_ARGUMENT_BYTES:
        raise _invalid(f"The arguments exceed {MAX_ARGUMENT_BYTES // 1024} KiB", "too_large")
    if not written.strip():
        return {}
    try:
        arguments = _loads(written)
    except (ValueError, RecursionError):
        raise _invalid("The arguments are no valid JSON", "json") from None
    if not isinstance(arguments, dict):
        raise _invalid("The arguments are no JSON object", "type")
    try:
        check_storable(arguments)
    except PydanticCustomError as error:
        raise _invalid(error.message(), error.type) from None
    return arguments


def check_arguments(arguments: dict[str, Any], spec: ToolSpec) -> None:
    """Raises `ToolArgumentsInvalid` where they are too large, or do not fit the tool's schema."""
    if len(orjson.dumps(arguments)) > MAX_ARGUMENT_BYTES:
        raise _invalid(f"The arguments exceed {MAX_ARGUMENT_BYTES // 1024} KiB", "too_large")
    if errors := schema_errors(spec.parameters, arguments):
        errors = [_without_values(error, spec.redacted_arguments) for error in errors]
        raise ToolArgumentsInvalid(_told(errors), errors=errors)


def _without_values(error: FieldError, redacted: frozenset[str]) -> FieldError:
    """What is wrong is told with the value that is, and stands in the log then."""
    if not redacted or error.type in _NAMES_ONLY or (error.loc and error.loc[0] not in redacted):
        return error
    return error.model_copy(update={"msg": f"Does not fit `{error.type}`"})


def _loads(written: str) -> object:
    try:
        arguments: object = orjson.loads(written)
    except ValueError:
        # orjson refuses escaped lone surrogates: then the reason is what is told, and not that it is no JSON.
        arguments = json.loads(written)
    return arguments


def _invalid(message: str, kind: str) -> ToolArgumentsInvalid:
    return ToolArgumentsInvalid(f"{message}.", errors=[FieldError(loc=[], msg=message, type=kind)])


def _told(errors: list[FieldError]) -> str:
    """For whoever wrote them, who may be a model: what is wrong, and where."""
    parts = [f"{'.'.join(map(str, error.loc))}: {error.msg}" if error.loc else error.msg for error in errors]
    return f"The arguments do not fit the tool: {'; '.join(parts)}"
