"""The process that reads documents: `python -m chat_api.documents.extraction.child --parent PID --memory-mb N`.

It takes one request a line from standard input, JSON `{"path", "format", "max_characters", "cpu_seconds"}`, and
answers on standard output: `R` at once, for it reads; then one letter (`B` blocks, `F` failure), the length of what
follows in four bytes, and JSON. It lives as long as the process that started it, at most, and counts on being killed
at any time.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import resource
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from chat_api.documents.extraction.document_format import DocumentFormat
from chat_api.documents.extraction.failure import ExtractionFailed, Failure
from chat_api.documents.extraction.reading import read_document

READING = b"R"
BLOCKS = b"B"
FAILED = b"F"
HEADER = struct.Struct(">cI")

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 64
_DAMAGED = "The file is damaged, or of an unusual make. Open it where it was made, save it anew, and upload that."
_TOO_LARGE = "Reading the file takes more memory than one document may take. Save it in a simpler form, or split it."


def _die_with_parent(parent: int) -> None:
    """On Linux the kernel kills us when our parent goes, even by SIGKILL. Elsewhere the end of stdin must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Where the whole machine is out of memory, we are what it can do without.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if os.getppid() != parent:
        os._exit(1)  # it went before we asked


def _limit(memory_mb: int) -> None:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)  # reading needs no files of its own
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)
    if sys.platform == "linux":  # macOS does not keep to it; there the time limit must do
        _lower(resource.RLIMIT_AS, memory_mb * 1024 * 1024)


def _lower(limit: int, value: int) -> None:
    """For good. The machine's own limit stays where it is lower."""
    _, most = resource.getrlimit(limit)
    if most != resource.RLIM_INFINITY:
        value = min(value, most)
    resource.setrlimit(limit, (value, value))


def _limit_cpu(seconds: float) -> None:
    """`seconds` from now. A backstop: our parent watches the clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    until = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 1
    if most == resource.RLIM_INFINITY or until < most:
        resource.setrlimit(resource.RLIMIT_CPU, (until, most))


def _answer(line: bytes) -> tuple[bytes, bytes]:
    request = json.loads(line)
    _limit_cpu(request["cpu_seconds"])
    try:
        blocks = read_document(
            Path(request["path"]), DocumentFormat(request["format"]), max_characters=request["max_characters"]
        )
        listed = [{"text": text, "page": page, "heading": heading} for text, page, heading in blocks]
        return BLOCKS, json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode()
    except ExtractionFailed as error:
        return FAILED, _failure(error.failure, error.detail)
    except MemoryError:
        return FAILED, _failure(Failure.TOO_COMPLEX, _TOO_LARGE)
    except RecursionError:
        return FAILED, _failure(Failure.TOO_COMPLEX, "The file is nested too deeply.")
    except (FileNotFoundError, PermissionError, ImportError):
        raise  # not the document's fault: our parent sees us end
    except Exception:  # noqa: BLE001 - libraries raise anything on files made to break them
        return FAILED, _failure(Failure.UNREADABLE, _DAMAGED)


def _failure(failure: Failure, detail: str) -> bytes:
    return json.dumps({"failure": failure, "detail": detail}).encode()


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    while line := requests.readline():
        answers.write(READING)
        answers.flush()
        kind, payload = _answer(line)
        answers.write(HEADER.pack(kind, len(payload)))
        answers.write(payload)
        answers.flush()
        del payload
        gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", required=True, type=int)
    parser.add_argument("--memory-mb", required=True, type=int)
    arguments = parser.parse_args()
    _die_with_parent(arguments.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; our parent ends us in its order
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _limit(arguments.memory_mb)
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
