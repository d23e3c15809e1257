"""The official `openai` client, as programs have it that lose patience."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import openai

_ANY_TIME: Any = dict.fromkeys(("connect", "read", "write", "pool"), 60.0)


@contextlib.contextmanager
def impatient(client: openai.OpenAI) -> Iterator[openai.OpenAI]:
    """The same client, that waits a second for an answer and then asks again by itself.

    For the answer to what it asks again it waits as long as that takes: on a busy machine it would otherwise lose
    patience with every attempt, and never hear why there is none.
    """

    def wait_for_the_second(request: Any) -> None:
        if request.headers["x-stainless-retry-count"] != "0":
            request.extensions["timeout"] = _ANY_TIME

    with openai.DefaultHttpxClient(event_hooks={"request": [wait_for_the_second]}) as http:
        yield client.with_options(timeout=1, http_client=http)
