"""The lists with actions: sessions and people."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from html import escape
from typing import Any, ClassVar
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette_admin import flash
from starlette_admin.actions import ActionSelection, action, row_action
from starlette_admin.exceptions import ActionFailed

from chat_api.admin.accounts import AccountDesk
from chat_api.admin.conversations import ConversationDesk
from chat_api.admin.desk import Desk, admin_of
from chat_api.admin.fields import (
    CountField,
    JsonField,
    LinkField,
    ListLinkField,
    MomentField,
    TextField,
    WordField,
    YesNoField,
)
from chat_api.admin.filters import Closed, HasId, No, OneOf, Open, Since, Until, Yes
from chat_api.admin.listing import as_id
from chat_api.admin.repository import SESSIONS, USERS
from chat_api.admin.views import ListView, selected, words
from chat_api.sessions.errors import SessionNotFound
from chat_api.sessions.models import Session, SessionStatus
from chat_api.users.models import User, UserType
from shared.problems import Problem


def _ids(keys: Sequence[str]) -> list[UUID]:
    return [found for key in keys if (found := as_id(key)) is not None]


class SessionView(ListView):
    key = "sessions"
    display_name = "Session"
    menu_label = "Sessions"
    icon = "fa fa-comments"
    search_hint = "Title, or an id"
    default_sort = "last_activity_at"
    heading_field = "title"
    columns: ClassVar[Mapping[str, Any]] = {
        "status": Session.status,
        "owner_id": Session.owner_id,
        "created_at": Session.created_at,
        "last_activity_at": Session.last_activity_at,
    }
    actions = ("archive", "unarchive", "download")
    fields = (
        TextField("title"),
        LinkField("owner_id", "Owner", view="users", shown="owner", filters=[HasId]),
        WordField("status", choices=words(SessionStatus), filters=[OneOf]),
        CountField("participant_count", "People"),
        CountField("message_count", "Messages"),
        MomentField("last_activity_at", "Last activity", filters=[Since, Until]),
        MomentField("created_at", "Created", filters=[Since, Until]),
        TextField("id", exclude_from_list=True),
        ListLinkField("its_messages", "History", view="messages", text="Its messages"),
        ListLinkField("its_tools", "Tools", view="tools", text="Its tool calls"),
        JsonField("participants", exclude_from_list=True),
        LinkField("bot_id", "Bot", view="bots", shown="bot", exclude_from_list=True),
        TextField("provider", exclude_from_list=True),
        TextField("model", exclude_from_list=True),
        TextField("system_prompt", exclude_from_list=True),
        LinkField("related_session_id", "Related session", view="sessions", exclude_from_list=True),
        TextField("reply_policy", exclude_from_list=True),
        TextField("approval_mode", exclude_from_list=True),
        JsonField("tags", exclude_from_list=True),
        JsonField("metadata", exclude_from_list=True),
        JsonField("settings", exclude_from_list=True),
        MomentField("updated_at", "Changed", exclude_from_list=True),
    )

    def __init__(self, desk: Desk, conversations: ConversationDesk) -> None:
        super().__init__(desk, SESSIONS, list(SESSIONS.sorts))
        self._conversations = conversations

    @action("archive", "Archive", confirmation="Archive these sessions? Nobody can write in them until they are back.")
    async def archive(self, request: Request, selection: ActionSelection) -> None:
        await self._set_status(request, selection, SessionStatus.ARCHIVED)

    @action("unarchive", "Unarchive", confirmation="Take these sessions out of the archive?")
    async def unarchive(self, request: Request, selection: ActionSelection) -> None:
        await self._set_status(request, selection, SessionStatus.ACTIVE)

    async def _set_status(self, request: Request, selection: ActionSelection, status: SessionStatus) -> None:
        ids = _ids(await selected(selection))
        count = await self._conversations.set_status(admin_of(request), ids, status)
        flash(request, f"{count} of {len(ids)} sessions are now {status}; the others were before.", "success")

    @action(
        "download",
        "Export",
        confirmation="Download these sessions with all their messages? The audit log will say that you did.",
        submit_btn_text="Download",
        custom_response=True,
    )
    async def download(self, request: Request, selection: ActionSelection) -> Response:
        ids = _ids(await selected(selection))
        if not ids:
            raise ActionFailed("None of these is a session.")
        try:
            body = await self._conversations.export(admin_of(request), ids)
        except SessionNotFound as problem:
            raise ActionFailed(problem.detail) from None
        return StreamingResponse(
            body,
            media_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="colloquy-sessions.json"'},
        )


def _plan_form(request: Request, shown: Any) -> str:
    options = "".join(
        f'<option value="{escape(name)}"{" selected" if name == shown.plan else ""}>{escape(name)}</option>'
        for name in request.app.state.plans
    )
    return (
        '<form><label class="form-label" for="plan">Plan</label>'
        f'<select class="form-select" id="plan" name="plan">{options}</select></form>'
    )


class UserView(ListView):
    key = "users"
    display_name = "Person"
    menu_label = "People"
    icon = "fa fa-users"
    search_hint = "Beginning of a name or address, or an id"
    heading_field = "username"
    columns: ClassVar[Mapping[str, Any]] = {
        "user_type": User.user_type,
        "plan": User.plan,
        "is_admin": User.is_admin,
        "account": User.is_active,
        "created_at": User.created_at,
    }
    row_actions = ("view", "plan", "close", "reopen", "promote", "demote")

    def __init__(self, desk: Desk, accounts: AccountDesk) -> None:
        self.fields = [
            TextField("username"),
            TextField("email"),
            WordField("user_type", "Kind", choices=words(UserType), filters=[OneOf]),
            WordField("plan", choices=accounts.plans, filters=[OneOf]),
            YesNoField("is_admin", "Administrator", filters=[Yes, No]),
            WordField("account", choices=["active", "closed"], filters=[Open, Closed]),
            MomentField("created_at", "Registered", filters=[Since, Until]),
            TextField("id", exclude_from_list=True),
            CountField("session_count", "Sessions", exclude_from_list=True),
            ListLinkField("their_sessions", "Conversations", view="sessions", text="Sessions they own"),
            ListLinkField("their_bots", "Assistants", view="bots", text="Bots they own"),
            ListLinkField("their_entries", "Audit", view="audit", text="What they did, and what was done to them"),
            MomentField("updated_at", "Changed", exclude_from_list=True),
        ]
        super().__init__(desk, USERS, list(USERS.sorts))
        self._accounts = accounts

    async def is_row_action_allowed_for_obj(self, request: Request, name: str, obj: Any) -> bool:
        is_other = obj.id != admin_of(request).id
        match name:
            case "plan":
                return bool(obj.is_active)
            case "close":
                return bool(obj.is_active and is_other)
            case "reopen":
                return not obj.is_active
            case "promote":
                return not obj.is_admin
            case "demote":
                return bool(obj.is_admin and is_other)
            case _:
                return True

    @row_action(
        "plan",
        "Change the plan",
        confirmation="Their quotas change at once.",
        icon_class="fa fa-layer-group",
        submit_btn_text="Change",
        exclude_from_list=True,
        form=_plan_form,
    )
    async def plan(self, request: Request, pk: Any) -> None:
        wanted = str((await request.form()).get("plan") or "")
        await self._change(self._accounts.set_plan(admin_of(request), _id(pk), wanted))
        flash(request, f"The plan is now {wanted}.", "success")

    @row_action(
        "close",
        "Close the account",
        confirmation="Its sign-ins and keys end now. What it owns stays, and it can be reopened.",
        icon_class="fa fa-user-slash",
        submit_btn_text="Close",
        submit_btn_class="action.modal_confirm_button_delete",
        exclude_from_list=True,
    )
    async def close(self, request: Request, pk: Any) -> None:
        await self._change(self._accounts.close(admin_of(request), _id(pk)))
        flash(request, "The account is closed.", "success")

    @row_action(
        "reopen",
        "Reopen the account",
        confirmation="Its owner may sign in again.",
        icon_class="fa fa-user-check",
        submit_btn_text="Reopen",
        exclude_from_list=True,
    )
    async def reopen(self, request: Request, pk: Any) -> None:
        await self._change(self._accounts.reopen(admin_of(request), _id(pk)))
        flash(request, "The account is open again.", "success")

    @row_action(
        "promote",
        "Make an administrator",
        confirmation="They see everything that everybody wrote, and may do all that you may.",
        icon_class="fa fa-user-shield",
        submit_btn_text="Make an administrator",
        exclude_from_list=True,
    )
    async def promote(self, request: Request, pk: Any) -> None:
        await self._change(self._accounts.promote(admin_of(request), _id(pk)))
        flash(request, "They are an administrator now.", "success")

    @row_action(
        "demote",
        "Take the right away",
        confirmation="They are no administrator from this moment on.",
        icon_class="fa fa-user-minus",
        submit_btn_text="Take away",
        exclude_from_list=True,
    )
    async def demote(self, request: Request, pk: Any) -> None:
        await self._change(self._accounts.demote(admin_of(request), _id(pk)))
        flash(request, "They are no administrator any more.", "success")

    async def _change(self, change: Awaitable[None]) -> None:
        try:
            await change
        except Problem as problem:
            raise ActionFailed(problem.detail) from None


def _id(key: Any) -> UUID:
    found = as_id(str(key))
    if found is None:
        raise ActionFailed("There is no such account.")
    return found
