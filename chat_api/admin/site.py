"""The admin pages put together: the library's application behind our shield."""

from __future__ import annotations

import hashlib
import hmac
import logging
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp
from starlette_admin import BaseAdmin
from starlette_admin.auth import AdminUser, AuthProvider
from starlette_admin.exceptions import LoginFailed
from starlette_admin.helpers import index_url, safe_redirect_url

from chat_api.admin.accounts import AccountDesk
from chat_api.admin.conversations import ConversationDesk
from chat_api.admin.desk import ADMIN, Admin, Desk, admin_of
from chat_api.admin.door import PREFIX
from chat_api.admin.markup import COMPILED, STATIC, TEMPLATES, loaders
from chat_api.admin.message_walk import MessageWalk
from chat_api.admin.repository import AUDIT, BOTS, DOCUMENTS, TOOLS
from chat_api.admin.shield import ACTIONS, COOKIE, Shield, cookie_of, nonce_var
from chat_api.admin.sign_in import MAX_NAME_CHARS, AdminSignIns, cookie_signer
from chat_api.admin.usage_view import UsageView
from chat_api.admin.views_changing import SessionView, UserView
from chat_api.admin.views_records import AuditView, BotView, DocumentView, MessageView, ToolView
from chat_api.analytics.repository import AnalyticsRepository
from chat_api.analytics.service import AnalyticsService
from chat_api.auth.errors import TooManySignIns
from chat_api.auth.request_limits import RequestLimits
from chat_api.config import ApiSettings
from shared.security import KeyRing
from shared.settings import Environment

_NAME = "admin"
_PURPOSE = b"colloquy: tokens of the admin pages"
_UNUSED_ROUTES = frozenset({"create", "edit", "import", "inline-edit", "inline-edit-row", "relation-lookup", "file"})
"""Of the library's: what these pages do not do has no address."""


class SignInPages(AuthProvider):
    """The library's sign-in form over our sign-ins. The shield has looked at the cookie before."""

    def __init__(self, sign_ins: AdminSignIns, limits: RequestLimits, *, is_secure: bool) -> None:
        super().__init__()
        self._sign_ins = sign_ins
        self._limits = limits
        self._is_secure = is_secure

    async def authenticate(self, request: Request) -> AdminUser | None:
        admin: Admin | None = request.scope.get(ADMIN)
        return None if admin is None else AdminUser(username=admin.username)

    async def login(self, username: str, password: str, remember_me: bool, request: Request) -> Response:
        name = username.strip()[:MAX_NAME_CHARS]
        try:
            await self._limits.admit_sign_in(request, name)
        except TooManySignIns as problem:
            wait = {"Retry-After": str(problem.retry_after)}
            return PlainTextResponse(problem.detail, problem.status, headers=wait)
        cookie = await self._sign_ins.sign_in(name, password)
        if cookie is None:
            raise LoginFailed("The name or the password is wrong, or this is no administrator's account.")
        home = index_url(request)
        wanted = safe_redirect_url(request.query_params.get("next") or home, request, home)
        if urlsplit(wanted).path.startswith(ACTIONS):
            wanted = home  # a button was pressed when the sign-in had ended; it has no page
        answer = RedirectResponse(wanted, status_code=303)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=int(self._sign_ins.lifetime.total_seconds()),
            path=PREFIX,
            httponly=True,
            secure=self._is_secure,
            samesite="strict",
        )
        return answer

    async def logout(self, request: Request) -> Response:
        cookie = cookie_of(request.headers)
        if cookie is not None:
            await self._sign_ins.sign_out(admin_of(request), cookie)
        answer = RedirectResponse(request.url_for(f"{_NAME}:login"), status_code=303)
        answer.delete_cookie(COOKIE, path=PREFIX)
        return answer


def _form_keys(secret_keys: KeyRing) -> list[str]:
    """For the tokens of forms, derived from each key; the current one last, as itsdangerous wants the newest."""
    derived = [hmac.new(key.encode(), _PURPOSE, hashlib.sha256).hexdigest() for key in secret_keys]
    return derived[::-1]


def build_site(state: State) -> ASGIApp:
    """From what the application keeps for its whole life."""
    settings: ApiSettings = state.settings
    # Its lines name who signs in and what is searched for; ours say what happened without.
    logging.getLogger("starlette_admin").setLevel(logging.CRITICAL)
    desk = Desk(state.database, state.clock)
    is_secure = settings.environment not in (Environment.DEVELOPMENT, Environment.TEST)
    lifetime = timedelta(hours=settings.admin_session_hours)
    limits: RequestLimits = state.request_limits
    sign_ins = AdminSignIns(desk, state.passwords, cookie_signer(settings.secret_keys, lifetime, state.clock))
    accounts = AccountDesk(desk, settings, state.plans, on_closed=state.authenticator.closed.add)
    admin = BaseAdmin(
        title="Colloquy",
        base_url=PREFIX,
        route_name=_NAME,
        templates_dir=str(TEMPLATES),
        additional_loaders=loaders(),
        static_dir=str(STATIC),
        index_view=UsageView(desk, AnalyticsService(AnalyticsRepository(state.database), state.clock)),
        auth_provider=SignInPages(sign_ins, limits, is_secure=is_secure),
        secret_key=_form_keys(settings.secret_keys),  # type: ignore[arg-type]  # it goes to itsdangerous, which takes lists
        timezone_config=None,
    )
    admin.templates.env.globals["csp_nonce"] = nonce_var.get
    admin.templates.env.bytecode_cache = COMPILED
    admin.templates.env.auto_reload = False  # it asks the file system about each template of each page
    for view in (
        SessionView(desk, ConversationDesk(desk, state.database, state.hints)),
        MessageView(desk, MessageWalk(), []),
        ToolView(desk, TOOLS, list(TOOLS.sorts)),
        UserView(desk, accounts),
        BotView(desk, BOTS, list(BOTS.sorts)),
        DocumentView(desk, DOCUMENTS, list(DOCUMENTS.sorts)),
        AuditView(desk, AUDIT, list(AUDIT.sorts)),
    ):
        admin.add_view(view)
    admin.routes[:] = [route for route in admin.routes if route.name not in _UNUSED_ROUTES]
    outer = Starlette()
    admin.mount_to(outer)
    admin.app.state.plans = accounts.plans
    return Shield(outer, sign_ins, is_secure=is_secure)
