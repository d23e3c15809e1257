"""The public web, as far as a tool may read it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An address taken apart once: whoever checks it and whoever connects read the same parts.

    All parts are ASCII. `host` is lower case, without brackets, without a dot at the end. `target` begins with `/`.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As the `Host` header wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


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
