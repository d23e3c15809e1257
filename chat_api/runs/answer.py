"""The three ways to hear the answer: wait for it, stream it, or be told where to look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

from fastapi import Response
from fastapi.responses import StreamingResponse

from chat_api.kit.idempotency import REPLAYED_HEADER
from chat_api.runs.errors import Restarting, RunNotFound
from chat_api.runs.events import KEEPALIVE, RunEvent
from chat_api.runs.repository import RunRepository, Sent
from chat_api.runs.streams import RunStreams
from chat_api.sessions.access import AccessWatch, Membership
from chat_api.sessions.errors import SessionNotFound

SSE_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_MEDIA_TYPE = "text/event-stream"


class Answers:
    """For somebody who was found to take part. What they hear ends when they do so no more."""

    def __init__(self, repository: RunRepository, streams: RunStreams, access: AccessWatch) -> None:
        self._repository = repository
        self._streams = streams
        self._access = access

    async def whole(self, sent: Sent, reader: Membership) -> Response:
        """201 with the message, the run and the reply, once the run has ended.

        Raises `Restarting` when this process stops before that, and `SessionNotFound` when the reader's access ends.
        """
        headers = _replayed(sent)
        if sent.run_id is None:
            return _json(201, headers, message=sent.message, run=None, reply=None)
        with self._access.open(reader) as access:
            async with aclosing(self._streams.follow(sent.run_id, 1)) as batches:
                async for batch in access.while_it_lasts(batches):
                    if batch and batch[-1].is_terminal:
                        state = await self._repository.state(sent.run_id)
                        if access.ended:
                            raise SessionNotFound
                        if state is None or state.trigger is None:
                            raise RunNotFound
                        return _json(201, headers, message=state.trigger, run=state.run, reply=state.reply)
            raise SessionNotFound if access.ended else Restarting

    def accepted(self, sent: Sent) -> Response:
        """202 with the message and its run, at once."""
        headers = _replayed(sent) | {"Preference-Applied": "respond-async"}
        return _json(202, headers, message=sent.message, run=sent.run)

    def stream(self, sent: Sent, reader: Membership) -> Response:
        """The run's events from the first; only the first where no reply is due."""
        return StreamingResponse(
            self._frames(sent.run_id, 0, sent.message, reader),
            media_type=_MEDIA_TYPE,
            headers=SSE_HEADERS | _replayed(sent),
        )

    async def resume(self, run_id: UUID, user_id: UUID, after: int) -> Response:
        """The run's events after number `after`; 204 when the terminal one was among those before."""
        state = await self._repository.state(run_id)
        if state is None or state.trigger is None:
            raise RunNotFound
        if state.stream_length and after == state.stream_length:
            return Response(status_code=204)
        reader = Membership(state.session_id, user_id)
        return StreamingResponse(
            self._frames(run_id, after, state.trigger, reader), media_type=_MEDIA_TYPE, headers=SSE_HEADERS
        )

    async def _frames(
        self, run_id: UUID | None, after: int, message: bytes, reader: Membership
    ) -> AsyncIterator[bytes]:
        """They stop, without a terminal event, when the reader's access ends."""
        if run_id is None:
            yield RunEvent(1, "message.created", message).frame()
            return
        with self._access.open(reader) as access:
            if after < 1:
                yield RunEvent(1, "message.created", message).frame()
            async with aclosing(self._streams.follow(run_id, max(after, 1))) as batches:
                async for batch in access.while_it_lasts(batches):
                    yield b"".join(event.frame() for event in batch) or KEEPALIVE


def _replayed(sent: Sent) -> dict[str, str]:
    return {REPLAYED_HEADER: "true"} if sent.replayed else {}


def _json(status: int, headers: dict[str, str], **documents: bytes | None) -> Response:
    """An object of documents that PostgreSQL built: joined, not parsed."""
    body = b",".join(b'"%b":%b' % (name.encode(), document or b"null") for name, document in documents.items())
    return Response(b"{%b}" % body, status_code=status, media_type="application/json", headers=headers)
