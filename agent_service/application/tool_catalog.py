"""All tools that there are now: those of the agent itself, and those of sources that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from agent_service.ports.tools import Tool, ToolSource
from shared.contracts.tools import MAX_TOOLS, ToolList, ToolSourceState, ToolSpecRead
from shared.logging import get_logger

log = get_logger("tools")

_LOOK_SECONDS = 0.05
_SERVER = "mcp:"


class ToolCatalog:
    """Of two tools with one name the first counts: built-in ones come before those of sources, in their order."""

    def __init__(self, builtins: Sequence[Tool] = (), sources: Sequence[ToolSource] = ()) -> None:
        self._builtins = tuple(builtins)
        self._sources = tuple(sources)

    def offered(self, patterns: Sequence[str]) -> list[Tool]:
        """What is named by these: a tool's name, or a source's for all of its tools. What is not there is left out.

        In the order of the patterns, each tool once, `MAX_TOOLS` at most.
        """
        if not patterns:
            return []
        tools = {tool.spec.name: tool for tool in self._all()}
        offered: dict[str, Tool] = {}
        for pattern in patterns:
            if pattern in tools:
                offered[pattern] = tools[pattern]
            elif pattern.startswith(_SERVER):
                offered |= {name: tool for name, tool in tools.items() if tool.spec.source == pattern}
        return list(offered.values())[:MAX_TOOLS]

    def expects(self, patterns: Sequence[str]) -> bool:
        """Whether some of these are not there, and a source that has not been there yet may still bring them."""
        if not patterns or not any(_is_new(source) for source in self._sources):
            return False
        known = {name for tool in self._all() for name in (tool.spec.name, tool.spec.source)}
        missing = [pattern for pattern in patterns if pattern not in known]
        # Which server brings a tool cannot be told by the tool's name alone.
        anywhere = any(not pattern.startswith(_SERVER) for pattern in missing)
        return any(_is_new(source) and (anywhere or source.name in missing) for source in self._sources)

    async def arrival(self, patterns: Sequence[str]) -> None:
        """Wait as long as it `expects` some of these. Servers open their sessions after the agent has started."""
        while self.expects(patterns):  # noqa: ASYNC110 - a source says what there is, not when that changes
            await asyncio.sleep(_LOOK_SECONDS)

    def find(self, name: str) -> Tool | None:
        return next((tool for tool in self._all() if tool.spec.name == name), None)

    def listing(self) -> ToolList:
        return ToolList(
            items=[_read(tool) for tool in self._all()], sources=[source.state() for source in self._sources]
        )

    async def start(self) -> None:
        for source in self._sources:
            await source.start()

    async def aclose(self) -> None:
        """Close every source at once, also those beside one that cannot be closed."""
        await asyncio.gather(*(_close(source) for source in self._sources))

    def _all(self) -> Iterator[Tool]:
        seen: set[str] = set()
        for tools in (self._builtins, *(source.tools() for source in self._sources)):
            for tool in tools:
                if tool.spec.name not in seen:
                    seen.add(tool.spec.name)
                    yield tool


async def _close(source: ToolSource) -> None:
    try:
        await source.aclose()
    except Exception:
        # The boundary: a source may be anybody's server, and the others are to be closed as well.
        log.exception("tools.close_failed", source=source.name)


def _is_new(source: ToolSource) -> bool:
    state = source.state()
    return state.state is ToolSourceState.STARTING and state.restarts == 0


def _read(tool: Tool) -> ToolSpecRead:
    spec = tool.spec
    return ToolSpecRead(
        name=spec.name,
        title=spec.title,
        description=spec.description,
        source=spec.source,
        risk=spec.risk,
        repeatable=spec.repeatable,
        parameters=spec.parameters,
        timeout_seconds=spec.timeout_seconds,
    )
