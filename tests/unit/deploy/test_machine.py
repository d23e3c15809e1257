"""What the machine has to have, and what is said where it does not."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from deploy.local.binaries import check_cpu, missing_cpu_features
from deploy.local.credentials import Credentials
from deploy.local.embedded_env import write_embedded_env
from deploy.local.errors import CannotStart
from deploy.local.files import FileLock, last_lines, open_log, write_secret
from deploy.local.ports import free_port, is_free
from deploy.local.processes import exit_reason

MODERN = "processor\t: 0\nflags\t\t: fpu sse2 avx2 fma bmi2 f16c\n"
OLD = "processor\t: 0\nflags\t\t: fpu sse2 avx f16c\n"
GRAVITON2 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes\n"


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "missing"),
    [
        (MODERN, "x86_64", ()),
        (OLD, "x86_64", ("avx2", "fma", "bmi2")),
        (GRAVITON2, "aarch64", ("sve",)),
        (GRAVITON2 + " sve", "aarch64", ()),
        (GRAVITON2, "riscv64", ()),
        ("", "x86_64", ()),
    ],
)
def test_missing_cpu_features(cpuinfo: str, machine: str, missing: tuple[str, ...]) -> None:
    assert missing_cpu_features(cpuinfo.replace("aes\n sve", "aes sve\n"), machine) == missing


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc/cpuinfo")
def test_an_old_processor_is_told_what_to_do(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(OLD)
    with pytest.raises(CannotStart) as raised:
        check_cpu(cpuinfo, "x86_64")
    assert str(raised.value) == (
        "this processor lacks AVX2, FMA, BMI2, which pgvector here needs: "
        "set COLLOQUY_DATABASE_URL to a PostgreSQL 17 or newer with pgvector"
    )
    cpuinfo.write_text(MODERN)
    check_cpu(cpuinfo, "x86_64")
    check_cpu(tmp_path / "hidden", "x86_64")


def test_credentials_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    made = Credentials.load_or_create(tmp_path)
    assert Credentials.load_or_create(tmp_path) == made
    assert (tmp_path / "credentials.json").stat().st_mode & 0o777 == 0o600
    secrets = [made.superuser, made.owner, made.api, made.agent, made.valkey, made.secret_key, made.service_key]
    assert len(set(secrets)) == len(secrets)
    assert all(len(secret) >= 32 for secret in secrets)
    assert not any(secret in repr(made) for secret in secrets)


def test_credentials_that_are_gone_or_spoilt_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(CannotStart, match="is gone"):
        Credentials.load_or_create(tmp_path)
    for spoilt in ("{", '{"owner": "x"}', "[]"):
        (tmp_path / "credentials.json").write_text(spoilt)
        with pytest.raises(CannotStart, match="bring back a good copy"):
            Credentials.load_or_create(tmp_path)


def test_embedded_env_holds_keys_and_only_the_addresses_of_this_start(tmp_path: Path) -> None:
    credentials = Credentials()
    write_embedded_env(tmp_path, credentials, {"COLLOQUY_REDIS_URL": "redis://one"})
    write_embedded_env(tmp_path, credentials, {})
    text = (tmp_path / "embedded.env").read_text()
    assert f"COLLOQUY_SECRET_KEY={credentials.secret_key}\n" in text
    assert "redis" not in text
    assert (tmp_path / "embedded.env").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["embedded.env"]


def test_a_lock_is_held_by_one_and_names_it(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire(seconds=0.05)
    assert second.holder() is not None
    first.release()
    assert second.acquire()
    second.release()


def test_a_secret_replaces_the_file_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_secret(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_that_grew_large_is_kept_aside(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "api.log"
    os.close(open_log(log))
    with log.open("wb") as file:
        file.truncate(21 * 1024 * 1024)
    os.close(open_log(log))
    assert log.stat().st_size == 0
    assert (tmp_path / "logs" / "api.log.1").exists()
    log.write_text("one\ntwo\n\nthree\nfour\n")
    assert last_lines(log, 2) == "three / four"
    assert last_lines(tmp_path / "none") == ""


def test_ports() -> None:
    assert is_free("127.0.0.1", free_port())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not is_free("127.0.0.1", listener.getsockname()[1])


def test_exit_reasons() -> None:
    assert [exit_reason(code) for code in (0, 3, -9, -15, -200)] == [
        *("exit code 0", "exit code 3", "SIGKILL", "SIGTERM", "signal 200")
    ]
