"""Bars where nobody watches: one line, and no control characters in a log."""

from __future__ import annotations

import io

import pytest

from chat_api.cli.progress import Unit, progress


@pytest.mark.parametrize(
    ("unit", "total", "shown"),
    [(Unit.ITEMS, 4, "3/4"), (Unit.SHARE, 4, "75 %"), (Unit.BYTES, 4, "3/4 bytes"), (Unit.BYTES, None, "3/? bytes")],
)
def test_a_log_gets_one_line(unit: Unit, total: int | None, shown: str) -> None:
    file = io.StringIO()
    with progress("files of [bold]", total, unit=unit, file=file) as bar:
        bar.update(1)
        bar.update(2)
    lines = file.getvalue().strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("files of [bold] ")
    assert shown in lines[0]
    assert "\x1b" not in lines[0]


def test_a_total_may_become_known_later() -> None:
    file = io.StringIO()
    with progress("passages", None, file=file) as bar:
        bar.set_total(10)
        bar.update(10)
    assert "10/10" in file.getvalue()


def test_what_goes_wrong_inside_goes_on() -> None:
    with pytest.raises(ValueError, match="inside"), progress("work", 1, file=io.StringIO()):
        raise ValueError("inside")
