"""The lists that are only read: messages, the tool log, bots, documents, the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from chat_api.admin.fields import (
    CountField,
    JsonField,
    LinkField,
    ListLinkField,
    MomentField,
    TextField,
    WordField,
)
from chat_api.admin.filters import Contains, HasId, OneOf, Since, Until
from chat_api.admin.views import ListView, words
from chat_api.audit.models import AuditEntry
from chat_api.bots.models import Bot, Visibility
from chat_api.documents.models import Document, DocumentStatus
from chat_api.messages.models import Message, MessageRole, MessageStatus
from chat_api.tools.models import ToolExecution, ToolStatus
from shared.contracts.tools import ToolRisk


class MessageView(ListView):
    key = "messages"
    display_name = "Message"
    menu_label = "Messages"
    icon = "fa fa-message"
    search_hint = "Text, or a session's id"
    default_sort = "created_at"
    columns: ClassVar[Mapping[str, Any]] = {
        "role": Message.role,
        "status": Message.status,
        "sender_id": Message.sender_id,
        "model": Message.model,
        "created_at": Message.created_at,
    }
    fields = (
        MomentField("created_at", "Written", filters=[Since, Until]),
        LinkField("session_id", "Session", view="sessions", shown="session"),
        WordField("role", choices=words(MessageRole), filters=[OneOf]),
        LinkField("sender_id", "Sender", view="users", shown="sender", filters=[HasId]),
        TextField("content", "Text"),
        WordField("status", choices=words(MessageStatus), filters=[OneOf]),
        TextField("model", filters=[Contains]),
        CountField("total_tokens", "Tokens"),
        TextField("message_id", "Id", exclude_from_list=True),
        CountField("seq", "Number", exclude_from_list=True),
        TextField("run_id", "Run", exclude_from_list=True),
        TextField("provider", exclude_from_list=True),
        CountField("prompt_tokens", exclude_from_list=True),
        CountField("completion_tokens", exclude_from_list=True),
        TextField("cost", exclude_from_list=True),
        CountField("latency_ms", "Latency (ms)", exclude_from_list=True),
        CountField("time_to_first_token_ms", "Time to the first token (ms)", exclude_from_list=True),
        JsonField("tools_used", exclude_from_list=True),
        JsonField("citations", exclude_from_list=True),
        JsonField("attachments", exclude_from_list=True),
        JsonField("reactions", exclude_from_list=True),
        JsonField("error", exclude_from_list=True),
        JsonField("metadata", exclude_from_list=True),
        MomentField("edited_at", "Edited", exclude_from_list=True),
        MomentField("deleted_at", "Deleted", exclude_from_list=True),
    )


class ToolView(ListView):
    key = "tools"
    display_name = "Tool call"
    menu_label = "Tool log"
    icon = "fa fa-wrench"
    search_hint = "Tool, or an id"
    heading_field = "tool_name"
    columns: ClassVar[Mapping[str, Any]] = {
        "tool_name": ToolExecution.tool_name,
        "status": ToolExecution.status,
        "risk": ToolExecution.risk,
        "created_at": ToolExecution.created_at,
    }
    fields = (
        MomentField("created_at", "Called", filters=[Since, Until]),
        TextField("tool_name", "Tool", filters=[Contains]),
        TextField("source"),
        WordField("risk", choices=words(ToolRisk), filters=[OneOf]),
        WordField("status", choices=words(ToolStatus), filters=[OneOf]),
        LinkField("session_id", "Session", view="sessions"),
        CountField("duration_ms", "Took (ms)"),
        CountField("attempts"),
        TextField("id", exclude_from_list=True),
        TextField("run_id", "Run", exclude_from_list=True),
        JsonField("arguments", exclude_from_list=True),
        JsonField("model_arguments", "Arguments of the model", exclude_from_list=True),
        TextField("result", exclude_from_list=True),
        JsonField("error", exclude_from_list=True),
        LinkField("decided_by", view="users", exclude_from_list=True),
        MomentField("decided_at", exclude_from_list=True),
        TextField("reason", exclude_from_list=True),
        MomentField("started_at", exclude_from_list=True),
        MomentField("finished_at", exclude_from_list=True),
    )


class BotView(ListView):
    key = "bots"
    display_name = "Bot"
    menu_label = "Bots"
    icon = "fa fa-robot"
    search_hint = "Name, or an id"
    heading_field = "name"
    columns: ClassVar[Mapping[str, Any]] = {"visibility": Bot.visibility, "created_at": Bot.created_at}
    fields = (
        TextField("name"),
        LinkField("owner_id", "Owner", view="users", shown="owner"),
        WordField("visibility", choices=words(Visibility), filters=[OneOf]),
        TextField("provider"),
        TextField("model"),
        MomentField("created_at", "Created", filters=[Since, Until]),
        TextField("id", exclude_from_list=True),
        TextField("description", exclude_from_list=True),
        TextField("system_prompt", exclude_from_list=True),
        JsonField("configuration", exclude_from_list=True),
        MomentField("updated_at", "Changed", exclude_from_list=True),
        ListLinkField("of_bot", "Documents", view="documents", text="Its documents"),
    )


class DocumentView(ListView):
    key = "documents"
    display_name = "Document"
    menu_label = "Documents"
    icon = "fa fa-file-lines"
    search_hint = "Name, or an id"
    heading_field = "name"
    columns: ClassVar[Mapping[str, Any]] = {"status": Document.status, "created_at": Document.created_at}
    fields = (
        TextField("name"),
        LinkField("bot_id", "Bot", view="bots", shown="bot"),
        LinkField("uploaded_by", "Uploaded by", view="users", shown="uploader"),
        WordField("status", choices=words(DocumentStatus), filters=[OneOf]),
        CountField("size_bytes", "Bytes"),
        CountField("chunk_count", "Passages"),
        MomentField("created_at", "Uploaded", filters=[Since, Until]),
        TextField("id", exclude_from_list=True),
        TextField("content_type", exclude_from_list=True),
        CountField("version", exclude_from_list=True),
        JsonField("error", exclude_from_list=True),
        MomentField("indexed_at", "Indexed", exclude_from_list=True),
    )


class AuditView(ListView):
    key = "audit"
    display_name = "Entry"
    menu_label = "Audit log"
    icon = "fa fa-clipboard-list"
    search_hint = "Action, or an id"
    heading_field = "action"
    columns: ClassVar[Mapping[str, Any]] = {
        "action": AuditEntry.action,
        "subject_type": AuditEntry.subject_type,
        "created_at": AuditEntry.created_at,
    }
    fields = (
        MomentField("created_at", "When", filters=[Since, Until]),
        LinkField("actor_id", "Who", view="users", shown="actor"),
        TextField("action", filters=[Contains]),
        TextField("subject_type", "Of what", filters=[Contains]),
        TextField("subject_id", "Its id"),
        TextField("id", exclude_from_list=True),
        JsonField("details", exclude_from_list=True),
    )
