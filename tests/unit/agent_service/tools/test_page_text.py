from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.tools.page_text import decoded

TEXT = "Größe, čeština, «рус»"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_reads_what_the_header_or_the_mark_says(encoding: str) -> None:
    label = encoding.removesuffix("-sig")
    assert decoded(TEXT.encode(encoding), f'text/plain; charset="{label}"') == TEXT


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("ж".encode("koi8-r"), "text/plain;charset=KOI8-R", "ж"),
        ("日本".encode("shift_jis"), "text/html; charset=Shift_JIS", "日本"),
        ("中文".encode("gbk"), "text/html; charset=gb2312", "中文"),
        ("한국".encode("euc-kr"), "text/html; charset=euc-kr", "한국"),
        (b"\x93quoted\x94 \x80", "text/plain; charset=latin1", "“quoted” €"),
        (b"\x93quoted\x94", "text/plain; charset=us-ascii", "“quoted”"),
        ("é".encode(), "text/plain; charset=utf-7", "é"),
        ("é".encode(), "text/plain; charset=rot13", "é"),
        ("é".encode(), "text/plain; charset=zip", "é"),
        ("é".encode(), "text/plain; charset=punycode", "é"),
        ("é".encode(), "text/plain; charset=../../x", "é"),
        (b"<meta charset=utf-16><p>a", "text/html", "<meta charset=utf-16><p>a"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">\xe6', "text/html", None),
        ("valid é, then cut ".encode() + b"\xc3", "text/plain", "valid é, then cut \ufffd"),
        (b"", "text/plain", ""),
    ],
)
def test_reads_the_encodings_of_the_web(body: bytes, content_type: str, text: str | None) -> None:
    result = decoded(body, content_type)
    assert result == text if text is not None else (result or "").endswith("ж")


def test_what_holds_nul_is_no_text() -> None:
    assert decoded(b"GIF89a\x00\x01", "text/plain") is None


@given(st.binary(max_size=200), st.sampled_from(["text/plain", "text/html; charset=utf-16", "text/x; charset=big5"]))
def test_never_fails(body: bytes, content_type: str) -> None:
    decoded(body, content_type)
