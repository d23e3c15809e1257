"""Whether the lock files are fit to commit: no address in them, and what pyproject.toml asks for. Needs no network."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
# Which dependency groups each lock holds beside the project's own dependencies.
LOCKS: Mapping[str, Sequence[str]] = {"requirements.lock": (), "requirements-dev.lock": ("dev",)}

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)")
_ADDRESS = re.compile(r"[a-z+]+://|^\s*(-i|--index-url|--extra-index-url|-f|--find-links)\b|\s@\s", re.IGNORECASE)


def required(pyproject: Mapping[str, Any], groups: Sequence[str]) -> Iterator[Requirement]:
    """The project's dependencies and those of `groups`, with the groups that they include."""
    for text in pyproject["project"]["dependencies"]:
        yield Requirement(text)
    for group in groups:
        yield from _group(pyproject["dependency-groups"], group)


def _group(groups: Mapping[str, Sequence[str | Mapping[str, str]]], name: str) -> Iterator[Requirement]:
    for item in groups[name]:
        if isinstance(item, str):
            yield Requirement(item)
        else:
            yield from _group(groups, item["include-group"])


def pins(lock: str) -> dict[str, list[Version]]:
    """Which versions a lock holds of each package: more than one where they differ between platforms."""
    found: dict[str, list[Version]] = {}
    for line in lock.splitlines():
        if match := _PIN.match(line):
            found.setdefault(canonicalize_name(match["name"]), []).append(Version(match["version"]))
    return found


def faults(lock: str, wanted: Sequence[Requirement]) -> list[str]:
    """What is wrong with the text of a lock, one line each."""
    found = [
        f"line {number} names an address" for number, line in enumerate(lock.splitlines(), 1) if _ADDRESS.search(line)
    ]
    held = pins(lock)
    for requirement in wanted:
        versions = held.get(canonicalize_name(requirement.name))
        if versions is None:
            found.append(f"{requirement.name} is missing")
        else:
            found += [
                f"{requirement.name} is {version}, and pyproject.toml wants {requirement.specifier}"
                for version in versions
                if not requirement.specifier.contains(version, prereleases=True)
            ]
    entries = re.split(r"\n(?=\S)", lock)
    found += [
        f"{entry.split('==')[0]} has no hash"
        for entry in entries
        if _PIN.match(entry) and "--hash=sha256:" not in entry
    ]
    return found


def main() -> int:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [
        f"{name}: {fault}"
        for name, groups in LOCKS.items()
        for fault in faults((ROOT / name).read_text(), list(required(pyproject, groups)))
    ]
    lines += [f"bootstrap.lock: {fault}" for fault in faults((ROOT / "deploy" / "bootstrap.lock").read_text(), [])]
    for line in lines:
        print(line)
    if lines:
        print("`make lock` writes the locks anew")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
