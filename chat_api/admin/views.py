"""What all lists have in common: they are read, page by page, and changed by nothing but their actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette_admin import BaseModelView
from starlette_admin.actions import ActionSelection
from starlette_admin.exceptions import ActionFailed
from starlette_admin.fields import BaseField
from starlette_admin.filters import FilterGroup
from starlette_admin.types import RequestAction, RowActionsDisplayType

from chat_api.admin.desk import Desk
from chat_api.admin.filters import condition_of
from chat_api.admin.listing import Listing, Slice, Wanted

PAGE_SIZE = 25
MOST_SELECTED = 100
"""Things that one action may be asked for at once: what fits on the largest page."""


class ListView(BaseModelView):
    """A list and the pages of its things. A subclass names `fields`, `columns` to filter by, and actions."""

    pk_attr = "id"
    column_visibility = False
    search_highlight = False
    page_size = PAGE_SIZE
    page_size_options = (PAGE_SIZE, 50, MOST_SELECTED)
    exporters = ()
    importers = ()
    row_actions: Sequence[str] | None = ("view",)
    actions: Sequence[str] | None = ()
    row_actions_display_type = RowActionsDisplayType.ICON_LIST
    search_hint: ClassVar[str] = "Search"
    columns: ClassVar[Mapping[str, Any]] = {}
    default_sort: ClassVar[str] = "created_at"
    heading_field: ClassVar[str] = "id"

    def __init__(self, desk: Desk, listing: Listing, sortable: Sequence[str]) -> None:
        self._desk = desk
        self._listing = listing
        self.sortable_fields = list(sortable)
        self.searchable_fields = list(self.columns)
        self.fields_default_sort = [(self.default_sort, True)]
        super().__init__()
        self._fields_by_name: dict[str, BaseField] = {field.name: field for field in self.fields}

    def heading(self, shown: Mapping[str, Any]) -> str:
        """Of the page of one thing."""
        return str(shown.get(self.heading_field) or shown["id"])

    async def find_all(
        self,
        request: Request,
        skip: int = 0,
        limit: int = PAGE_SIZE,
        q: str | None = None,
        sorts: Sequence[tuple[str, str]] | None = None,
        filters: FilterGroup | None = None,
    ) -> Sequence[Any]:
        """One page. The library counts pages; these are told apart by `cursor`, so `skip` is not looked at."""
        name, direction = (sorts or [(self.default_sort, "desc")])[0]
        wanted = Wanted(
            text=(q or "").strip() or None,
            condition=condition_of(filters or FilterGroup(), self._fields_by_name, dict(self.columns)),
            told=request.query_params.get("filter", ""),
            sort=name,
            descending=direction == "desc",
            cursor=request.query_params.get("cursor"),
            limit=max(1, min(limit, MOST_SELECTED)),
        )
        async with self._desk.unit() as db:
            page = await self._listing.page(db, wanted)
        request.state.slice = page
        return page.rows

    async def count(self, request: Request, q: str | None = None, filters: FilterGroup | None = None) -> int:
        """Of the page that was read: nothing counts a million rows."""
        page: Slice | None = getattr(request.state, "slice", None)
        return 0 if page is None else len(page.rows)

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        found = await self.find_by_pks(request, [pk])
        return found[0] if found else None

    async def find_by_pks(self, request: Request, pks: list[Any]) -> Sequence[Any]:
        if len(pks) > MOST_SELECTED:
            raise HTTPException(400, f"At most {MOST_SELECTED} at once.")
        async with self._desk.unit() as db:
            return await self._listing.find(db, [str(key) for key in pks])

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        raise HTTPException(405)

    async def edit(self, request: Request, pk: Any, data: dict[str, Any]) -> Any:
        raise HTTPException(405)

    async def delete(self, request: Request, pks: list[Any]) -> int | None:
        raise HTTPException(405)

    def can_create(self, request: Request) -> bool:
        return False

    def can_edit(self, request: Request) -> bool:
        return False

    def can_delete(self, request: Request) -> bool:
        return False

    def can_import(self, request: Request) -> bool:
        return False

    def can_export(self, request: Request) -> bool:
        return False

    async def handle_row_action(self, request: Request, pk: Any, name: str) -> Response | None:
        if name == "view":
            raise ActionFailed("This is a link.")  # the library would run it as an action
        return await super().handle_row_action(request, pk, name)

    def is_detail(self, request: Request) -> bool:
        return bool(request.state.action == RequestAction.DETAIL)


async def selected(selection: ActionSelection) -> list[str]:
    """The keys of what was ticked. Raises `ActionFailed` for too many, and for all that a filter finds."""
    if selection.is_select_all:
        raise ActionFailed("Tick the rows that are meant.")
    keys = await selection.pks()
    if len(keys) > MOST_SELECTED:
        raise ActionFailed(f"At most {MOST_SELECTED} at once.")
    return [str(key) for key in keys]


def words(kind: type[Any]) -> list[tuple[str, str]]:
    """The members of a finite set, as a filter offers them."""
    return [(str(member), str(member).replace("_", " ")) for member in kind]
