"""An MCP server of the standard library alone, which misbehaves on demand: a real process that is there at once.

To start `mcp_server` takes a second of a processor, because it is made with the `mcp` package. Tests that start and
kill many take this one: `python -S -P tests/fakes/mcp_bare_server.py`, over standard input and output. It does one
thing at a time.

    echo(text)        add(a, b)         raise_error(message)      pid()
    busy(seconds)     does nothing else meanwhile
    hang()            is never answered, while others are         hanging()  how many calls are not
    wedge(path)       makes that file; from then on the whole process answers nothing
    exit_now(code)    flood(mib, kind)  as in `mcp_server`
    garbage()         lines that are no JSON-RPC on standard output, then an answer

`--tools N` adds N tools `extra_0` … that echo. `--page N` lists N tools a page. `--start-seconds S` waits before it
serves. `--ignore-sigterm` and `--ignore-eof` make it hard to end. `--crash` ends it at once with code 3.

`BareServer.answer` is all of it but the process, for servers of other kinds.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
# As large as a message of a flood usually is: what it costs to read one must not decide how long a test takes.
_NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%s"}}\n' % (b"x" * 30_000)
_GARBAGE = b"hello\n\n{\n[1,2]\nnull\n{}\n" + b"[" * 5_000 + b"\n" + b'{"jsonrpc":"2.0","id":99,"result":{}}\n'

Arguments = dict[str, Any]


class BareServer:
    """`answer` takes one message of the client, and gives the answer; None where there is none."""

    def __init__(self, *, extra: int = 0, page: int = 1_000) -> None:
        self._page = page
        self._hanging = 0
        self._tools: dict[str, Callable[[Arguments], str]] = {
            "echo": lambda arguments: str(arguments.get("text", "")),
            "add": lambda arguments: str(arguments["a"] + arguments["b"]),
            "raise_error": self._raise_error,
            "pid": lambda _: str(os.getpid()),
            "busy": self._busy,
            "hang": self._hang,
            "hanging": lambda _: str(self._hanging),
            "wedge": self._wedge,
            "exit_now": lambda arguments: os._exit(arguments.get("code", 1)),
            "flood": self._flood,
            "garbage": self._garbage,
        } | {f"extra_{number}": lambda arguments: str(arguments.get("text", "")) for number in range(extra)}

    def answer(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if "id" not in message:
            return None
        result: dict[str, Any]
        parameters = message.get("params") or {}
        match message["method"]:
            case "initialize":
                result = {
                    "protocolVersion": parameters["protocolVersion"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "bare", "version": "1"},
                }
            case "ping":
                result = {}
            case "tools/list":
                result = self._list(int(parameters.get("cursor") or 0))
            case "tools/call":
                try:
                    text, is_error = self._tools[parameters["name"]](parameters.get("arguments") or {}), False
                except _NoAnswer:
                    return None
                except ValueError as error:
                    text, is_error = str(error), True
                result = {"content": [{"type": "text", "text": text}], "isError": is_error}
            case _:
                unknown = {"code": -32601, "message": "There is no such method."}
                return {"jsonrpc": "2.0", "id": message["id"], "error": unknown}
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}

    def _list(self, first: int) -> dict[str, Any]:
        page = list(self._tools)[first : first + self._page]
        after = {"nextCursor": str(first + self._page)} if first + self._page < len(self._tools) else {}
        return {"tools": [_described(name) for name in page], **after}

    def _raise_error(self, arguments: Arguments) -> str:
        raise ValueError(arguments.get("message", "it went wrong"))

    def _busy(self, arguments: Arguments) -> str:
        time.sleep(arguments["seconds"])
        return "done"

    def _hang(self, _: Arguments) -> str:
        self._hanging += 1
        raise _NoAnswer

    def _wedge(self, arguments: Arguments) -> str:
        Path(arguments["path"]).touch()
        time.sleep(3600)
        return ""

    def _flood(self, arguments: Arguments) -> str:
        size, kind = int(arguments["mib"] * MIB), arguments.get("kind", "line")
        if kind == "result":
            return "x" * size
        piece = {"lines": b"no message at all\n", "messages": _NOTE}.get(kind, b"x")
        block = piece * max(1, 65_536 // len(piece))
        while size > 0:
            size -= os.write(1, block[:size])
        return "flooded"

    def _garbage(self, _: Arguments) -> str:
        os.write(1, _GARBAGE)
        return "after garbage"


class _NoAnswer(Exception):
    """The call is never answered."""


def _described(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    if name == "add":
        numbers = {"a": {"type": "number"}, "b": {"type": "number"}}
        schema |= {"properties": numbers, "required": ["a", "b"], "additionalProperties": False}
    return {"name": name, "description": "Does as it is called.", "inputSchema": schema}


def _option(name: str, default: float) -> float:
    return float(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def main() -> None:
    if "--crash" in sys.argv:
        raise SystemExit(3)
    if "--ignore-sigterm" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(_option("--start-seconds", 0))
    server = BareServer(extra=int(_option("--tools", 0)), page=int(_option("--page", 1_000)))
    for line in sys.stdin.buffer:
        answer = server.answer(json.loads(line))
        if answer is not None:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    if "--ignore-eof" in sys.argv:
        time.sleep(3600)


if __name__ == "__main__":
    main()
