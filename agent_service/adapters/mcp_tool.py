"""A tool of an MCP server, as one of ours."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from pydantic_core import PydanticCustomError

from agent_service.adapters.mcp_config import HttpServer, StdioServer
from agent_service.domain.text import plain_text
from agent_service.ports.tools import ToolContext, ToolFailed, ToolOutput, ToolSpec
from agent_service.prompts.control_tokens import broken_up
from agent_service.prompts.fence import disarmed, one_line
from shared.contracts.tools import ToolRisk
from shared.json_schema import is_schema
from shared.schema import check_storable

if TYPE_CHECKING:
    from agent_service.adapters.mcp_session import ListedTool
    from agent_service.adapters.mcp_source import McpSource

MAX_NAME = 64
_MAX_TITLE = 200
_MAX_DESCRIPTION = 4_096
_MAX_SCHEMA_BYTES = 64 * 1024
_MAX_SERVER_BYTES = 512 * 1024
"""Of all schemas of one server. To check so much takes four seconds, in a thread, each time its tools change."""
_MAX_ERROR = 2_000
_WORDS_FOR_READERS = frozenset({"title", "description", "$comment", "default", "examples"})
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


class McpTool:
    def __init__(self, source: McpSource, own_name: str, spec: ToolSpec) -> None:
        self._source = source
        self._own_name = own_name
        self._spec = spec

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> ToolOutput:
        """Raises `ToolFailed`; `outcome_unknown` when the call was on its way and no answer came."""
        answer = await self._source.call(self._own_name, arguments)
        if answer.is_error:
            raise ToolFailed(answer.text[:_MAX_ERROR] or "The tool failed and did not say why.")
        return ToolOutput(answer.text)


def tool_name(server: str, own_name: str) -> str:
    """`<server>__<tool>` in the letters that providers allow, and no longer than they take it.

    What had to be changed, or could be read as a tool of another server, ends in a few letters made from the name as
    it was, so that no two become one.
    """
    wanted = f"{server}__{own_name}"
    parts_once = wanted.count("__") == 1 and "___" not in wanted
    if len(wanted) <= MAX_NAME and parts_once and not _UNFIT.search(wanted):
        return wanted
    mark = hashlib.sha256(f"{server}\n{own_name}".encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{_UNFIT.sub('_', wanted)[: MAX_NAME - len(mark) - 1]}_{mark}"


def tool_spec(server: str, config: StdioServer | HttpServer, listed: ListedTool, *, seconds: float) -> ToolSpec:
    """`seconds` where the config sets none. Raises `ValueError`: models are not offered what has no usable schema."""
    parameters = _shown_schema(listed.schema)
    name = listed.name
    return ToolSpec(
        name=tool_name(server, name),
        title=one_line(plain_text((listed.title or name)[:_MAX_TITLE]), _MAX_TITLE),
        description=disarmed(plain_text(listed.description[:_MAX_DESCRIPTION])),
        source=f"mcp:{server}",
        risk=ToolRisk.SAFE if name in config.safe else ToolRisk.RISKY,
        repeatable=name in config.repeatable,
        parameters=parameters,
        timeout_seconds=config.timeout_seconds or seconds,
        redacted_arguments=config.redact.get(name, frozenset()),
        redact_result=name in config.redact_results,
    )


def _shown_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as models may be shown it. Raises `ValueError`, whose message names no part of it.

    A schema that a provider refuses would fail every turn that offers it.
    """
    if schema.get("type") != "object":
        raise ValueError("its schema is not that of an object")
    try:
        check_storable(schema)
        shown: dict[str, Any] = _disarmed(schema)
        written = orjson.dumps(shown)
    except (PydanticCustomError, orjson.JSONEncodeError, RecursionError):
        raise ValueError("its schema is not valid") from None
    if len(written) > _MAX_SCHEMA_BYTES:
        raise ValueError("its schema is too large")
    if broken_up(text := written.decode()) != text:
        raise ValueError("its schema holds control tokens of models")
    if not is_schema(shown):
        raise ValueError("its schema is not valid")
    return shown


def _disarmed(part: Any, *, is_read: bool = False) -> Any:
    """With its words for readers disarmed: models are among them. What decides on values stays as it is."""
    match part:
        case str():
            return disarmed(part) if is_read else part
        case list():
            return [_disarmed(item, is_read=is_read) for item in part]
        case dict():
            return {
                word: _disarmed(value, is_read=is_read or word in _WORDS_FOR_READERS) for word, value in part.items()
            }
    return part


def tools_of(
    source: McpSource, config: StdioServer | HttpServer, listed: Sequence[ListedTool], *, seconds: float
) -> tuple[list[McpTool], list[tuple[str, str]]]:
    """Those that the config offers, and those that cannot be: name and reason. Takes a millisecond each."""
    tools: dict[str, McpTool] = {}
    left_out: list[tuple[str, str]] = []
    room = _MAX_SERVER_BYTES
    for found in listed:
        if config.tools is not None and found.name not in config.tools:
            continue
        if room <= 0:
            left_out.append((found.name[:MAX_NAME], "the schemas of its server are too large"))
            continue
        try:
            spec = tool_spec(source.server, config, found, seconds=seconds)
            room -= len(orjson.dumps(spec.parameters))
        except ValueError as error:
            left_out.append((found.name[:MAX_NAME], str(error)))
            continue
        tools.setdefault(spec.name, McpTool(source, found.name, spec))
    return list(tools.values()), left_out
