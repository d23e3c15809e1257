"""The process that holds the small model: `python -m agent_service.adapters.local_server --model FILE`.

It reads a key from standard input, serves OpenAI's API on a free port of 127.0.0.1 for whoever knows that key,
writes its address to standard output, and lives exactly as long as the process that started it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys

CONTEXT_TOKENS = 4096
SLOTS = 2
_PR_SET_PDEATHSIG = 1
_NICENESS = 5


def _die_with_parent(parent: int) -> None:
    """On Linux the kernel kills us when our parent goes, even by SIGKILL. Elsewhere the end of stdin must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it went before we asked


def _serve(model: str, key: str) -> object:
    import xllamacpp  # noqa: PLC0415 - the checks above come first

    # Its threads wait for each other by spinning: with as many as cores, a busy neighbour slows them tenfold.
    threads = max(1, min(8, (os.cpu_count() or 1) // 2))
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = SLOTS
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 0
    params.warmup = False
    params.ui = False
    params.endpoint_slots = False
    return xllamacpp.Server(params)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--parent", required=True, type=int)
    arguments = parser.parse_args()
    _die_with_parent(arguments.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; our parent ends us in its order
    os.nice(_NICENESS)  # the services answer before the model computes
    key = sys.stdin.readline().strip()
    server = _serve(arguments.model, key)
    sys.stdout.write(f"{getattr(server, 'listening_address')}\n")  # noqa: B009 - a compiled class without types
    sys.stdout.flush()
    while sys.stdin.read(1):
        pass
    os._exit(0)  # its own shutdown waits for open streams


if __name__ == "__main__":
    main()
