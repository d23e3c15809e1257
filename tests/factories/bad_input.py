"""What nobody should send: bodies, fields, addresses and headers, made for any operation of a document."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from tests.factories.operations import FORM_BODY, JSON_BODY, JSON_RPC, OPENAI_SHAPED, Operation

T = TypeVar("T")
NUL = "a\x00b"
SURROGATE = "a\ud800b"
MEBIBYTE = 1024 * 1024
MARK = "do-not-echo-this"
"""Stands in what is sent, and must not stand in what is answered."""

OWN_READERS = OPENAI_SHAPED | JSON_RPC
"""Operations that read their bodies with models of their own, so that each is tried with every bad body."""


def in_turn(of: Sequence[T], count: int, place: object) -> list[T]:
    """`count` of them, others at other places, always the same at the same.

    For what one piece of code refuses for all operations: that it is before each of them, any value shows; that it
    knows a value, any operation shows. Everything everywhere would be ten thousand requests.
    """
    start = zlib.crc32(str(place).encode()) % len(of)
    return [of[(start + at) % len(of)] for at in range(min(count, len(of)))]


@dataclass(frozen=True)
class Attempt:
    """A request that must be refused (`refused`), or at least survived with an orderly answer."""

    name: str
    content: bytes = b""
    content_type: str | None = JSON_BODY
    refused: bool = True
    params: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, client: httpx.AsyncClient, operation: Operation, url: str, credential: dict[str, str]) -> Any:
        headers: list[tuple[bytes, bytes]] = [(name.encode(), value.encode()) for name, value in credential.items()]
        headers.extend(self.headers)
        if self.content_type is not None and self.content:
            headers.append((b"Content-Type", self.content_type.encode()))
        address = f"{url}{'&' if '?' in url else '?'}{self.params}" if self.params else url
        return await client.request(operation.method, address, content=self.content, headers=headers)


def check_answer(answer: httpx.Response, attempt: Attempt, operation: Operation) -> None:
    """No 5xx, no echo, and every refusal a complete problem document."""
    where = f"{operation}, {attempt.name}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500, where
    if attempt.refused:
        assert answer.status_code >= 400, where
    if answer.status_code < 400:
        return
    assert len(answer.content) < 20_000, f"{operation}, {attempt.name}: the refusal has {len(answer.content)} bytes"
    assert MARK not in answer.text, where
    if operation.id in OPENAI_SHAPED:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, where
        return
    assert answer.headers["content-type"] == "application/problem+json", where
    document = answer.json()
    assert set(document) - {"errors"} == {"type", "title", "status", "detail", "code", "request_id"}, where
    assert document["status"] == answer.status_code, where
    assert document["request_id"] == answer.headers["x-request-id"], where
    if answer.status_code == 422 and document["code"] == "validation-failed":
        assert document["errors"], where
        assert all(set(error) == {"loc", "msg", "type"} for error in document["errors"]), where


def bad_bodies(operation: Operation) -> Iterator[Attempt]:
    """Bodies that are no object, no JSON, no UTF-8, too large or too deep: some of them, in turn."""
    yield Attempt("body: empty", refused=operation.requires_body)
    good = json.dumps(operation.body_example()).encode()
    yield Attempt("body: cut off", good[:-1])
    every = list(_bad_bodies(operation, good))
    yield from every if operation.id in OWN_READERS else in_turn(every, 8, operation)


def _bad_bodies(operation: Operation, good: bytes) -> Iterator[Attempt]:
    for name, content in {
        "spaces": b"   ",
        "null": b"null",
        "a number": b"1",
        "a string": json.dumps(MARK).encode(),
        "an array": b"[]",
        "the object in an array": b"[" + good + b"]",
        "NaN": b"NaN",
        "infinity": b"-Infinity",
        "invalid UTF-8": b'{"\xff\xfe": "\xc3\x28"}',
        "deep arrays": b"[" * 100_000,
        "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "a huge number": b"9" * 5_000,
        "a byte order mark alone": b"\xef\xbb\xbf",
    }.items():
        yield Attempt(f"body: {name}", content)
    yield Attempt("body: a mebibyte of unknown fields", _many_fields())
    text = {**operation.body_example(), "content": "x" * MEBIBYTE}
    yield Attempt("body: a mebibyte of text", json.dumps(text).encode(), refused=not operation.is_open)
    for kind in ("text/plain", "application/xml", "multipart/form-data; boundary=x", "multipart/form-data", "nonsense"):
        yield Attempt(f"body: sent as {kind}", good, kind)
    yield Attempt("body: sent without a type", good, None)
    yield Attempt("body: UTF-16", good.decode().encode("utf-16"), refused=False)
    doubled = b"{" + good[1:-1] + b"," + good[1:-1] + b"}"
    yield Attempt("body: every field twice", doubled, refused=False)


@functools.cache
def _many_fields() -> bytes:
    large = dict.fromkeys((f"field{number}" for number in range(20_000)), MARK * 3)
    return json.dumps(large).encode()[:-1].ljust(MEBIBYTE) + b"}"


_UNKNOWN = ("is_admin", "id", "owner_id", "created_at", "__proto__", "x" * 100_000, "", NUL, SURROGATE)
_NO_NUMBERS = {"infinity": b"Infinity", "1e999": b"1e999", "many digits": b"9" * 5_000}
"""What is no JSON, or no number that is stored, as it is written."""


def bad_fields(operation: Operation) -> Iterator[Attempt]:
    """The documented example with one thing wrong: what is about the field in each, the rest in turn."""
    example = operation.body_example()
    schema = operation.body_schema
    assert operation.is_open or schema["additionalProperties"] is False, f"{operation} takes what it does not name"
    for name in in_turn([name for name in _UNKNOWN if name not in schema["properties"]], 3, operation):
        ignored = operation.is_open and name not in (NUL, SURROGATE)
        yield _changed(f"unknown field {name[:20]!r}", example, {name: MARK}, refused=not ignored)
    for name in schema.get("required", ()):
        yield Attempt(f"without {name}", json.dumps({key: example[key] for key in example if key != name}).encode())
    for name, declared in schema["properties"].items():
        place = f"{operation} {name}"
        for title, value in _wrong_values(operation, declared, place).items():
            # An object that may be sent may have fields that are ignored, or that only the method knows.
            takes_any = operation.is_open or (operation.id in JSON_RPC and name == "params")
            refused = not (takes_any and title == "a large object")
            yield _changed(f"{name}: {title}", example, {name: value}, refused=refused)
        [numeric] = in_turn([("true", True), ("large", 10**30)], 1, place)
        for title, value in (("empty", ""), ("null", None), ("small", -1), numeric):
            yield _changed(f"{name}: {title}", example, {name: value}, refused=False)
        [(title, raw)] = in_turn(list(_NO_NUMBERS.items()), 1, place)
        key = json.dumps(name).encode()
        rest = json.dumps({other: example[other] for other in example if other != name}).encode()[1:]
        comma = b"," if len(example) > (name in example) else b""
        yield Attempt(f"{name}: {title}", b"{" + key + b":" + raw + comma + rest)


def _changed(title: str, example: dict[str, Any], change: dict[str, Any], *, refused: bool = True) -> Attempt:
    return Attempt(title, json.dumps({**example, **change}).encode(), refused=refused)


def _wrong_values(operation: Operation, declared: dict[str, Any], place: str) -> dict[str, Any]:
    """Values that no field of this type may take. Text that cannot be stored is wrong everywhere."""
    types = _types(operation, declared)
    deep: Any = MARK
    for _ in range(40):
        deep = {"a": [deep]}
    unstorable: dict[str, Any] = {
        "NUL": NUL,
        "lone surrogate": SURROGATE,
        "NUL inside": {"a": [{"b": NUL}]},
        "NUL in a key": {NUL: 1},
        "surrogate in a key": {"a": {SURROGATE: 1}},
        "deep": deep,
    }
    of_another_type: dict[str, Any] = {"a number in an array": [1.5]}
    if "array" not in types:
        of_another_type["an array"] = [MARK]
    if "object" not in types:
        of_another_type["an object"] = {"key": MARK}
    if "string" in types and "number" not in types and "integer" not in types:
        of_another_type["a number"] = 1.5
    return {
        "a large object": {"key": "x" * 20_000},
        "a long text": "x" * ((_longest(declared) or 20_000) + 1),
        **dict(in_turn(list(unstorable.items()), 1, place)),
        **dict(in_turn(list(of_another_type.items()), 1, place)),
    }


def _longest(declared: dict[str, Any]) -> int:
    """Characters that a text may have in any of its forms; 0 where nothing says so."""
    branches = (declared, *declared.get("anyOf", ()))
    return max(int(branch.get("maxLength", 0)) for branch in branches)


def _types(operation: Operation, declared: dict[str, Any]) -> set[str]:
    schema = operation.resolve(declared)
    found = {schema["type"]} if "type" in schema else set()
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        found |= _types(operation, branch)
    return found


def bad_forms(operation: Operation) -> Iterator[Attempt]:
    """For a body that is a form."""
    good = httpx.QueryParams(operation.body_example())
    for name in good:
        for title, value in {"NUL": "a%00b", "long": "x" * 5_000}.items():
            yield Attempt(f"form: {name} is {title}", f"{good.remove(name)}&{name}={value}".encode(), FORM_BODY)
        part = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n{MARK}\r\n--x--\r\n'
        yield Attempt(f"form: {name} is a file", part.encode(), "multipart/form-data; boundary=x")
        for title, value in {"no UTF-8": "%ff%fe", "a surrogate": "a%ED%A0%80b", "empty": "", "cut off": "%"}.items():
            content = f"{good.remove(name)}&{name}={value}".encode()
            yield Attempt(f"form: {name} is {title}", content, FORM_BODY, refused=name != "grant_type")
    for title, raw in {"empty": b"", "no form": b"\xff\x00=\xfe", "many fields": b"a=b&" * 20_000}.items():
        yield Attempt(f"form: {title}", raw, FORM_BODY)
    yield Attempt("form: JSON", json.dumps(operation.body_example()).encode())
    yield Attempt("form: a mebibyte", b"username=" + b"x" * MEBIBYTE, FORM_BODY)
    yield Attempt("form: multipart without a boundary", b"x", "multipart/form-data")
    yield Attempt("form: multipart cut off", b"--x\r\nContent-Dis", "multipart/form-data; boundary=x")


def bad_uploads(operation: Operation) -> Iterator[Attempt]:
    """For a body of files."""
    head = '--x\r\nContent-Disposition: form-data; name="{}"; filename="{}"\r\n\r\n'
    field = next(iter(operation.body_schema["properties"]))
    file, end = head.format(field, "a.md").encode() + MARK.encode() + b"\r\n", b"--x--\r\n"
    for title, content in {
        "empty": b"",
        "no form": b"\xff\x00--x",
        "no parts": end,
        "cut off in a header": b"--x\r\nContent-Dis",
        "cut off in a file": file,
        "cut off in its end": file + end[:4],
        "another field": head.format("is_admin", "a.md").encode() + b"true\r\n" + end,
        "a field beside the file": file + b'--x\r\nContent-Disposition: form-data; name="bot_id"\r\n\r\n1\r\n' + end,
        "no file name": f'--x\r\nContent-Disposition: form-data; name="{field}"\r\n\r\nx\r\n'.encode() + end,
        "an empty file name": head.format(field, "").encode() + b"x\r\n" + end,
        "a file name of NULs": head.format(field, "\x00\x00").encode() + b"x\r\n" + end,
        "an empty file": head.format(field, "a.md").encode() + b"\r\n" + end,
        "a thousand files": (head.format(field, "a.md").encode() + b"x\r\n") * 1_000 + end,
        "a thousand headers": b"--x\r\n" + b"A: b\r\n" * 1_000 + b"\r\nx\r\n" + end,
        "a long header": b"--x\r\nA: " + b"b" * MEBIBYTE + b"\r\n\r\nx\r\n" + end,
    }.items():
        yield Attempt(f"upload: {title}", content, "multipart/form-data; boundary=x")
    for title, content in {
        "a file of NULs": head.format(field, "a.md").encode() + b"\x00" * 1_000 + b"\r\n" + end,
        "a program": head.format(field, "a.pdf").encode() + b"\x7fELF\x02\x01\x01" + b"\x00" * 100 + b"\r\n" + end,
    }.items():
        # What is only kept and handed out again may be anything.
        kept = operation.id == "upload_attachment"
        yield Attempt(f"upload: {title}", content, "multipart/form-data; boundary=x", refused=not kept)
    for kind in (JSON_BODY, FORM_BODY, "text/plain", "multipart/form-data", "multipart/mixed; boundary=x", "nonsense"):
        yield Attempt(f"upload: sent as {kind}", file + end, kind)
    yield Attempt("upload: sent without a type", file + end, None)
    yield Attempt("upload: JSON", json.dumps(operation.body_example()).encode())


_PARAMETER_VALUES = ("", "-1", "1.5", "NaN", "9" * 40, "x" * 20_000, "٣", "[]")
_NO_TEXTS = ("%00", "a%00b", "%ff%fe", "a%ED%A0%80b", "%")


def bad_parameters(operation: Operation) -> Iterator[Attempt]:
    for parameter in operation.parameters("query"):
        name = parameter["name"]
        types = _types(operation, parameter["schema"])
        place = f"{operation} {name}"
        for value in (*in_turn(_PARAMETER_VALUES, 5, place), *in_turn(_NO_TEXTS, 2, place)):
            refused = "%00" in value or ("integer" in types and value != "٣")
            yield Attempt(f"?{name}={value[:20]}", params=f"{name}={value}", refused=refused)
    unknown = (
        Attempt("a NUL in an unknown parameter", params="unknown=%00"),
        Attempt("ten thousand parameters", params="a=b&" * 10_000, refused=False),
    )
    yield from in_turn(unknown, 1, operation)


_HEADER_VALUES = (b"", b" ", b"\xff\xfe", b"\x00", b"x" * 5_000, b"-1", b"1e3", b"9" * 18, b"9" * 20, "٣".encode())


def bad_headers(operation: Operation) -> Iterator[Attempt]:
    for parameter in operation.parameters("header"):
        name = parameter["name"]
        for value in in_turn(_HEADER_VALUES, 5, f"{operation} {name}"):
            yield Attempt(f"{name}: {value[:20]!r}", headers=((name.encode(), value),), refused=False)
    for value in in_turn(_HEADER_VALUES, 2, operation):
        yield Attempt(f"X-Request-ID: {value[:20]!r}", headers=((b"X-Request-ID", value),), refused=False)


MALFORMED_IDS = (
    "x", "0", "null", "-1", "1e3", MARK, "%ff%fe", "a%ED%A0%80b", "x" * 5_000, "٣" * 36, "0198f3a2-c4e1-7d0c-8f3e",
    "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6g", "0198f3a2-c4e1-7d0c-8f3e-6b1a2d4c5e6f0", "%20", "a b", "'%20OR%201=1",
)  # fmt: skip
