"""An MCP server that misbehaves on demand: a real process, made with the `mcp` package.

`python -m tests.fakes.mcp_server` speaks over standard input and output, with `--port N` over streamable HTTP at
`/mcp` (0 picks a port; the address is the first line of standard output). `python -P tests/fakes/mcp_server.py` runs
it from any folder.

    echo(text)        add(a, b)         raise_error(message)      environment()  what `os.environ` holds, as JSON
    slow(seconds)     hang()            never answers, while others do
    gate()            is answered when the gate is opened; `at_gate(count)` when so many calls wait there, and
                      `open_gate()` at once
    wedge()           the whole process stops answering           exit_now(code)
    flood(mib, kind)  `line`: one endless line; `lines`: many that are no JSON; `messages`: many notifications;
                      `result`: an answer of that size; `stderr`: on standard error
    bad_utf8()        invalid bytes on standard output, then an answer
    garbage()         lines that are no JSON-RPC on standard output, then an answer
    mixed()           text, a picture, a sound, a resource and a link
    record(text, before, after)  appends a line of JSON (`time`, `text`, `pid`) to the file that `MCP_RECORD_FILE`
                      names, with that many seconds of waiting before and after: the ledger of executions;
                      `record_again` is the same, for a config that says so of one and not of the other
    add_tool(name)    from now on there is one more tool, which echoes; and the client is told
    cancelled()       how many calls the client took back

`--tools N` adds N tools `extra_0` … that echo. `--page N` lists N tools a page. `--start-seconds S` waits before it
serves. `--ignore-sigterm` and `--ignore-eof` make it hard to end. `--crash` ends it at once with code 3.
`--crash-once FILE` does so unless the file exists, and makes it. `--token T` (HTTP) wants `Authorization: Bearer T`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from mcp import types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import AnyUrl
from starlette.types import Receive, Scope, Send

Arguments = dict[str, Any]
Content = list[types.ContentBlock]
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_MIB = 1024 * 1024


def _object(required: tuple[str, ...] = (), **properties: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(required),
        "additionalProperties": False,
    }


class MisbehavingServer:
    def __init__(self, *, extra: int, page: int) -> None:
        self._page = page
        self._cancelled = 0
        self._gate = asyncio.Event()
        self._at_gate = 0
        self.server: Server[Any, Any] = Server("misbehaving", version="1")
        self._tools: dict[str, tuple[types.Tool, Callable[[Arguments], Awaitable[Content]]]] = {}
        self._add("echo", "Says what it is told.", _object(("text",), text="string"), self._echo)
        self._add("add", "Adds two numbers.", _object(("a", "b"), a="number", b="number"), self._sum)
        self._add("slow", "Takes its time.", _object(("seconds",), seconds="number"), self._slow)
        self._add("hang", "Never answers.", _object(), self._hang)
        self._add("gate", "Waits until the gate is opened.", _object(), self._wait_at_gate)
        self._add("at_gate", "Waits for calls at the gate.", _object(("count",), count="integer"), self._wait_for_gate)
        self._add("open_gate", "Opens the gate.", _object(), self._open_gate)
        self._add("wedge", "Stops the process.", _object(), self._wedge)
        self._add("exit_now", "Ends the process.", _object(code="integer"), self._exit_now)
        self._add("flood", "Sends far too much.", _object(("mib",), mib="number", kind="string"), self._flood)
        self._add("bad_utf8", "Sends bytes that are no text.", _object(), self._bad_utf8)
        self._add("garbage", "Sends lines that are no messages.", _object(), self._garbage)
        self._add("mixed", "Answers with more than text.", _object(), self._mixed)
        self._add("raise_error", "Fails.", _object(message="string"), self._raise_error)
        self._add("environment", "Shows its environment.", _object(), self._environment)
        self._add("cancelled", "Counts the calls that were taken back.", _object(), self._cancellations)
        self._add("add_tool", "Adds a tool.", _object(("name",), name="string"), self._add_tool)
        for name in ("record", "record_again"):
            self._add(
                name,
                "Writes a line into the ledger.",
                _object(("text",), text="string", before="number", after="number"),
                self._record,
            )
        for number in range(extra):
            self._add(f"extra_{number}", "One of many.", _object(text="string"), self._echo)
        self.server.request_handlers[types.ListToolsRequest] = self._list
        self.server.request_handlers[types.CallToolRequest] = self._call

    def _add(
        self, name: str, description: str, schema: dict[str, Any], run: Callable[[Arguments], Awaitable[Content]]
    ) -> None:
        self._tools[name] = (types.Tool(name=name, description=description, inputSchema=schema), run)

    async def _list(self, request: types.ListToolsRequest) -> types.ServerResult:
        first = int(request.params.cursor) if request.params and request.params.cursor else 0
        tools = [tool for tool, _ in self._tools.values()]
        after = str(first + self._page) if first + self._page < len(tools) else None
        page = tools[first : first + self._page]
        return types.ServerResult(types.ListToolsResult(tools=page, nextCursor=after))

    async def _call(self, request: types.CallToolRequest) -> types.ServerResult:
        _, run = self._tools[request.params.name]
        try:
            content = await run(request.params.arguments or {})
        except asyncio.CancelledError:
            self._cancelled += 1
            raise
        except ValueError as error:
            return types.ServerResult(types.CallToolResult(content=_text(str(error)), isError=True))
        return types.ServerResult(types.CallToolResult(content=content))

    async def _echo(self, arguments: Arguments) -> Content:
        return _text(arguments.get("text", ""))

    async def _sum(self, arguments: Arguments) -> Content:
        return _text(str(arguments["a"] + arguments["b"]))

    async def _slow(self, arguments: Arguments) -> Content:
        await asyncio.sleep(arguments["seconds"])
        return _text(f"waited {arguments['seconds']} s")

    async def _hang(self, arguments: Arguments) -> Content:
        await asyncio.Event().wait()
        return []

    async def _wait_at_gate(self, arguments: Arguments) -> Content:
        self._at_gate += 1
        try:
            await self._gate.wait()
        finally:
            self._at_gate -= 1
        return _text("through the gate")

    async def _wait_for_gate(self, arguments: Arguments) -> Content:
        while self._at_gate != arguments["count"]:
            await asyncio.sleep(0.005)
        return _text("they are there")

    async def _open_gate(self, arguments: Arguments) -> Content:
        self._gate.set()
        self._gate = asyncio.Event()  # shut behind those who wait
        return _text("open")

    async def _wedge(self, arguments: Arguments) -> Content:
        time.sleep(3600)  # noqa: ASYNC251 - stopping the whole loop is the point
        return []

    async def _exit_now(self, arguments: Arguments) -> Content:
        os._exit(arguments.get("code", 1))

    async def _flood(self, arguments: Arguments) -> Content:
        size = int(arguments["mib"] * _MIB)
        kind = arguments.get("kind", "line")
        if kind == "result":
            return _text("x" * size)
        note = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%s"}}\n' % (
            b"x" * 900
        )
        piece = {"lines": b"no message at all\n", "messages": note}.get(kind, b"x")
        block = piece * (65_536 // len(piece))
        await asyncio.to_thread(_write_all, 2 if kind == "stderr" else 1, block, size)
        if kind != "line":
            os.write(1, b"\n")  # what was cut off must not stand before the answer
        return _text("flooded")

    async def _bad_utf8(self, arguments: Arguments) -> Content:
        os.write(1, b"\xff\xfe\xfa\n" + b'{"jsonrpc":"2.0","id":1,"result":{"text":"\xc3\x28"}}\n')
        return _text("after invalid bytes")

    async def _garbage(self, arguments: Arguments) -> Content:
        os.write(
            1, b"hello\n\n{\n[1,2]\nnull\n{}\n" + b"[" * 5_000 + b"\n" + b'{"jsonrpc":"2.0","id":99,"result":{}}\n'
        )
        return _text("after garbage")

    async def _mixed(self, arguments: Arguments) -> Content:
        resource = types.TextResourceContents(
            uri=_uri("memo://one"), mimeType="text/plain", text="the text of a resource"
        )
        return [
            *_text("first"),
            types.ImageContent(type="image", data=_PIXEL, mimeType="image/png"),
            types.AudioContent(type="audio", data="AAAA", mimeType="audio/wav"),
            types.EmbeddedResource(type="resource", resource=resource),
            types.ResourceLink(type="resource_link", name="two", uri=_uri("memo://two")),
            *_text("last"),
        ]

    async def _raise_error(self, arguments: Arguments) -> Content:
        raise ValueError(arguments.get("message", "it went wrong"))

    async def _environment(self, arguments: Arguments) -> Content:
        return _text(json.dumps(dict(os.environ)))

    async def _cancellations(self, arguments: Arguments) -> Content:
        return _text(str(self._cancelled))

    async def _add_tool(self, arguments: Arguments) -> Content:
        self._add(arguments["name"], "Added.", _object(text="string"), self._echo)
        await self.server.request_context.session.send_tool_list_changed()
        return _text("added")

    async def _record(self, arguments: Arguments) -> Content:
        await asyncio.sleep(arguments.get("before", 0))
        line = json.dumps({"time": time.time(), "text": arguments["text"], "pid": os.getpid()}) + "\n"
        ledger = os.open(os.environ["MCP_RECORD_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(ledger, line.encode())  # one write: lines of several processes do not mix
            os.fsync(ledger)
        finally:
            os.close(ledger)
        await asyncio.sleep(arguments.get("after", 0))
        return _text(f"recorded {arguments['text']}")


def _text(text: str) -> Content:
    return [types.TextContent(type="text", text=text)]


def _uri(text: str) -> AnyUrl:
    return AnyUrl(text)


def _write_all(descriptor: int, block: bytes, size: int) -> None:
    while size > 0:
        size -= os.write(descriptor, block[:size])


async def _serve_stdio(server: MisbehavingServer) -> None:
    options = server.server.create_initialization_options(NotificationOptions(tools_changed=True))
    async with stdio_server() as (read, write):
        await server.server.run(read, write, options)


def _serve_http(server: MisbehavingServer, port: int, token: str | None) -> None:
    sessions = StreamableHTTPSessionManager(server.server)

    @asynccontextmanager
    async def lifespan(receive: Receive, send: Send) -> Any:
        async with sessions.run():
            await receive()
            await send({"type": "lifespan.startup.complete"})
            yield
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async with lifespan(receive, send):
                pass
            return
        shown = dict(scope["headers"]).get(b"authorization", b"").decode()
        if token is not None and shown != f"Bearer {token}":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await sessions.handle_request(scope, receive, send)

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()  # whoever reads the address may connect
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp\n")
    sys.stdout.flush()
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--token")
    parser.add_argument("--tools", type=int, default=0)
    parser.add_argument("--page", type=int, default=1_000)
    parser.add_argument("--start-seconds", type=float, default=0)
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--ignore-eof", action="store_true")
    parser.add_argument("--crash", action="store_true")
    parser.add_argument("--crash-once", type=Path)
    arguments = parser.parse_args()
    if arguments.crash_once is not None and not arguments.crash_once.exists():
        arguments.crash_once.touch()
        raise SystemExit(3)
    if arguments.crash:
        raise SystemExit(3)
    if arguments.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(arguments.start_seconds)
    server = MisbehavingServer(extra=arguments.tools, page=arguments.page)
    if arguments.port is not None:
        _serve_http(server, arguments.port, arguments.token)
        return
    asyncio.run(_serve_stdio(server))
    if arguments.ignore_eof:
        time.sleep(3600)


if __name__ == "__main__":
    main()
