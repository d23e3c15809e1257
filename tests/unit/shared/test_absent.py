"""What is hidden is not there, for as long as it is hidden."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from shared.absent import absent


def test_a_hidden_package_is_not_there_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with absent("colorsys"), pytest.raises(ImportError):
        importlib.import_module("colorsys")
    assert importlib.import_module("colorsys").__name__ == "colorsys"


def test_what_is_imported_already_stays() -> None:
    before = sys.modules["sys"]
    with absent("sys"):
        assert importlib.import_module("sys") is before
    assert sys.modules["sys"] is before


def test_services_carry_no_colours_for_terminals() -> None:
    """In a process of its own: here others have imported them."""
    script = (
        "import sys\n"
        "from shared.absent import TERMINAL, absent\n"
        "with absent(*TERMINAL):\n"
        "    import httpx, structlog\n"
        "assert not {'rich', 'pygments', 'attr'} & sys.modules.keys()\n"
        "import rich.progress\n"
        "assert structlog.get_logger() and httpx.Client\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
