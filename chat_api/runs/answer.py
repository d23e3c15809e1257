"""The three ways to hear the answer: wait for it, stream it, or be told where to look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import Response
from fastapi.responses import StreamingResponse

from chat_api.kit.idempotency import REPLAYED_HEADER
from chat_api.runs.errors import Restarting, RunNotFound
from chat_api.runs.events import KEEPALIVE, RunEvent
from chat_api.runs.repository import RunRepository, Sent
from chat_api.runs.streams import RunStreams

SSE_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_MEDIA_TYPE = "text/event-stream"


class Answers:
    def __init__(self, repository: RunRepository, streams: RunStreams) -> None:
        self._repository = repository
        self._streams = streams

    async def whole(self, sent: Sent) -> Response:
        """201 with the message, the run and the reply, once the run has ended.

        Raises `Restarting` when this process stops before that.
        """
        headers = _replayed(sent)
        if sent.run_id is None:
            return _json(201, headers, message=sent.message, run=None, reply=None)
        async for batch in self._streams.follow(sent.run_id, 1):
            if batch and batch[-1].is_terminal:
                state = await self._repository.state(sent.run_id)
                if state is None or state.trigger is None:
                    raise RunNotFound
                return _json(201, headers, message=state.trigger, run=state.run, reply=state.reply)
        raise Restarting

    def accepted(self, sent: Sent) -> Response:
        """202 with the message and its run, at once."""
        headers = _replayed(sent) | {"Preference-Applied": "respond-async"}
        return _json(202, headers, message=sent.message, run=sent.run)

    def stream(self, sent: Sent) -> Response:
        """The run's events from the first; only the first where no reply is due."""
        return StreamingResponse(
            self._frames(sent.run_id, 0, sent.message), media_type=_MEDIA_TYPE, headers=SSE_HEADERS | _replayed(sent)
        )

    async def resume(self, run_id: UUID, after: int) -> Response:
        """The run's events after number `after`; 204 when the terminal one was among those before."""
        state = await self._repository.state(run_id)
        if state is None or state.trigger is None:
            raise RunNotFound
        if state.stream_length and after == state.stream_length:
            return Response(status_code=204)
        return StreamingResponse(
            self._frames(run_id, after, state.trigger), media_type=_MEDIA_TYPE, headers=SSE_HEADERS
        )

    async def _frames(self, run_id: UUID | None, after: int, message: bytes) -> AsyncIterator[bytes]:
        if after < 1:
            yield RunEvent(1, "message.created", message).frame()
        if run_id is None:
            return
        async for batch in self._streams.follow(run_id, max(after, 1)):
            yield b"".join(event.frame() for event in batch) or KEEPALIVE


def _replayed(sent: Sent) -> dict[str, str]:
    return {REPLAYED_HEADER: "true"} if sent.replayed else {}


def _json(status: int, headers: dict[str, str], **documents: bytes | None) -> Response:
    """An object of documents that PostgreSQL built: joined, not parsed."""
    body = b",".join(b'"%b":%b' % (name.encode(), document or b"null") for name, document in documents.items())
    return Response(b"{%b}" % body, status_code=status, media_type="application/json", headers=headers)
