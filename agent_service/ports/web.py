"""The public web, as far as a tool may read it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from shared.web.addresses import WebAddress


class WebReply(Protocol):
    """An answer whose headers have come."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str | None:
        """The first of that name, in any case."""
        ...

    async def read(self, max_bytes: int) -> tuple[bytes, bool]:
        """The body, unpacked: so many bytes at most, and whether there was more. Raises `ToolFailed`."""
        ...


class WebClient(Protocol):
    def open(self, address: WebAddress) -> AbstractAsyncContextManager[WebReply]:
        """GET it, following nothing. Raises `ToolFailed`: the address is refused, or does not answer."""
        ...
