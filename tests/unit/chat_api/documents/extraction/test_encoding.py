"""Bytes of any origin become text that can be stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_api.documents.extraction.encoding import clean, decode

GERMAN = "Größe und Maß für die Straße. Überall schöne Häuser."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "utf-8"),
        (GERMAN, "utf-8-sig"),
        (GERMAN, "utf-16"),
        (GERMAN, "utf-32"),
        (GERMAN, "cp1252"),
        ("Привет, как дела? Это простой текст на русском языке.", "cp1251"),
        ("これは日本語のテキストです。文字コードを調べます。", "shift_jis"),
    ],
)
def test_common_encodings_are_recognised(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_one_spoilt_byte_does_not_make_utf_8_another_encoding() -> None:
    assert decode(GERMAN.encode() + b" \xff.") == GERMAN + " \ufffd."


def test_a_declared_encoding_counts_where_utf_8_does_not_fit() -> None:
    assert decode("Łódź".encode("iso8859-2"), "ISO-8859-2") == "Łódź"
    assert decode("Łódź".encode(), "ISO-8859-2") == "Łódź"


@pytest.mark.parametrize("declared", ["base64", "no-such", "utf-8", "zlib", "\x00"])
def test_a_wrong_declaration_breaks_nothing(declared: str) -> None:
    assert decode("Größe".encode("cp1252"), declared)


def test_what_cannot_be_stored_is_replaced() -> None:
    assert clean("a\x00b\ud800c\x07d") == "a\ufffdb\ufffdc d"
    assert clean("\ud83d\ude00") == "😀"


def test_lines_and_blanks_are_made_plain() -> None:
    assert clean("a \t\r\nb\rc\u2028d\n\n\n\n\ne\u00a0f\u00adg\ufeff") == "a\nb\nc\nd\n\ne fg"


@given(st.text(st.characters(codec=None), max_size=200))
def test_cleaned_text_is_clean(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert "\x00" not in cleaned
    assert "\n\n\n" not in cleaned
    assert clean(cleaned) == cleaned


@given(st.binary(max_size=200))
def test_any_bytes_become_text(data: bytes) -> None:
    clean(decode(data)).encode()
