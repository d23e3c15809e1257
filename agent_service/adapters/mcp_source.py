"""An MCP server as a source of tools: its session is kept open, and opened again when it breaks."""

from __future__ import annotations

import asyncio
import importlib
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_service.adapters.mcp_config import HttpServer, StdioServer
from agent_service.adapters.mcp_tool import McpTool, tools_of
from agent_service.ports.tools import ToolFailed
from shared.contracts.tools import ToolSourceRead, ToolSourceState
from shared.logging import get_logger

if TYPE_CHECKING:  # see `_load`
    from agent_service.adapters.mcp_link import Link
    from agent_service.adapters.mcp_session import CallAnswer, McpSession

log = get_logger("mcp")


@dataclass(frozen=True, slots=True)
class McpTimes:
    """All in seconds. `call` is for one call of a tool whose server sets no time of its own.

    A session that cannot be opened, or breaks, is tried again after `retry_base`, doubled each time up to
    `retry_max`, half of it at random; from the beginning again once it has held for `healthy`.
    One that does not open within `open` is given twice as long the next time, up to `open_max`: on a busy machine, or
    the first time, a server may take long to start, and would never get there if it were always ended before.
    A server that answers no ping within `ping` is gone, and none is asked of one that has calls to answer.
    A call waits for a session that is being opened for `session` at most; for so long the tools of a session that
    broke are still offered.
    """

    call: float = 30.0
    open: float = 30.0
    open_max: float = 240.0
    session: float = 5.0
    ping_every: float = 30.0
    ping: float = 5.0
    retry_base: float = 0.5
    retry_max: float = 60.0
    healthy: float = 60.0


class McpSource:
    """One server. `jitter` gives numbers between 0 and 1."""

    def __init__(
        self,
        server: str,
        config: StdioServer | HttpServer,
        times: McpTimes,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.server = server
        self._config = config
        self._times = times
        self._jitter = jitter
        self._supervisor: asyncio.Task[None] | None = None
        self._closing = False
        self._session: McpSession | None = None
        self._ready = asyncio.Event()
        self._look = asyncio.Event()
        self._changed = False
        self._open_seconds = times.open
        self._tools: list[McpTool] = []
        self._lost_at = float("-inf")
        self._state = ToolSourceState.STARTING
        self._restarts = 0
        self._error: str | None = None

    @property
    def name(self) -> str:
        return f"mcp:{self.server}"

    def tools(self) -> Sequence[McpTool]:
        """Also for a moment after the session broke: a call waits for the next one."""
        if self._session is None:
            now = asyncio.get_running_loop().time()
            return self._tools if now - self._lost_at < self._times.session else ()
        return self._tools

    def state(self) -> ToolSourceRead:
        return ToolSourceRead(
            name=self.name,
            state=self._state,
            tools=len(self.tools()),
            restarts=self._restarts,
            error=self._error,
        )

    async def start(self) -> None:
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    async def aclose(self) -> None:
        """End the session, and the process where it has one. Takes three seconds at most, on a machine at rest."""
        self._closing = True
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})

    async def call(self, tool: str, arguments: dict[str, Any]) -> CallAnswer:
        """Raises `ToolFailed`."""
        from agent_service.adapters.mcp_session import CallFailed  # noqa: PLC0415 - loaded with the first session

        try:
            session = await self._open_session()
            try:
                return await session.call(tool, arguments)
            except CallFailed as error:
                if not (error.unsent and session.is_lost):
                    raise
                # The server was started anew since, and knows nothing of the call: the next session takes it.
                self._look.set()
                return await (await self._open_session()).call(tool, arguments)
        except CallFailed as error:
            if error.retryable:
                self._look.set()  # is it the call or the server?
            raise ToolFailed(error.message, retryable=error.retryable, outcome_unknown=error.unknown) from None
        except asyncio.CancelledError:
            # Its time was up, most likely: does the server still answer at all?
            self._look.set()
            raise

    async def _open_session(self) -> McpSession:
        """Raises `ToolFailed` where none opens in time."""
        try:
            async with asyncio.timeout(self._times.session):
                while (session := self._session) is None or session.is_lost:
                    self._ready.clear()  # the supervisor may not have noticed yet
                    await self._ready.wait()
        except TimeoutError:
            message = f"The MCP server `{self.server}` is not there. {self._error or ''}".rstrip()
            raise ToolFailed(message, retryable=True) from None
        return session

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        pause = self._times.retry_base
        await asyncio.to_thread(_load)
        while True:
            self._state = ToolSourceState.STARTING
            opened_at = loop.time()
            try:
                self._error = await self._serve()
            except Exception as error:
                if self._closing:
                    return  # the SDK raises something of its own in place of our cancellation
                # The task's boundary: behind the SDK may be anybody's server, and the next session may go well.
                self._error = "Its session broke off."
                log.exception("mcp.session_crashed", server=self.server, cause=_innermost(error))
            self._state = ToolSourceState.DOWN
            if loop.time() - opened_at >= self._times.healthy:
                pause = self._times.retry_base
            wait = pause * (0.5 + self._jitter() / 2)
            log.warning("mcp.down", server=self.server, reason=self._error, retry_in=round(wait, 2))
            await asyncio.sleep(wait)
            pause = min(pause * 2, self._times.retry_max)
            self._restarts += 1

    async def _serve(self) -> str:
        """One session from its beginning to its end. Returns why it ended, in our words."""
        from agent_service.adapters.mcp_session import open_session  # noqa: PLC0415 - loaded by now
        from agent_service.adapters.mcp_stdio import NotStarted  # noqa: PLC0415

        try:
            async with self._link() as link, open_session(link, self._tools_changed) as session:
                return await self._hold(session, link)
        except NotStarted as error:
            return str(error)

    async def _hold(self, session: McpSession, link: Link) -> str:
        from agent_service.adapters.mcp_session import CallFailed  # noqa: PLC0415 - loaded by now

        try:
            async with asyncio.timeout(self._open_seconds):
                await session.introduce()
                await self._list(session)
            self._open_seconds = self._times.open
            await self._watch(session, link)
        except CallFailed as error:
            link.lose(error.message)
        except TimeoutError:
            self._open_seconds = min(self._open_seconds * 2, self._times.open_max)
            link.lose("It did not answer in time.")
        return link.lost.result()

    @asynccontextmanager
    async def _link(self) -> AsyncGenerator[Link]:
        from agent_service.adapters.mcp_http import http_link  # noqa: PLC0415 - loaded by now
        from agent_service.adapters.mcp_stdio import stdio_link  # noqa: PLC0415

        if isinstance(self._config, StdioServer):
            async with stdio_link(self._config) as link:
                yield link
        else:
            seconds = max(self._config.timeout_seconds or self._times.call, self._open_seconds)
            async with http_link(self._config, call_seconds=seconds) as link:
                yield link

    async def _watch(self, session: McpSession, link: Link) -> None:
        """Have calls go over it until it is lost. Raises `CallFailed` and `TimeoutError`."""
        self._session = session
        self._state = ToolSourceState.READY
        self._error = None
        self._ready.set()
        log.info("mcp.ready", server=self.server, tools=len(self._tools), restarts=self._restarts)
        looking = asyncio.ensure_future(self._look.wait())
        try:
            while not link.lost.done():
                waited_for: set[asyncio.Future[Any]] = {looking, link.lost}
                await asyncio.wait(waited_for, timeout=self._times.ping_every, return_when=asyncio.FIRST_COMPLETED)
                if link.lost.done():
                    break
                if session.is_busy and not looking.done():
                    continue  # every call has a limit of its own, after which we look
                if looking.done():
                    self._look.clear()
                    looking = asyncio.ensure_future(self._look.wait())
                if self._changed:
                    self._changed = False
                    async with asyncio.timeout(self._times.open):
                        await self._list(session)
                elif not await session.ping(self._times.ping):
                    link.lose("It does not answer.")
        finally:
            self._session = None
            self._state = ToolSourceState.DOWN  # while its process is being ended, too
            self._ready.clear()
            self._lost_at = asyncio.get_running_loop().time()
            looking.cancel()

    def _tools_changed(self) -> None:
        self._changed = True
        self._look.set()

    async def _list(self, session: McpSession) -> None:
        listed = await session.list_tools()
        # Checking two hundred schemas takes a while.
        tools, left_out = await asyncio.to_thread(tools_of, self, self._config, listed, seconds=self._times.call)
        for name, reason in left_out:
            log.warning("mcp.tool_left_out", server=self.server, tool=name, reason=reason)
        self._tools = tools


def _load() -> None:
    """`mcp` takes most of a second to import, and 46 MB: in a thread, and only where there is a server."""
    for module in ("mcp_session", "mcp_http", "mcp_stdio"):
        importlib.import_module(f"agent_service.adapters.{module}")
    importlib.import_module("agent_service.adapters.mcp_session").quiet_sdk()


def _innermost(error: BaseException) -> str:
    """The kind of the first cause: the SDK wraps what goes wrong in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
