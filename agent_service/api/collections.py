"""`/v1/collections`: documents put into collections, and passages found in them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, assert_never
from uuid import UUID

import orjson
from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.requests import ClientDisconnect

from agent_service.api.auth import AUTH_PROBLEMS, AuthenticatedCaller
from agent_service.api.state import State
from agent_service.domain.embedding_problems import EMBEDDER_PROBLEMS
from agent_service.domain.index_problems import (
    CollectionDeleted,
    CollectionNotFound,
    DocumentNotFound,
    EmbeddingModelChanged,
    IndexUnavailable,
    StaleVersion,
)
from shared.contracts.knowledge import (
    MAX_VERSION,
    ChunkPage,
    CollectionState,
    DocumentPut,
    IndexedDocument,
    IndexEvent,
    IndexFailed,
    IndexProgress,
    SearchAnswer,
    SearchRequest,
)
from shared.problems import PROBLEM_JSON, MalformedRequest, PayloadTooLarge, ValidationFailed
from shared.web.event_stream import CLIENT_CLOSED, EVENT_STREAM, EventStreamResponse, wants_json, while_connected
from shared.web.responses import problems

router = APIRouter(prefix="/v1/collections", tags=["collections"])

_EXAMPLE_ID = "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f"
_EXAMPLE_DOCUMENT = "0198f3a4-0b5e-7c1a-9d2f-3e4a5b6c7d8e"
_EXAMPLE_CHUNK = {
    "chunk_id": "0198f3a4-11aa-7b2c-8c3d-4e5f6a7b8c9d",
    "position": 0,
    "text": "The harbour closes at ten in the evening.",
    "heading": "Opening hours",
    "page": None,
    "start": 0,
    "end": 41,
}
_EXAMPLE_INDEXED = {
    "type": "indexed", "document_id": _EXAMPLE_DOCUMENT, "version": 1, "chunk_count": 1, "embedded": 1,
}  # fmt: skip
_EXAMPLE_STREAM = f"""\
event: progress
data: {{"type":"progress","done":0,"total":1}}

event: indexed
data: {orjson.dumps(_EXAMPLE_INDEXED).decode()}

"""
_INDEXED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": IndexedDocument,
        "description": "How far it is, as events, or the end alone with `Accept: application/json`. The `data` of each"
        " event is one `IndexEvent`.",
        "content": {
            "application/json": {"example": _EXAMPLE_INDEXED},
            EVENT_STREAM: {"schema": {"type": "string"}, "example": _EXAMPLE_STREAM},
        },
    }
}


def _example(value: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": value}}}}


CollectionId = Annotated[UUID, Path(description="Made by the first document that is put into it.")]
DocumentId = Annotated[UUID, Path(description="The caller's own: a document is replaced by putting it again.")]


@router.put(
    "/{collection_id}/documents/{document_id}",
    operation_id="put_document",
    summary="Put a document into a collection",
    responses={
        **_INDEXED,
        **problems(
            MalformedRequest,
            *AUTH_PROBLEMS,
            StaleVersion,
            CollectionDeleted,
            EmbeddingModelChanged,
            PayloadTooLarge,
            ValidationFailed,
            IndexUnavailable,
            *EMBEDDER_PROBLEMS,
        ),
    },
)
async def put_document(
    request: Request,
    collection_id: CollectionId,
    document_id: DocumentId,
    document: DocumentPut,
    state: State,
    caller: AuthenticatedCaller,
    accept: Annotated[
        str | None, Header(description="`application/json` for one answer; else events are streamed.")
    ] = None,
) -> Response:
    """Cut a document into passages, embed those whose text is new, and replace what is stored in one step.

    Until the `indexed` event, searches find the version before. The same version may be put again, and changes
    nothing; an older one is refused. The answer is a stream of server-sent events: any number of `progress`, then
    `indexed` or `error`. A comment line comes every 15 seconds. Closing the connection stops the work; what was
    embedded until then need not be embedded again.
    """
    owner_id = caller.user_id
    await state.documents.admit(collection_id, document_id, document.version, owner_id=owner_id)
    events = state.documents.put(collection_id, document_id, document, owner_id=owner_id)
    if wants_json(accept):
        try:
            return await while_connected(_answer_at_once(events), request.receive)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED)
    return EventStreamResponse(_frames(events), heartbeat_seconds=state.heartbeat_seconds)


@router.delete(
    "/{collection_id}/documents/{document_id}",
    operation_id="delete_document",
    summary="Delete a document from a collection",
    status_code=204,
    responses=problems(*AUTH_PROBLEMS, StaleVersion, ValidationFailed, IndexUnavailable),
)
async def delete_document(
    collection_id: CollectionId,
    document_id: DocumentId,
    state: State,
    caller: AuthenticatedCaller,
    version: Annotated[
        int | None,
        Query(ge=1, le=MAX_VERSION, description="Puts of this version and older ones are refused afterwards."),
    ] = None,
) -> None:
    """No search finds it any more. A document that is not there is deleted already: the answer is the same.

    With a `version`, a put that is late does not bring the document back, and a newer document is left alone (409).
    """
    await state.collections.delete_document(collection_id, document_id, owner_id=caller.user_id, version=version)


@router.get(
    "/{collection_id}/documents/{document_id}/chunks",
    operation_id="list_chunks",
    summary="Read a document's passages",
    responses={
        **_example({"items": [_EXAMPLE_CHUNK], "next_cursor": None}),
        **problems(*AUTH_PROBLEMS, DocumentNotFound, ValidationFailed, IndexUnavailable),
    },
)
async def list_chunks(
    collection_id: CollectionId,
    document_id: DocumentId,
    state: State,
    caller: AuthenticatedCaller,
    limit: Annotated[int, Query(ge=1, le=100, description="Passages on a page.")] = 50,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,9}$", description="`next_cursor` of the page before.")
    ] = None,
) -> ChunkPage:
    """The passages as they are searched, in the order of the document."""
    after = -1 if cursor is None else int(cursor)
    return await state.collections.chunks(collection_id, document_id, owner_id=caller.user_id, after=after, limit=limit)


@router.post(
    "/search",
    operation_id="search_passages",
    summary="Find passages",
    response_model=SearchAnswer,
    responses={
        **_example(
            {
                "passages": [
                    {
                        **_EXAMPLE_CHUNK,
                        "collection_id": _EXAMPLE_ID,
                        "document_id": _EXAMPLE_DOCUMENT,
                        "document_name": "harbour.md",
                        "score": 0.83,
                        "dense_score": 0.71,
                        "text_score": 2.4,
                    }
                ]
            }
        ),
        **problems(
            MalformedRequest,
            *AUTH_PROBLEMS,
            CollectionNotFound,
            EmbeddingModelChanged,
            PayloadTooLarge,
            ValidationFailed,
            IndexUnavailable,
            *EMBEDDER_PROBLEMS,
        ),
    },
)
async def search_passages(
    request: Request, wanted: SearchRequest, state: State, caller: AuthenticatedCaller
) -> Response:
    """The passages that fit a question best, from one collection or several.

    `score` lies between 0 and 1 and is comparable within one mode. `dense`: the cosine of question and passage, no
    less than 0. `text`: 0.63 for a passage of usual length that has every word of the question once, nearer to 1
    for one that does better, 0 for none. `hybrid`: both, fused. A collection that does not exist is empty to a
    service, and 404 to an API key.
    """
    try:
        passages = await while_connected(state.searches.search(wanted, owner_id=caller.user_id), request.receive)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED)
    return Response(SearchAnswer(passages=passages).model_dump_json(), media_type="application/json")


@router.get(
    "/{collection_id}",
    operation_id="get_collection",
    summary="Look at a collection",
    responses={
        **_example(
            {
                "collection_id": _EXAMPLE_ID,
                "document_count": 1,
                "chunk_count": 1,
                "embedding_model": "local:all-MiniLM-L6-v2:384",
            }
        ),
        **problems(*AUTH_PROBLEMS, CollectionNotFound, ValidationFailed, IndexUnavailable),
    },
)
async def get_collection(collection_id: CollectionId, state: State, caller: AuthenticatedCaller) -> CollectionState:
    """How much it holds, and by which model it was embedded."""
    return await state.collections.state(collection_id, owner_id=caller.user_id)


@router.delete(
    "/{collection_id}",
    operation_id="delete_collection",
    summary="Delete a collection for good",
    status_code=204,
    responses=problems(*AUTH_PROBLEMS, ValidationFailed, IndexUnavailable),
)
async def delete_collection(collection_id: CollectionId, state: State, caller: AuthenticatedCaller) -> None:
    """Nothing of it is found from the first moment on. Its id is never used again: later puts are refused (409)."""
    await state.collections.delete_collection(collection_id, owner_id=caller.user_id)


async def _frames(events: AsyncGenerator[IndexEvent]) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        async for event in events:
            body = event.model_dump_json(exclude_none=isinstance(event, IndexFailed))
            yield f"event: {event.type}\ndata: {body}\n\n".encode()


async def _answer_at_once(events: AsyncGenerator[IndexEvent]) -> Response:
    answer: Response | None = None
    async with aclosing(events):
        async for event in events:
            match event:
                case IndexProgress():
                    pass
                case IndexedDocument():
                    answer = Response(event.model_dump_json(), media_type="application/json")
                case IndexFailed():
                    answer = _refusal(event)
                case _:
                    assert_never(event)
    assert answer is not None, "a put ends with `indexed` or `error`"
    return answer


def _refusal(failed: IndexFailed) -> Response:
    return Response(
        failed.problem.model_dump_json(exclude_none=True),
        status_code=failed.problem.status,
        headers={} if failed.retry_after is None else {"Retry-After": str(failed.retry_after)},
        media_type=PROBLEM_JSON,
    )
