"""Logs: one JSON object a line, whoever logs, with the request id and without the text of errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Logging is set up once a process, so each script runs in one of its own: forked from one that has imported it all.
_RUNNER = """
import json, logging, os, sys
from shared.logging import configure_logging, get_logger, request_id_var
for line in sys.stdin:
    level, script = json.loads(line)
    child = os.fork()
    if child == 0:
        configure_logging(level, service="tester")
        exec(script, {"logging": logging, "request_id_var": request_id_var, "log": get_logger("here")})
        sys.stdout.flush()
        os._exit(0)
    print("ended", os.waitpid(child, 0)[1], flush=True)
"""

Lines = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    """What a script logs."""
    with subprocess.Popen(
        [sys.executable, "-c", _RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as runner:

        def logged(script: str, level: str = "info") -> list[dict[str, Any]]:
            assert runner.stdin is not None
            assert runner.stdout is not None
            runner.stdin.write(json.dumps([level, script]).encode() + b"\n")
            runner.stdin.flush()
            said: list[bytes] = []
            while not (line := runner.stdout.readline()).startswith(b"ended "):
                assert line, "the runner is gone"
                said.append(line)
            assert line == b"ended 0\n", said
            return [json.loads(line) for line in said]

        yield logged
        runner.communicate()


def test_one_json_object_a_line(lines: Lines) -> None:
    events = lines('log.info("run.completed", run_id="r", text="two\\nlines", n=2)\nlog.debug("not.shown")\n')
    (event,) = events
    time = event.pop("time")
    assert time.endswith("Z")
    assert event == {
        "event": "run.completed",
        "level": "info",
        "n": 2,
        "run_id": "r",
        "service": "tester",
        "text": "two\nlines",
    }


def test_the_request_id_comes_by_itself(lines: Lines) -> None:
    before, within, own = lines(
        'log.info("a")\nrequest_id_var.set("trace-1")\nlog.info("b")\nlog.info("c", request_id="mine")\n'
    )
    assert "request_id" not in before
    assert within["request_id"] == "trace-1"
    assert own["request_id"] == "mine"


def test_errors_show_their_kind_and_place_but_not_their_text(lines: Lines) -> None:
    script = """
def fail():
    raise ValueError("SECRET of a row")
try:
    fail()
except ValueError:
    log.exception("it.broke")
    logging.getLogger("library").exception("library broke")
"""
    for event in lines(script):
        assert event["error"] == "ValueError"
        assert [frame.split(" ")[-1] for frame in event["trace"]] == ["<module>", "fail"]
        assert "SECRET" not in json.dumps(event)


def test_libraries_log_down_the_same_pipe(lines: Lines) -> None:
    script = """
request_id_var.set("trace-2")
logging.getLogger("some.library").warning("disk %s is %d%% full", "a", 90)
logging.getLogger("uvicorn.error").info("started")
logging.getLogger("uvicorn.access").info("GET /")
logging.getLogger("httpx").info("GET http://x/?key=SECRET")
logging.getLogger("some.library").debug("noise")
"""
    first, second = lines(script)
    assert (first["event"], first["logger"], first["level"]) == ("disk a is 90% full", "some.library", "warning")
    assert (first["request_id"], first["service"]) == ("trace-2", "tester")
    assert (second["event"], second["logger"]) == ("started", "uvicorn.error")


def test_levels_of_a_librarys_own_do_not_break_it(lines: Lines) -> None:
    (event,) = lines('logging.getLogger("library").log(25, "in between")\n')
    assert event["event"] == "in between"


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_decides(lines: Lines, level: str, shown: int) -> None:
    script = 'log.debug("a"); log.info("b"); log.warning("c"); log.error("d")\n'
    assert len(lines(script, level)) == shown


def test_values_json_does_not_know_are_written_as_text(lines: Lines) -> None:
    (event,) = lines('from pathlib import Path\nlog.info("a", where=Path("/x"))\n')
    assert event["where"] == "/x"
