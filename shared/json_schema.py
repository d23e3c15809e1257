"""Checks values against JSON Schemas that others wrote, in bounded time.

A schema may come from a stranger's server, and both services check on their event loop or hold the interpreter's lock
while they do. What takes longer than a value and a schema of their size ever should is given up and lets nothing pass:
references that multiply, or very many alternatives for very many items. What a schema says of patterns is checked by
an engine that never goes back; a pattern that it does not know is left to the tool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from shared.json_patterns import matches
from shared.problems import FieldError

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

    Keyword = Callable[[Any, Any, Any, dict[str, Any]], Iterable[ValidationError] | None]

MAX_ERRORS = 10
MAX_CHECK_SECONDS = 0.25
"""Of one check, as the thread's own time: a busy machine changes nothing in what passes."""

_NO_SCHEMA = FieldError(loc=[], msg="The tool's own schema is not valid", type="schema")
_OTHER_DOCUMENT = FieldError(loc=[], msg="The tool's schema refers to another document", type="schema")
_TOO_SLOW = FieldError(loc=[], msg="It takes too long to check them against the tool's schema", type="schema")
# Rare, and each of them evaluates the schemas beside it again. Left to the tool.
_NOT_CHECKED = frozenset({"unevaluatedItems", "unevaluatedProperties"})

_deadline: ContextVar[float] = ContextVar("deadline")


class _TooSlow(Exception):
    pass


def is_schema(schema: dict[str, Any]) -> bool:
    """Whether values can be checked against it. Takes half a second for 64 KiB the first time."""
    try:
        return _validator(orjson.dumps(schema)) is not None
    except orjson.JSONEncodeError:
        return False


def schema_errors(schema: dict[str, Any], value: object) -> list[FieldError]:
    """What is wrong with the value; empty where it fits. At most `MAX_ERRORS`, each with its place.

    A reference out of the schema is an error, and is never fetched. A schema that is none lets nothing pass.
    """
    # Ten megabytes and a tenth of a second, which a process without tools never pays.
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        validator = _validator(orjson.dumps(schema))
        if validator is None:
            return [_NO_SCHEMA]
        before = _deadline.set(time.thread_time() + MAX_CHECK_SECONDS)
        try:
            return [
                FieldError(loc=list(error.absolute_path), msg=_brief(error.message), type=str(error.validator))
                for _, error in zip(range(MAX_ERRORS), validator.iter_errors(value), strict=False)
            ]
        finally:
            _deadline.reset(before)
    except (RecursionError, orjson.JSONEncodeError):
        return [_NO_SCHEMA]
    except Unresolvable:
        return [_OTHER_DOCUMENT]
    except _TooSlow:
        return [_TOO_SLOW]


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    """A validator of `jsonschema`; None for a schema that is none.

    Kept, because to check a small schema takes a millisecond.
    """
    from jsonschema import FormatChecker  # noqa: PLC0415
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    parsed = orjson.loads(schema)
    kind = _bounded_validator()
    try:
        # Without formats: the one of patterns asks whether they are Python's, and these are another language's.
        kind.check_schema(parsed, format_checker=FormatChecker(formats=()))
    except (SchemaError, RecursionError):
        return None
    # A registry of its own: the default one would fetch whatever a `$ref` names.
    return kind(parsed, registry=Registry())


@lru_cache(maxsize=1)
def _bounded_validator() -> Any:
    """The usual one, whose keywords look at the time and do not run Python's patterns."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.validators import create  # noqa: PLC0415

    usual: dict[str, Any] = dict(Draft202012Validator.VALIDATORS)
    keywords: dict[str, Any] = usual | {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    }
    checked: dict[str, Any] = {name: _timed(keyword) for name, keyword in keywords.items() if name not in _NOT_CHECKED}
    return create(
        meta_schema=Draft202012Validator.META_SCHEMA,
        validators=checked,
        type_checker=Draft202012Validator.TYPE_CHECKER,
    )


def _timed(keyword: Keyword) -> Keyword:
    def check(validator: Any, wanted: Any, instance: Any, schema: dict[str, Any]) -> Iterable[ValidationError] | None:
        # A schema is checked against its own schema by the same keywords, with no deadline.
        if time.thread_time() > _deadline.get(float("inf")):
            raise _TooSlow
        return keyword(validator, wanted, instance, schema)

    return check


def _pattern(validator: Any, pattern: str, instance: Any, schema: dict[str, Any]) -> Iterator[ValidationError]:
    if isinstance(instance, str) and matches(pattern, instance) is False:
        yield _wrong(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], instance: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    for name, value in instance.items() if isinstance(instance, dict) else ():
        for pattern, wanted in patterns.items():
            if matches(pattern, name):
                yield from validator.descend(value, wanted, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, wanted: Any, instance: Any, schema: dict[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    # A name that nobody can say anything of is not held against the caller.
    extra = [
        name for name in instance if name not in known and all(matches(pattern, name) is False for pattern in patterns)
    ]
    if isinstance(wanted, dict):
        for name in extra:
            yield from validator.descend(instance[name], wanted, path=name)
    elif not wanted and extra:
        names = ", ".join(map(repr, extra))
        yield _wrong(
            f"Additional properties are not allowed ({names} {'was' if len(extra) == 1 else 'were'} unexpected)"
        )


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: dict[str, Any]) -> Iterator[ValidationError]:
    # The usual one compares every two objects.
    if wanted and isinstance(instance, list):
        different = {orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in instance}
        if len(different) < len(instance):
            yield _wrong("There are equal items, where each has to be another")


def _wrong(message: str) -> ValidationError:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415

    return ValidationError(message)


def _brief(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:300]}…"
