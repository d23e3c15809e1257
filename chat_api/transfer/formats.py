"""The formats of an export, and its texts for people and spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, assert_never

FORMAT = "colloquy.session"
VERSION = 1


class ExportFormat(StrEnum):
    """JSON has everything and can be imported again; the others are for reading."""

    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"

    @property
    def media_type(self) -> str:
        match self:
            case ExportFormat.JSON:
                return "application/json"
            case ExportFormat.MARKDOWN:
                return "text/markdown"
            case ExportFormat.CSV:
                return "text/csv"
            case _:
                assert_never(self)

    @property
    def suffix(self) -> str:
        match self:
            case ExportFormat.JSON:
                return "json"
            case ExportFormat.MARKDOWN:
                return "md"
            case ExportFormat.CSV:
                return "csv"
            case _:
                assert_never(self)


CSV_COLUMNS = (
    "seq",
    "created_at",
    "role",
    "author",
    "status",
    "content",
    "provider",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost",
    "latency_ms",
    "tools_used",
    "attachments",
    "edited_at",
)
_FORMULA_SIGNS = frozenset("=+-@\t\r\n＝＋－＠")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$", re.MULTILINE)


def csv_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Messages as lines of RFC 4180, in UTF-8."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    for row in rows:
        writer.writerow([_cell(row, column) for column in CSV_COLUMNS])
    return text.getvalue().encode()


def csv_head() -> bytes:
    return (",".join(f'"{column}"' for column in CSV_COLUMNS) + "\r\n").encode()


def _cell(row: Mapping[str, Any], column: str) -> str:
    match column:
        case "tools_used":
            value = ", ".join(row["tools_used"])
        case "attachments":
            value = ", ".join(attachment["name"] for attachment in row["attachments"])
        case "cost" if row["cost"] is not None:
            value = f"{row['cost']:.9f}".rstrip("0").rstrip(".")
        case _:
            value = "" if row[column] is None else str(row[column])
    return defused(value)


def defused(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe goes before a sign that begins one.

    White space before the sign does not help: some programs trim it. As OWASP recommends against CSV injection.
    """
    start = cell.lstrip(" \u00a0")
    return f"'{cell}" if start and start[0] in _FORMULA_SIGNS else cell


def markdown_head(title: str, created_at: str) -> bytes:
    return f"# {_one_line(title)}\n\nBegun {_minute(created_at)}.\n".encode()


def markdown_messages(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Messages with a heading each. What they say is Markdown already, and stays as it is but for an open end."""
    return "".join(_markdown(row) for row in rows).encode()


def _markdown(row: Mapping[str, Any]) -> str:
    who = row["author"] or row["role"]
    notes = [] if row["status"] == "complete" else [row["status"].replace("_", " ")]
    if row["edited_at"] is not None:
        notes.append("edited")
    remark = f" ({', '.join(notes)})" if notes else ""
    parts = [f"\n## {_one_line(who)}, {_minute(row['created_at'])}{remark}\n", f"{_fenced(row['content'])}\n"]
    files = [f"- {_one_line(file['name'])} ({file['content_type']})" for file in row["attachments"]]
    if files:
        parts.append("Attached:\n\n" + "\n".join(files) + "\n")
    sources = [_source(citation) for citation in row["citations"]]
    if sources:
        parts.append("Sources:\n\n" + "\n".join(sources) + "\n")
    return "\n".join(parts)


def _fenced(content: str) -> str:
    """What is said, and the end of a block of code that it leaves open: else all that follows would be in it."""
    fence = ""
    for found in _FENCE.finditer(content):
        signs, rest = found.groups()
        if not fence:
            fence = "" if signs[0] == "`" and "`" in rest else signs
        elif signs.startswith(fence) and not rest.strip():
            fence = ""
    return f"{content}\n{fence}" if fence else content


def _source(citation: Mapping[str, Any]) -> str:
    page = "" if citation.get("page") is None else f", page {citation['page']}"
    return f"- [{citation.get('index')}] {_one_line(str(citation.get('document_name', '')))}{page}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _minute(moment: str) -> str:
    """`2026-01-31T09:30:00.000000Z` as people write it."""
    return f"{moment[:10]} {moment[11:16]} UTC"
