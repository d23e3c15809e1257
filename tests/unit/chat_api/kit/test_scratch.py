"""No file stays behind, not even that of a process that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from chat_api.kit.scratch import remove_abandoned, scratch_folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def names(folder: Path) -> set[str]:
    return {found.name for found in folder.iterdir()}


async def test_a_folder_is_gone_with_what_is_in_it(temporary: Path) -> None:
    async def fail_in_it() -> None:
        async with scratch_folder() as folder:
            (folder / "file").write_bytes(b"bytes")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_in_it()

    assert names(temporary) == set()


def test_folders_of_the_dead_are_removed_and_those_of_the_living_are_not(temporary: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for owner in (str(dead.pid), str(os.getpid()), "somebody", "9" * 30):
        (temporary / f"colloquy-files-{owner}-abc").mkdir()
    (temporary / f"another-{dead.pid}-abc").mkdir()

    assert remove_abandoned() == 1

    left = names(temporary)
    assert f"colloquy-files-{dead.pid}-abc" not in left
    assert len(left) == 4
