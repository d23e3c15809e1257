"""Reads HTTP/1.1 responses with as little work as a load generator can afford."""

from __future__ import annotations


class UnreadableResponse(Exception):
    """The server sent something that this reader does not know."""


class ResponseReader:
    """One response after another on a connection that is kept open. Knows Content-Length and chunked bodies.

    `feed` it what arrives. `body` gives the parts of the body that came with the last `feed`; `complete` says
    whether the response is over, and the next `feed` then begins another.
    """

    def __init__(self) -> None:
        self.complete = True
        self.status = 0
        self.body: list[bytes] = []
        self._head = b""
        self._in_head = True
        self._chunked = False
        self._left = 0
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """Returns `complete`. Raises `UnreadableResponse`."""
        if self.complete:
            self.complete = False
            self._in_head = True
        if self.body:
            self.body = []
        if self._in_head:
            if self._head:
                data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return False
            self._head = b""
            self._read_head(data[:end])
            data = data[end + 4 :]
        if self._chunked:
            self._read_chunks(data)
        else:
            if data:
                self.body.append(data)
                self._left -= len(data)
            if self._left < 0:
                raise UnreadableResponse("more bytes than the response declared")
            self.complete = self._left == 0
        return self.complete

    def _read_head(self, head: bytes) -> None:
        self._in_head = False
        if not head.startswith(b"HTTP/1.1 "):
            raise UnreadableResponse("not an HTTP/1.1 response")
        self.status = int(head[9:12])
        lowered = head.lower()
        self._chunked = b"\r\ntransfer-encoding: chunked" in lowered
        self._rest = b""
        self._left = 0
        if self._chunked or self.status == 204:
            return
        at = lowered.find(b"\r\ncontent-length:")
        if at < 0:
            raise UnreadableResponse("a response without a length")
        end = lowered.find(b"\r\n", at + 2)
        self._left = int(lowered[at + 17 : end if end > 0 else None])

    def _read_chunks(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at = 0
        while True:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                break
            size = int(data[at:line_end].partition(b";")[0], 16)
            start = line_end + 2
            if len(data) < start + size + 2:
                break
            at = start + size + 2
            if size == 0:
                self.complete = True
                break
            self.body.append(data[start : start + size])
        self._rest = data[at:]
        if self.complete and self._rest:
            raise UnreadableResponse("bytes after the end of the response")
