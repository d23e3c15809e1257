"""A process without an administrator does not carry the admin pages."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys
import chat_api.main

def loaded():
    return [name for name in sys.modules if name.partition(".")[0] in ("starlette_admin", "jinja2", "itsdangerous")]

assert not loaded(), loaded()
import chat_api.admin.site
assert loaded()
"""


def test_the_library_is_not_imported_before_somebody_asks_for_a_page() -> None:
    ended = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr
