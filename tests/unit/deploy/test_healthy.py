"""The health check of images without curl: an exit code, whatever is asked."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from deploy.healthy import is_healthy
from deploy.local.ports import free_port


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK if self.path == "/well" else HTTPStatus.SERVICE_UNAVAILABLE)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: the terminal is pytest's."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_only_200_is_healthy(url: str) -> None:
    assert is_healthy(f"{url}/well")
    assert not is_healthy(f"{url}/ill")


def test_nobody_there_is_not_healthy() -> None:
    assert not is_healthy(f"http://127.0.0.1:{free_port()}/well")


@pytest.mark.parametrize(("path", "code"), [("/well", 0), ("/ill", 1)])
def test_it_is_an_exit_code(url: str, path: str, code: int) -> None:
    asked = subprocess.run([sys.executable, "-m", "deploy.healthy", url + path], check=False)
    assert asked.returncode == code
