"""What makes a lock file unfit to commit."""

from __future__ import annotations

from typing import Any

import pytest
from packaging.requirements import Requirement

from deploy.locks import faults, main, pins, required

HASH = "--hash=sha256:" + "0" * 64
GOOD = f"click==8.2.0 \\\n    {HASH}\nuvloop==0.21.0 ; sys_platform != 'win32' \\\n    {HASH}\n"


def test_a_good_lock_has_no_fault() -> None:
    assert faults(GOOD, [Requirement("click>=8.1"), Requirement("UVLoop>=0.21; sys_platform != 'win32'")]) == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example.org/simple",
        "-i https://packages.example.org/simple",
        "--find-links /opt/wheels",
        "click @ https://packages.example.org/click.whl",
        "click @ file:///tmp/click.whl",
        "    # from https://packages.example.org",
    ],
)
def test_an_address_is_a_fault(line: str) -> None:
    assert faults(f"{GOOD}{line}\n", []) == ["line 5 names an address"]


def test_what_is_missing_or_too_old_is_a_fault() -> None:
    wanted = [Requirement("click>=8.3"), Requirement("redis>=5")]
    assert faults(GOOD, wanted) == ["click is 8.2.0, and pyproject.toml wants >=8.3", "redis is missing"]


def test_every_version_of_a_package_counts() -> None:
    lock = (
        f"numpy==2.3 ; python_version < '3.12' \\\n    {HASH}\nnumpy==2.4 ; python_version >= '3.12' \\\n    {HASH}\n"
    )
    assert [str(version) for version in pins(lock)["numpy"]] == ["2.3", "2.4"]
    assert faults(lock, [Requirement("numpy==2.4")]) == ["numpy is 2.3, and pyproject.toml wants ==2.4"]


def test_a_pin_without_a_hash_is_a_fault() -> None:
    assert faults(f"click==8.2.0\n{GOOD}", []) == ["click has no hash"]


def test_groups_include_groups() -> None:
    pyproject: dict[str, Any] = {
        "project": {"dependencies": ["click"]},
        "dependency-groups": {"dev": [{"include-group": "local"}, "pytest"], "local": ["numpy"]},
    }
    assert [requirement.name for requirement in required(pyproject, ["dev"])] == ["click", "numpy", "pytest"]
    assert [requirement.name for requirement in required(pyproject, [])] == ["click"]


def test_the_projects_own_locks_are_fit() -> None:
    assert main() == 0
