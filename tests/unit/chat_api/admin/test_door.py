"""A process without an administrator does not carry the admin pages."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

_SCRIPT = """
import sys
import chat_api.main

sys.exit(" ".join(name for name in sys.argv[1:] if name in sys.modules))
"""
_OF_THE_PAGES = ("starlette_admin", "jinja2", "itsdangerous", "chat_api.admin.site", "chat_api.admin.views")


def test_the_library_is_not_imported_before_somebody_asks_for_a_page() -> None:
    assert all(importlib.util.find_spec(name) for name in _OF_THE_PAGES)
    asked = [sys.executable, "-c", _SCRIPT, *_OF_THE_PAGES]

    ended = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)

    assert ended.stderr.strip() == ""
