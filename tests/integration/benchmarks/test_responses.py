"""The load generator's reader of responses, fed in every way a network may cut them."""

from __future__ import annotations

import pytest

from benchmarks.responses import ResponseReader, UnreadableResponse

SIZED = b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nContent-Length: 11\r\nx: y\r\n\r\nhello world"
EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;ext=1\r\n world\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n"
)


def read(reader: ResponseReader, pieces: list[bytes]) -> bytes:
    """Feed the pieces; the response must be complete with the last of them, and not before."""
    body = []
    for index, piece in enumerate(pieces):
        assert reader.feed(piece) is (index == len(pieces) - 1)
        body.extend(reader.body)
    return b"".join(body)


@pytest.mark.parametrize(
    ("response", "status", "body"),
    [
        (SIZED, 201, b"hello world"),
        (EMPTY, 200, b""),
        (NO_CONTENT, 204, b""),
        (CHUNKED, 200, b"hello world" + b"\r\n" * 5),
    ],
)
def test_reads_whole_split_and_one_after_another(response: bytes, status: int, body: bytes) -> None:
    reader = ResponseReader()
    for cut in range(len(response)):
        pieces = [response[:cut], response[cut:]] if cut else [response]
        assert read(reader, pieces) == body
        assert reader.status == status
    assert read(reader, [response[at : at + 1] for at in range(len(response))]) == body


@pytest.mark.parametrize(
    "broken",
    [
        SIZED + b"x",
        CHUNKED + b"HTTP",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nbody",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
    ids=["more than declared", "after the last chunk", "no length", "not HTTP"],
)
def test_refuses_what_it_does_not_know(broken: bytes) -> None:
    with pytest.raises(UnreadableResponse):
        ResponseReader().feed(broken)
