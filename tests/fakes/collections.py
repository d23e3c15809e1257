"""The agent's collections as a test wants them, behind the HTTP transport of the chat API's client.

It keeps what is put as one passage for each block and finds passages that share a word with the query. Nothing is
embedded; what the test wants to see refused, slow or broken it says in `refusals` and `delay_seconds`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import httpx
import orjson

from shared.contracts.knowledge import (
    ChunkPage,
    ChunkRead,
    DocumentPut,
    IndexedDocument,
    IndexProgress,
    Passage,
    SearchAnswer,
    SearchRequest,
)
from shared.problems import PROBLEM_JSON, ProblemDocument

_DOCUMENT = re.compile(r"/v1/collections/([0-9a-f-]{36})/documents/([0-9a-f-]{36})(/chunks)?")
_COLLECTION = re.compile(r"/v1/collections/([0-9a-f-]{36})")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class StoredDocument:
    name: str
    version: int
    chunks: tuple[ChunkRead, ...]


class ScriptedCollections:
    """`requests` are (method, path); a document in `documents` is searched."""

    def __init__(self) -> None:
        self.documents: dict[tuple[UUID, UUID], StoredDocument] = {}
        self.requests: list[tuple[str, str]] = []
        self.searches: list[SearchRequest] = []
        self.deleted: list[tuple[UUID, UUID, int]] = []
        self.refusals: list[httpx.Response | httpx.TransportError] = []
        self.delay_seconds = 0.0
        self.opened = asyncio.Event()
        """Cleared, it holds every request until the test sets it."""
        self.opened.set()

    def holds(self, collection_id: UUID, document_id: UUID, *texts: str, name: str = "a document") -> list[ChunkRead]:
        """Have passages of a document, as if it had been put."""
        chunks = tuple(_chunks(document_id, texts))
        self.documents[collection_id, document_id] = StoredDocument(name, 1, chunks)
        return list(chunks)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        body = b"".join([piece async for piece in request.stream])  # type: ignore[union-attr]  # always async here
        path = request.url.path
        self.requests.append((request.method, path))
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self.opened.wait()
        if self.refusals:
            refusal = self.refusals.pop(0)
            if isinstance(refusal, httpx.TransportError):
                raise refusal
            return refusal
        if (request.method, path) == ("POST", "/v1/collections/search"):
            return self._search(SearchRequest.model_validate_json(body))
        if (found := _DOCUMENT.fullmatch(path)) is not None:
            return self._of_document(request, UUID(found[1]), UUID(found[2]), body)
        if request.method == "DELETE" and (found := _COLLECTION.fullmatch(path)) is not None:
            self.documents = {key: kept for key, kept in self.documents.items() if key[0] != UUID(found[1])}
            return httpx.Response(204)
        return problem(404, "not-found")

    def _of_document(self, request: httpx.Request, collection: UUID, document: UUID, body: bytes) -> httpx.Response:
        if request.url.path.endswith("/chunks"):
            params = request.url.params
            return self._page(collection, document, int(params["limit"]), params.get("cursor"))
        if request.method == "DELETE":
            self.deleted.append((collection, document, int(request.url.params["version"])))
            self.documents.pop((collection, document), None)
            return httpx.Response(204)
        return self._put(collection, document, DocumentPut.model_validate_json(body))

    def _put(self, collection: UUID, document: UUID, put: DocumentPut) -> httpx.Response:
        chunks = tuple(_chunks(document, [block.text for block in put.blocks]))
        self.documents[collection, document] = StoredDocument(put.name, put.version, chunks)
        total = len(chunks)
        events = (
            IndexProgress(done=0, total=total),
            IndexProgress(done=total, total=total),
            IndexedDocument(document_id=document, version=put.version, chunk_count=total, embedded=total),
        )
        frames = "".join(f"event: {event.type}\ndata: {event.model_dump_json()}\n\n" for event in events)
        stream = httpx.ByteStream(frames.encode())
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=stream)

    def _search(self, request: SearchRequest) -> httpx.Response:
        self.searches.append(request)
        words = set(_WORD.findall(request.query.lower()))
        passages = [
            Passage(
                chunk_id=chunk.chunk_id,
                collection_id=collection,
                document_id=document,
                document_name=stored.name,
                position=chunk.position,
                text=chunk.text,
                heading=chunk.heading,
                page=chunk.page,
                start=chunk.start,
                end=chunk.end,
                score=1.0 / (1 + chunk.position),
                dense_score=None,
                text_score=1.0,
            )
            for (collection, document), stored in self.documents.items()
            if collection in request.collections and document not in request.exclude_documents
            for chunk in stored.chunks
            if words & set(_WORD.findall(chunk.text.lower()))
        ]
        return _json(SearchAnswer(passages=passages[: request.top_k]).model_dump_json())

    def _page(self, collection: UUID, document: UUID, limit: int, cursor: str | None) -> httpx.Response:
        stored = self.documents.get((collection, document))
        chunks = stored.chunks if stored is not None else ()
        if cursor is not None and not (cursor.isascii() and cursor.isdigit()):
            return problem(422, "validation-failed")
        start = int(cursor or "0")
        more = str(start + limit) if start + limit < len(chunks) else None
        return _json(ChunkPage(items=list(chunks[start : start + limit]), next_cursor=more).model_dump_json())


def problem(status: int, code: str, detail: str = "As the test wants it.") -> httpx.Response:
    """A refusal of the agent's."""
    document = ProblemDocument(title=code, status=status, detail=detail, code=code, request_id="agents-own-id")
    return httpx.Response(status, headers={"Content-Type": PROBLEM_JSON}, content=document.model_dump_json())


def _json(text: str) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "application/json"}, content=orjson.dumps(orjson.loads(text)))


def _chunks(document_id: UUID, texts: list[str] | tuple[str, ...]) -> Iterator[ChunkRead]:
    start = 0
    for position, text in enumerate(texts):
        # An id of its own that a test can foresee.
        chunk_id = UUID(int=(document_id.int ^ (position + 1)) & (2**128 - 1))
        yield ChunkRead(
            chunk_id=chunk_id,
            position=position,
            text=text,
            heading=None,
            page=1,
            start=start,
            end=start + len(text),
        )
        start += len(text) + 2
