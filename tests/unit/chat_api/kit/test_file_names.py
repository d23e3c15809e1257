"""Names of documents: shown to people, never paths."""

from __future__ import annotations

import pytest

from chat_api.kit.file_names import LONGEST_NAME, clean_name


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("harbour.pdf", "harbour.pdf"),
        ("../../etc/passwd", "passwd"),
        ("/etc/shadow", "shadow"),
        ("C:\\Users\\ann\\notes.txt", "notes.txt"),
        ("a\\..\\b.md", "b.md"),
        ("a\x00b\x07c.txt", "abc.txt"),
        ("line\nbreak\ttab.txt", "line break tab.txt"),
        ("line\u2028separator.txt", "line separator.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("invoice\u061c.pdf", "invoice.pdf"),
        ("  spaced   out .txt ", "spaced out .txt"),
        ("Bericht Übersicht.docx", "Bericht Übersicht.docx"),
        ("U\u0308bersicht.docx", "Übersicht.docx"),
        ("報告書.pdf", "報告書.pdf"),
        ("👨\u200d👩\u200d👧.md", "👨\u200d👩\u200d👧.md"),
        (".env", ".env"),
        ("", ""),
        (".", ""),
        ("..", ""),
        ("a/", ""),
        ("\x00\x01", ""),
        ("\ud800", ""),
    ],
)
def test_what_is_left_of_a_name(raw: str, clean: str) -> None:
    assert clean_name(raw) == clean


def test_a_long_name_keeps_its_ending() -> None:
    name = clean_name("x" * 400 + ".pdf")

    assert len(name) == LONGEST_NAME
    assert name.endswith("x.pdf")


@pytest.mark.parametrize("raw", ["x" * 400, "x." + "y" * 400, "." + "x" * 400])
def test_a_long_name_without_an_ending_is_cut(raw: str) -> None:
    assert clean_name(raw) == raw[:LONGEST_NAME]
