"""Any split of the bytes gives the same events."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.adapters.event_splitter import EventSplitter, EventTooLarge


def split(chunks: list[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events + splitter.finish()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: one\n\n", [b"one"]),
        (b"data: one\n\ndata: two\n\n", [b"one", b"two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", [b"one", b"two"]),
        (b"data: one\r\rdata: two\r\r", [b"one", b"two"]),
        (b"data:one\n\n", [b"one"]),
        (b": comment\n\ndata: one\n\n", [b"one"]),
        (b"event: x\nid: 3\nretry: 5\ndata: one\n\n", [b"one"]),
        (b"data: one\ndata: two\n\n", [b"one\ntwo"]),
        (b"data: one", [b"one"]),
        (b"data: one\n", [b"one"]),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_reads_the_forms_that_servers_write(stream: bytes, events: list[bytes]) -> None:
    assert split([stream]) == events


line = st.sampled_from(
    [b"data: {}", b"data: [DONE]", b"data:x", b": note", b"event: e", b"", b"", b"data: \xc3\xa9", b"dat", b"data"]
)
end = st.sampled_from([b"\n", b"\r\n", b"\r"])
streams = st.lists(st.tuples(line, end), max_size=12).map(lambda parts: b"".join(a + b for a, b in parts))


@given(streams, st.lists(st.integers(0, 150), max_size=10))
def test_the_cuts_make_no_difference(stream: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[start:stop] for start, stop in itertools.pairwise(bounds)]
    assert split(chunks) == split([stream])
    assert split([bytes([byte]) for byte in stream]) == split([stream])


@pytest.mark.parametrize("line_end", [b"", b"\n"])
def test_an_event_without_an_end_is_refused(line_end: bytes) -> None:
    splitter = EventSplitter(max_event_bytes=100)
    chunk = (b"data: 12345" + line_end) * 100
    with pytest.raises(EventTooLarge):
        splitter.feed(chunk)
