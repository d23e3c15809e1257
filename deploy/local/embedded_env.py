"""`<data folder>/embedded.env`: how other shells find what `colloquy up` started."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.local.credentials import Credentials
from deploy.local.files import write_secret
from shared.settings import EMBEDDED_ENV

_HEADER = "# Written by `colloquy up` at each start; changes are lost. The settings read it before .env.\n"


def write_embedded_env(data_dir: Path, credentials: Credentials, addresses: Mapping[str, str]) -> None:
    """Keys always; `addresses` (variable → URL) only of servers that run, so that none here is stale."""
    variables = {
        "COLLOQUY_SECRET_KEY": credentials.secret_key,
        "COLLOQUY_SERVICE_KEY": credentials.service_key,
        **addresses,
    }
    lines = [f"{name}={value}\n" for name, value in variables.items()]
    write_secret(data_dir / EMBEDDED_ENV, _HEADER + "".join(lines))
