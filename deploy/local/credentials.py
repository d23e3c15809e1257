"""The passwords and keys of one data folder: made once, kept there, readable by its owner only."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

from deploy.local.errors import CannotStart
from deploy.local.files import write_secret

FILE_NAME = "credentials.json"


def _password() -> str:
    # Letters, digits, - and _ only: safe in addresses, in psql and in valkey.conf without quoting.
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Credentials:
    """`superuser`, `owner`, `api`, `agent` are PostgreSQL's roles; the keys are those of the settings."""

    superuser: str = field(default_factory=_password, repr=False)
    owner: str = field(default_factory=_password, repr=False)
    api: str = field(default_factory=_password, repr=False)
    agent: str = field(default_factory=_password, repr=False)
    valkey: str = field(default_factory=_password, repr=False)
    secret_key: str = field(default_factory=_password, repr=False)
    service_key: str = field(default_factory=_password, repr=False)

    @classmethod
    def load_or_create(cls, data_dir: Path) -> Self:
        """Read them, or make them for a new folder. The caller holds the folder's lock.

        Raises `CannotStart` where the file is spoilt, or is gone while a database made with it is there.
        """
        path = data_dir / FILE_NAME
        try:
            kept = json.loads(path.read_text())
        except FileNotFoundError:
            if (data_dir / "postgres").exists():
                raise CannotStart(
                    f"{path} is gone, and with it the passwords of the database beside it: "
                    f"bring it back, or move {data_dir} away to begin anew"
                ) from None
            made = cls()
            write_secret(path, json.dumps(asdict(made), indent=2) + "\n")
            return made
        except (OSError, ValueError) as error:
            raise CannotStart(f"{path} cannot be read ({type(error).__name__}): bring back a good copy") from None
        known = {item.name for item in fields(cls)}
        if not isinstance(kept, dict) or not known <= kept.keys():
            raise CannotStart(f"{path} is incomplete: bring back a good copy")
        return cls(**{name: str(kept[name]) for name in known})
