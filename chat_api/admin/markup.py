"""The library's templates, made to run under a policy that refuses what a page did not name itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import CodeType

from jinja2 import BaseLoader, ChoiceLoader, Environment, FileSystemLoader, PackageLoader, PrefixLoader
from jinja2.bccache import Bucket, BytecodeCache

_OPENING = re.compile(r"<(script|style)(?=[\s>])")
_HERE = Path(__file__).parent
TEMPLATES = _HERE / "templates"
STATIC = _HERE / "static"


class NonceLoader(PackageLoader):
    """The library's templates with a nonce on every script and style of theirs: they know no such policy."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool] | None]:
        source, filename, is_current = super().get_source(environment, template)
        return _OPENING.sub(r'<\1 nonce="{{ csp_nonce() }}"', source), filename or template, is_current


def loaders() -> list[BaseLoader]:
    """Ours, which extend the library's by `@library/…`, then the library's."""
    library = NonceLoader("starlette_admin", "templates")
    return [ChoiceLoader([FileSystemLoader(TEMPLATES), library, PrefixLoader({"@library": library})])]


class CompiledTemplates(BytecodeCache):
    """In memory: all applications of one process compile a template once, which takes longer than showing a page."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._codes[bucket.key, bucket.checksum] = bucket.code


COMPILED = CompiledTemplates()
