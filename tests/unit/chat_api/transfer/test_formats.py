"""An export as people and spreadsheets read it."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from chat_api.transfer.formats import CSV_COLUMNS, csv_head, csv_rows, defused, markdown_head, markdown_messages

ROW: dict[str, Any] = {
    "seq": 1,
    "created_at": "2026-01-31T09:30:00.000000Z",
    "role": "user",
    "author": "rosa",
    "status": "complete",
    "content": "Hello",
    "provider": None,
    "model": None,
    "prompt_tokens": None,
    "completion_tokens": None,
    "total_tokens": None,
    "cost": None,
    "latency_ms": None,
    "tools_used": [],
    "attachments": [],
    "citations": [],
    "edited_at": None,
}


def read(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\u00a0=1", "＝1", '=HYPERLINK("http://x","y")'],
)
def test_no_cell_begins_a_formula(cell: str) -> None:
    assert defused(cell) == f"'{cell}"
    for column in ("content", "author", "model"):
        [row] = read(csv_rows([{**ROW, column: cell}]))
        assert row[CSV_COLUMNS.index(column)] == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "Hello", "1-1", "a=b", "'", " ", '"quoted", with commas', "two\nlines", "ü 😀"])
def test_any_other_cell_comes_back_as_it_is(cell: str) -> None:
    [row] = read(csv_rows([{**ROW, "content": cell}]))
    assert row[CSV_COLUMNS.index("content")] == cell


def test_names_of_tools_and_files_are_defused_too() -> None:
    [row] = read(csv_rows([{**ROW, "tools_used": ["=a", "b"], "attachments": [{"name": "@x"}]}]))
    assert row[CSV_COLUMNS.index("tools_used")] == "'=a, b"
    assert row[CSV_COLUMNS.index("attachments")] == "'@x"


def test_a_small_cost_has_no_exponent() -> None:
    [row] = read(csv_rows([{**ROW, "cost": 1e-7, "total_tokens": 3}]))
    assert row[CSV_COLUMNS.index("cost")] == "0.0000001"
    assert row[CSV_COLUMNS.index("total_tokens")] == "3"


def test_the_head_names_the_columns() -> None:
    assert read(csv_head()) == [list(CSV_COLUMNS)]


def test_markdown_has_a_heading_for_each_message() -> None:
    reply = {
        **ROW,
        "role": "assistant",
        "author": None,
        "status": "failed",
        "content": "At *seven*.",
        "edited_at": "2026-01-31T09:31:00.000000Z",
        "attachments": [{"name": "map\nof it.png", "content_type": "image/png"}],
        "citations": [{"index": 1, "document_name": "tides.pdf", "page": 3}],
    }
    text = (markdown_head("Two\nlines", ROW["created_at"]) + markdown_messages([ROW, reply])).decode()

    assert text.startswith("# Two lines\n\nBegun 2026-01-31 09:30 UTC.\n")
    assert "\n## rosa, 2026-01-31 09:30 UTC\n\nHello\n" in text
    assert "\n## assistant, 2026-01-31 09:30 UTC (failed, edited)\n\nAt *seven*.\n" in text
    assert "- map of it.png (image/png)\n" in text
    assert "- [1] tides.pdf, page 3\n" in text


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        ("```python\nprint(1)", "\n```"),
        ("~~~~\n```\ncode\n~~~", "\n~~~~"),
        ("```\nclosed\n````", ""),
        ("```\none\n```\n  ```\ntwo", "\n```"),
        ("```inline``` code", ""),
        ("    ```\nindented", ""),
    ],
)
def test_a_block_of_code_that_is_left_open_ends_with_its_message(content: str, ending: str) -> None:
    [text] = [markdown_messages([{**ROW, "content": content}]).decode()]
    assert text.endswith(f" UTC\n\n{content}{ending}\n")
