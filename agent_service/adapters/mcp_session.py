"""One open session with an MCP server, in the words of our port. Imports `mcp`: import it late, and in a thread."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
from mcp import ClientSession, McpError, types
from mcp.shared.session import RequestResponder
from pydantic import ValidationError

from agent_service.adapters.mcp_link import NOT_SENT, OUTCOME_UNKNOWN, SESSION_GONE, Link

T = TypeVar("T")

MAX_TOOLS = 200
_MAX_PAGES = 50
_NOTICE_SECONDS = 2.0
_PING_LOOKS = 10
_CLIENT = types.Implementation(name="colloquy", version="1")


def quiet_sdk() -> None:
    """The SDK logs whole messages, and some of them through the root logger. No log of ours may hold any."""
    for name in ("mcp", "client"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    root = logging.getLogger()
    if not any(isinstance(found, _NotTheSdk) for found in root.filters):
        root.addFilter(_NotTheSdk())


class _NotTheSdk(logging.Filter):
    """On the root logger it sees what is logged through that one by name, not what other loggers hand up."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "/mcp/" not in record.pathname


class CallFailed(Exception):
    """A call that has no answer of the tool's. `message` is in our words or the server's.

    `unknown`: it may have been carried out. `retryable`: it may go well later. `unsent`: no server has begun it.
    """

    def __init__(self, message: str, *, unknown: bool = False, retryable: bool = False, unsent: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.unknown = unknown
        self.retryable = retryable
        self.unsent = unsent


@dataclass(frozen=True, slots=True)
class CallAnswer:
    text: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class ListedTool:
    """As the server has it."""

    name: str
    title: str | None
    description: str
    schema: dict[str, Any]


class McpSession:
    """Safe to use from many tasks at once; made by `open_session` in the one task that also closes it."""

    def __init__(self, client: ClientSession, link: Link) -> None:
        self._client = client
        self._link = link
        self._notices: set[asyncio.Task[None]] = set()
        self._calls = 0

    @property
    def is_busy(self) -> bool:
        """Whether it has calls to answer: many a server answers nothing else meanwhile."""
        return self._calls > 0

    @property
    def is_lost(self) -> bool:
        return self._link.lost.done()

    async def introduce(self) -> None:
        """The first thing to do. Raises `CallFailed`."""
        try:
            await self.ask(self._client.initialize())
        except (RuntimeError, ValidationError):
            raise CallFailed("It speaks no version of the protocol that we know.") from None

    async def call(self, name: str, arguments: dict[str, Any]) -> CallAnswer:
        """Raises `CallFailed`. Cancelled, it tells the server so without waiting for it."""
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
        sent_as: list[int] = []

        async def send() -> types.CallToolResult:
            # A call can only be taken back by its id, and the SDK tells nobody. It takes this one before it waits.
            sent_as.append(self._client._request_id)
            # Not `call_tool`, which checks the answer against the server's own schema, here on the event loop.
            return await self._client.send_request(types.ClientRequest(request), types.CallToolResult)

        self._calls += 1
        try:
            result = await self.ask(send())
        except asyncio.CancelledError:
            for request_id in sent_as:
                self._take_back(request_id)
            raise
        except ValidationError:
            raise CallFailed("The server's answer is not that of a tool.") from None
        finally:
            self._calls -= 1
        return CallAnswer(_text(result.content) or _structured(result), result.isError)

    async def list_tools(self) -> list[ListedTool]:
        """Page by page, `MAX_TOOLS` at most. Raises `CallFailed`."""
        found: list[ListedTool] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            request = types.ListToolsRequest(params=types.PaginatedRequestParams(cursor=cursor) if cursor else None)
            try:
                page = await self.ask(self._client.send_request(types.ClientRequest(request), types.ListToolsResult))
            except ValidationError:
                raise CallFailed("Its list of tools cannot be read.") from None
            found += [
                ListedTool(tool.name, tool.title, tool.description or "", tool.inputSchema) for tool in page.tools
            ]
            cursor = page.nextCursor
            if not cursor or len(found) >= MAX_TOOLS:
                break
        return found[:MAX_TOOLS]

    async def ping(self, seconds: float) -> bool:
        """Whether it answers in time; also that it knows no ping is an answer.

        While this process stands still, its time does too, or else every server would be gone when it goes on.
        """
        asking = asyncio.ensure_future(self.ask(self._client.send_ping()))
        try:
            for _ in range(_PING_LOOKS):
                done, _ = await asyncio.wait({asking}, timeout=seconds / _PING_LOOKS)
                if done:
                    break
            else:
                return False
            asking.result()
        except CallFailed as error:
            return not error.retryable  # or else it was no answer of the server's
        except ValidationError:
            pass
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait({asking})
        return True

    def close(self) -> None:
        for notice in self._notices:
            notice.cancel()

    async def ask(self, request: Coroutine[Any, Any, T]) -> T:
        """The answer to the request. Raises `CallFailed`, also when the connection goes: the SDK would wait on."""
        lost = self._link.lost
        asking = asyncio.ensure_future(request)
        waited_for: set[asyncio.Future[Any]] = {asking, lost}
        try:
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise self._lost()
            return asking.result()
        except McpError as error:
            raise self._failure(error) from None
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise CallFailed("The connection to the server was lost.", retryable=True) from None
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.wait({asking})

    def _failure(self, error: McpError) -> CallFailed:
        code, message = error.error.code, error.error.message
        if code == SESSION_GONE:
            self._link.lose(message)
        if code in (NOT_SENT, SESSION_GONE):
            return CallFailed(message, retryable=True, unsent=True)
        if code == OUTCOME_UNKNOWN:
            return CallFailed(message, unknown=True, retryable=True)
        if code == types.CONNECTION_CLOSED and self._link.lost.done():
            return self._lost()
        return CallFailed(message)

    def _lost(self) -> CallFailed:
        reason = self._link.lost.result()
        return CallFailed(f"The connection to the server was lost. {reason}", unknown=True, retryable=True)

    def _take_back(self, request_id: int) -> None:
        notice = asyncio.get_running_loop().create_task(self._notify(request_id))
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)

    async def _notify(self, request_id: int) -> None:
        params = types.CancelledNotificationParams(requestId=request_id, reason="Nobody waits for it any more.")
        notification = types.ClientNotification(types.CancelledNotification(params=params))
        with suppress(TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with asyncio.timeout(_NOTICE_SECONDS):
                await self._client.send_notification(notification)


@asynccontextmanager
async def open_session(link: Link, on_change: Callable[[], None]) -> AsyncGenerator[McpSession]:
    """`on_change` is called when the server says that its tools changed.

    What is raised inside comes out in a group, as the SDK's task group would have it.
    """

    async def heed(
        message: RequestResponder[types.ServerRequest, types.ClientResult] | types.ServerNotification | Exception,
    ) -> None:
        if isinstance(message, types.ServerNotification) and isinstance(
            message.root, types.ToolListChangedNotification
        ):
            on_change()
        elif isinstance(message, RequestResponder):
            with message:
                refusal = types.ErrorData(code=types.METHOD_NOT_FOUND, message="This client does not do that.")
                await message.respond(refusal)

    async with ClientSession(link.incoming, link.outgoing, message_handler=heed, client_info=_CLIENT) as client:
        session = McpSession(client, link)
        try:
            yield session
        finally:
            # Before the SDK's session is closed: whoever waits for an answer would go on waiting.
            link.lose("It was closed.")
            session.close()


def _text(content: list[types.ContentBlock]) -> str:
    return "\n".join(_block(block) for block in content)


def _block(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            size = len(block.data) * 3 // 4
            return f"[{block.type}, {block.mimeType}, {size} bytes, not shown]"
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return f"[resource {resource.uri}]\n{resource.text}"
        case types.EmbeddedResource():
            return f"[resource {block.resource.uri}, {block.resource.mimeType or 'of unknown type'}, not shown]"
        case types.ResourceLink():
            return f"[link to {block.uri}: {block.name}]"


def _structured(result: types.CallToolResult) -> str:
    """Servers should say the same in text. Some do not."""
    if result.structuredContent is None:
        return ""
    return json.dumps(result.structuredContent, ensure_ascii=False)
