"""Documents as parameter types, and the collaborators of their routes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request

from chat_api.auth.dependencies import TheClock
from chat_api.auth.permissions import ChatReader, ChatWriter
from chat_api.clients.collections import Collections
from chat_api.documents.intake import Intake
from chat_api.documents.models import Document
from chat_api.documents.progress import DocumentWatch
from chat_api.documents.search import DocumentPassages
from chat_api.documents.service import DocumentService
from chat_api.kit.dependencies import Db, Statements

DocumentId = Annotated[UUID, Path(description="Id of the document.")]


async def get_collections(request: Request) -> Collections:
    collections: Collections = request.app.state.collections
    return collections


TheCollections = Annotated[Collections, Depends(get_collections)]


async def get_document_service(db: Db, clock: TheClock) -> DocumentService:
    return DocumentService(db, clock)


Documents = Annotated[DocumentService, Depends(get_document_service)]


async def load_visible_document(document_id: DocumentId, actor: ChatReader, documents: Documents) -> Document:
    return await documents.visible(document_id, actor.user_id)


async def load_owned_document(document_id: DocumentId, actor: ChatWriter, documents: Documents) -> Document:
    return await documents.owned(document_id, actor.user_id)


async def get_watch(request: Request) -> DocumentWatch:
    watch: DocumentWatch = request.app.state.document_watch
    return watch


Watch = Annotated[DocumentWatch, Depends(get_watch)]


async def get_intake(request: Request) -> Intake:
    intake: Intake = request.app.state.intake
    return intake


async def get_passages(database: Statements, collections: TheCollections, clock: TheClock) -> DocumentPassages:
    return DocumentPassages(database, collections, clock)


TheIntake = Annotated[Intake, Depends(get_intake)]
Passages = Annotated[DocumentPassages, Depends(get_passages)]

VisibleDocument = Annotated[Document, Depends(load_visible_document)]
"""A document of a bot that the caller may use."""

OwnedDocument = Annotated[Document, Depends(load_owned_document)]
"""A document of a bot that the caller owns, locked, to change."""
