"""Servers of a test's own, which it may stop, kill and bend."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that the user PostgreSQL runs as under root can enter; pytest's `tmp_path` is closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="colloquy-deploy-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def modules_data_dir() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder
