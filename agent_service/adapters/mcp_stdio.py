"""MCP over the standard input and output of a process.

The SDK's own transport reads lines of any length, hands the process a part of our environment, and leaves orphans
when we are killed. This one does not.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage
from pydantic import ValidationError

from agent_service.adapters.mcp_config import StdioServer
from agent_service.adapters.mcp_link import MAX_MESSAGE_BYTES, Flooded, FloodMeter, Link

_KEEPER = Path(__file__).with_name("mcp_keeper.py")
_READ_BYTES = 64 * 1024
_EOF_SECONDS = 0.3
# How it ended is known a moment after its output has: longer on a busy machine.
_EXIT_SECONDS = 3.0
# The keeper takes two, and longer on a busy machine. To kill it would leave what the server started.
_STOP_SECONDS = 10.0
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class NotStarted(Exception):
    """The process cannot be started. The message is in our words."""


@asynccontextmanager
async def stdio_link(server: StdioServer) -> AsyncGenerator[Link]:
    """Start the process, and end it and all that it started. Raises `NotStarted`."""
    process = await _start(server)
    assert process.stdin is not None
    assert process.stdout is not None
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    link = Link(incoming, outgoing)
    tasks = {
        asyncio.create_task(_read(process, process.stdout, to_session, link)),
        asyncio.create_task(_write(process.stdin, from_session, link)),
    }
    try:
        yield link
    finally:
        link.lose("It was closed.")
        for task in tasks:
            task.cancel()
        try:
            await _in_spite_of_cancellation(_end(process, tasks))
        finally:
            for stream in (to_session, incoming, outgoing, from_session):
                stream.close()


def environment_of(server: StdioServer) -> dict[str, str]:
    """All that the process gets: what the config gives, and where programs are found."""
    given = {name: value.get_secret_value() for name, value in server.env.items()}
    return {"PATH": os.environ.get("PATH", os.defpath), **given}


async def _start(server: StdioServer) -> asyncio.subprocess.Process:
    environment = environment_of(server)
    if shutil.which(server.command, path=environment["PATH"]) is None:
        raise NotStarted("Its command is not found.")
    # Isolated and without site packages: what the server's PYTHONPATH names is not for the keeper.
    keeper = [sys.executable, "-I", "-S", str(_KEEPER), str(os.getpid()), ",".join(environment)]
    try:
        return await asyncio.create_subprocess_exec(
            *keeper,
            server.command,
            *server.args,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # It may hold anything, also secrets and what people wrote.
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=_READ_BYTES,
        )
    except OSError as error:
        raise NotStarted(f"Its process cannot be started: {error.strerror}.") from None


async def _read(
    process: asyncio.subprocess.Process,
    stdout: asyncio.StreamReader,
    to_session: MemoryObjectSendStream[SessionMessage | Exception],
    link: Link,
) -> None:
    """Hand on every line that is a message, until the end. No more than one message is ever held."""
    meter = FloodMeter()
    held = bytearray()
    junk = 0
    try:
        while chunk := await stdout.read(_READ_BYTES):
            *complete, rest = chunk.split(b"\n")
            meter.count(len(chunk), messages=len(complete))
            for end in complete:
                held += end
                message = None if len(held) > MAX_MESSAGE_BYTES else _message(bytes(held))
                junk = 0 if message is not None else junk + len(held)
                held.clear()
                meter.hold(junk)
                if message is not None:
                    await to_session.send(SessionMessage(message))
            held += rest
            meter.hold(len(held))
        link.lose(await _ending(process))
    except Flooded as error:
        link.lose(str(error))
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        link.lose("It was closed.")  # by us
    except (ConnectionError, BrokenPipeError):
        link.lose("Its standard output broke.")
    finally:
        to_session.close()


def _message(line: bytes) -> JSONRPCMessage | None:
    """None for what is none: servers print greetings and warnings to the wrong place."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        return JSONRPCMessage.model_validate_json(line)
    except ValidationError:
        pass
    # An answer with some invalid bytes, or with half a surrogate pair, is worth reading for the rest of it.
    try:
        text = json.dumps(json.loads(line.decode("utf-8", "replace")), ensure_ascii=False)
        return JSONRPCMessage.model_validate_json(_LONE_SURROGATE.sub("\ufffd", text))
    except (ValueError, RecursionError):  # a ValidationError is a ValueError
        return None


async def _ending(process: asyncio.subprocess.Process) -> str:
    if not await _ended(process, _EXIT_SECONDS):
        return "It closed its standard output."
    assert process.returncode is not None
    if process.returncode > 128:
        return f"Its process was ended by signal {process.returncode - 128}."
    return f"Its process ended with code {process.returncode}."


async def _write(
    stdin: asyncio.StreamWriter, from_session: MemoryObjectReceiveStream[SessionMessage], link: Link
) -> None:
    try:
        async for outgoing in from_session:
            line = outgoing.message.model_dump_json(by_alias=True, exclude_none=True)
            stdin.write(line.encode() + b"\n")
            await stdin.drain()
    except OSError:
        pass  # it ended: the reader learns why
    finally:
        from_session.close()


async def _in_spite_of_cancellation(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, and only then be cancelled: the agent may stop while a server is being ended."""
    doing = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait({doing})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    doing.result()


async def _end(process: asyncio.subprocess.Process, tasks: set[asyncio.Task[None]]) -> None:
    """Close its input, which is the polite way; then ask; the keeper kills what does not listen."""
    assert process.stdin is not None
    assert process.stdout is not None
    await asyncio.wait(tasks)
    # asyncio knows of the end only when all has been read.
    draining = asyncio.ensure_future(_drain(process.stdout))
    try:
        process.stdin.close()
        if not await _ended(process, _EOF_SECONDS):
            with suppress(ProcessLookupError):
                process.terminate()
            await _ended(process, _STOP_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await _ended(process, _EOF_SECONDS)
        draining.cancel()


async def _drain(stdout: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await stdout.read(_READ_BYTES):
            pass


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await process.wait()
    return process.returncode is not None
