"""Statements ask nothing of PostgreSQL that only version 18 has: 17 is enough in production."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
ONLY_18 = re.compile(r"(?<![.\w])(?:uuidv7|uuidv4|array_sort|array_reverse|casefold|crc32c?)\(")


def test_no_statement_needs_postgresql_18() -> None:
    files = [path for folder in ("chat_api", "agent_service", "migrations") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 300
    needing = {
        f"{path.relative_to(ROOT)}: {found[0]}" for path in files for found in ONLY_18.finditer(path.read_text("utf-8"))
    }
    assert not needing
