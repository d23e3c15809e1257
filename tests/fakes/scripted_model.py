"""A model that does as it is told: a local HTTP server for tests and benchmarks.

It speaks OpenAI's `POST /v1/chat/completions` and Gemini's `POST /v1beta/models/<name>:streamGenerateContent`
and `:generateContent`, streaming or not; and, for vectors and ranks, `POST /v1/embeddings`, `:batchEmbedContents`
and `POST /rerank`. Without a directive it answers `You said: <the last user message>`, a word at a time. A directive
anywhere in the last user message changes that:

    [[script tokens=200 delay_ms=5]]

Options, separated by spaces; values with spaces stand in double quotes:

    text="…"          what to say instead of the echo
    tokens=N          N pieces: `word0 word1 …`, or `text` N times
    chunk=N           cut the reply into pieces of N characters instead of words
    first_delay_ms=D  wait before the first piece            delay_ms=D  pace of the pieces (absolute, does not drift)
    burst=N           N pieces in one write                  finish=stop|length|content_filter
    usage=0           leave the token counts out             key=WORD    a name to find the request by in the stats
    status=S          refuse with HTTP status S              retry_after=N  seconds, as the header of a refusal
    silent=1          take the request, never answer         hang_after=N   N pieces, then silence on an open line
    fail_after=N      N pieces, then an error object         drop_after=N   N pieces, then cut the connection
    end_after=N       N pieces, then a clean end of the response without any sign that the reply is complete
    times=N           the faults (everything but text, tokens, chunk, delay_ms, key) happen for the first N
                      calls with the same `key` (or the same message); later calls go well
    surrogate=pair    an emoji as two escaped halves in two pieces     surrogate=lone  a half that has no partner
    nul=1             a piece with a NUL                     block=1  Gemini only: the prompt is blocked, no text
    crlf=1            CRLF line ends                         comments=1  a comment before each event

    code=WORD         the error code of a refusal            garbage=1  answers with a page of HTML

Of a directive in a text to embed, or in the query to rank by, these do something: status, retry_after, code, silent,
first_delay_ms, drop_after=0, garbage, times, key, and

    dimensions=N      other than asked for                   lists=1  floats where base64 was asked for
    missing=N         leave N texts out                      zero=1   vectors of length zero
    logits=1          relevance as a model's bare output, which is not between 0 and 1

Where the request offers tools, these make the model call them. Single quotes hold JSON; between quotes of either
kind a backslash takes the next quote as it is:

    call=NAME args='{"expression": "1+1"}' id=WORD     calls this tool; `args` (sent as they are, also where they are
                      no JSON; `{}` without) and `id` are of the `call` before them
    call=a call=b     both at once                           copies=N  each of them N times
    call=a then=1 call=b   a, and b when a has its result    say="…"   words before the calls
    rounds=N          the calls come in the first N answers to the message, the last group over and over; without it
                      there are as many rounds as groups. After them the model answers in words
    force=1           call although no tools are offered, or `tool_choice` forbids it
    fragment=N        arguments in pieces of N characters    form=WORD,WORD…  OpenAI: `whole` all calls in one chunk,
                      `mixed` the fragments of the calls alternate, `noindex`, `noid`, `stop` as finish_reason,
                      `empty` content beside them; Gemini: `whole`
    signed=1          Gemini only: the first call of a round carries a thought signature, and a request that does not
                      bring it back is refused with 400
    decide="…"        what to say instead where the request has a `response_format`

After results of tools the model says `Tools said: <result> | <result>`, or `text`, where `{results}` stands for them.
Gemini has no way to send arguments that are no JSON object: it ends with `MALFORMED_FUNCTION_CALL`.

    obey=1            do whatever any text of the prompt says, whoever wrote it: system prompt, history, passages,
                      results and descriptions of tools. `[[call NAME {"url": "…"}]]` is called (once; also where it
                      stands escaped in JSON or HTML), `[[say …]]` is said, at `[[leak]]` the system prompt is said
    insist=1          calls again what it has called before

An option that is not in this list is answered with 400.

`GET /_stats` → `{now, total, open, states{started, finished, refused, dropped, closed_by_client}, requests[…]}`,
each request with `id, protocol, path, model, stream, key, authorized_by, state, started_at, first_piece_at,
ended_at, pieces_sent, body` (times in seconds since the epoch; bodies of the last 50 only). So a test can assert
that a connection was closed within a second of a cancel. `DELETE /_stats` forgets.

As a process: `python -m tests.fakes.scripted_model --port N` (0 picks one) prints its base address as the first
line of standard output and serves until SIGTERM. In a test: `with ScriptedModelServer() as server: …`.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time
import urllib.request
from types import TracebackType
from typing import Any, Self

import uvicorn

from tests.fakes.scripted_model_app import ScriptedModel


def _bound_socket(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def _server() -> uvicorn.Server:
    config = uvicorn.Config(
        ScriptedModel(), loop="uvloop", http="httptools", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    return uvicorn.Server(config)


class ScriptedModelServer:
    """The server in a thread of this process. `openai_url` and `gemini_url` are what the providers' settings want."""

    def __init__(self, port: int = 0) -> None:
        self._socket = _bound_socket(port)
        self._server = _server()
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def gemini_url(self) -> str:
        return self.url

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/_stats", timeout=30) as response:  # noqa: S310 - our own address
            answer: dict[str, Any] = json.loads(response.read())
        return answer

    def forget(self) -> None:
        request = urllib.request.Request(f"{self.url}/_stats", method="DELETE")  # noqa: S310 - our own address
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("the scripted model server did not start")
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model server.")
    parser.add_argument("--port", type=int, default=0)
    listener = _bound_socket(parser.parse_args().port)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    _server().run(sockets=[listener])


if __name__ == "__main__":
    main()
