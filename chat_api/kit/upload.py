"""Reading an upload: from the network to files of a temporary folder, in bounded memory.

The form is parsed as it arrives, after the caller's right to send it was checked: the framework's own form
parser would read everything first, for anybody. Each file's size and SHA-256 are taken on the way, and the
first thing that is wrong ends the reading.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from chat_api.kit.file_names import clean_name
from shared.problems import FieldError, MalformedRequest, Problem, ValidationFailed

if TYPE_CHECKING:
    # Exists for type checkers only.
    from python_multipart.multipart import MultipartCallbacks

MULTIPART = b"multipart/form-data"
_WRITE_BYTES = 256 * 1024


class UnsupportedUpload(Problem):
    """The body is no `multipart/form-data`."""

    status = 415
    code = "unsupported-media-type"
    title = "The body is not an upload"
    detail = "Send the files as `multipart/form-data`."


class InvalidUpload(ValidationFailed):
    """The form is well-formed, and does not hold what it should."""

    code = "invalid-upload"
    title = "The upload is not valid"
    detail = "Send each file in a part of its own, with its file name."

    def __init__(self, detail: str | None = None, *, field: str = "files") -> None:
        detail = detail or self.detail
        super().__init__(detail, errors=[FieldError(loc=["body", field], msg=detail, type="upload")])


@dataclass(frozen=True, slots=True)
class UploadRules:
    """What one kind of upload may hold.

    `fields` are the names that a file's part may have, the one to recommend first. `judge` gets a file's content,
    at its beginning, and its name, and gives its media type; it runs in a thread, and raises the `Problem` of a file
    that is not taken. `too_large` makes the one of a file, by its name and the limit in bytes.
    """

    fields: tuple[str, ...]
    max_files: int
    max_bytes: int
    judge: Callable[[BinaryIO, str], str]
    too_large: Callable[[str, int], Problem]

    @property
    def field(self) -> str:
        return self.fields[0]


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """One file, whole, in the upload's folder."""

    name: str
    path: Path
    size: int
    sha256: bytes
    content_type: str


class UploadReader:
    """Makes `ReceivedFile`s in `folder`."""

    def __init__(self, folder: Path, rules: UploadRules) -> None:
        self._folder = folder
        self._rules = rules
        self._files: list[ReceivedFile] = []
        self._current: _FileInProgress | None = None

    async def form(self, content_type: str | None, body: AsyncIterable[bytes]) -> list[ReceivedFile]:
        """The files of a multipart form.

        Raises `UnsupportedUpload`, `MalformedRequest` and `InvalidUpload` for the form, and what the rules have for
        one of its files.
        """
        form = _Form(_boundary(content_type), self._rules)
        try:
            async for data in body:
                for event in form.feed(data):
                    await self._take(event)
        finally:
            self._close()
        if not form.ended:
            raise MalformedRequest("The upload ends before its last boundary.")
        if not self._files:
            raise InvalidUpload(field=self._rules.field)
        return self._files

    async def text(self, name: str, text: str) -> list[ReceivedFile]:
        """One file, of text that came in another way."""
        try:
            for event in (_Began(name, "name"), text.encode(), _ENDED):
                await self._take(event)
        finally:
            self._close()
        return self._files

    def _close(self) -> None:
        if self._current is not None:
            self._current.close()

    async def _take(self, event: _Event) -> None:
        if isinstance(event, _Began):
            self._begin(event)
            return
        assert self._current is not None
        if isinstance(event, _Ended):
            self._files.append(await self._current.finish())
            self._current = None
        else:
            await self._current.add(event)

    def _begin(self, event: _Began) -> None:
        name = clean_name(event.name)
        if not name:
            raise InvalidUpload("A file needs a name that can be shown.", field=event.field)
        if len(self._files) == self._rules.max_files:
            most = "1 file" if self._rules.max_files == 1 else f"{self._rules.max_files} files"
            raise InvalidUpload(f"An upload may have {most} at most.", field=self._rules.field)
        self._current = _FileInProgress(name, self._folder / str(len(self._files)), self._rules)


@dataclass(frozen=True, slots=True)
class _Began:
    name: str
    field: str


class _Ended:
    pass


_ENDED = _Ended()
_Event = _Began | bytes | _Ended


class _FileInProgress:
    def __init__(self, name: str, path: Path, rules: UploadRules) -> None:
        self._name = name
        self._path = path
        self._rules = rules
        self._file: BinaryIO = path.open("xb", buffering=0)
        self._buffer = bytearray()
        self._size = 0
        self._hash = hashlib.sha256()

    async def add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._rules.max_bytes:
            raise self._rules.too_large(self._name, self._rules.max_bytes)
        self._buffer += data
        if len(self._buffer) >= _WRITE_BYTES:
            await asyncio.to_thread(self._flush)

    async def finish(self) -> ReceivedFile:
        content_type = await asyncio.to_thread(self._complete)
        return ReceivedFile(self._name, self._path, self._size, self._hash.digest(), content_type)

    def close(self) -> None:
        self._file.close()

    def _complete(self) -> str:
        self._flush()
        self._file.close()
        with self._path.open("rb") as content:
            return self._rules.judge(content, self._name)

    def _flush(self) -> None:
        self._hash.update(self._buffer)
        remaining = memoryview(self._buffer)
        while remaining:
            remaining = remaining[self._file.write(remaining) :]
        remaining.release()
        self._buffer = bytearray()


class _Form:
    """The parser's callbacks, as events in order."""

    def __init__(self, boundary: bytes, rules: UploadRules) -> None:
        self.ended = False
        self._rules = rules
        self._events: list[_Event] = []
        self._header_name = b""
        self._header_value = b""
        self._disposition: bytes | None = None
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError:
            raise MalformedRequest("The boundary of the upload is too long.") from None

    def feed(self, data: bytes) -> Sequence[_Event]:
        """What these bytes complete. Raises `MalformedRequest` and `InvalidUpload`."""
        try:
            if data and not self.ended:
                self._parser.write(data)
        except FormParserError:
            raise MalformedRequest("The upload is not well-formed multipart/form-data.") from None
        events, self._events = self._events, []
        return events

    def _on_part_begin(self) -> None:
        self._disposition = None
        self._header_name = self._header_value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        field = _text(options.get(b"name", b""))
        wanted = self._rules.field
        if field not in self._rules.fields:
            raise InvalidUpload(
                f"The files of an upload are in parts named `{wanted}`, and there are no other parts.", field=wanted
            )
        if b"filename" not in options:
            raise InvalidUpload(f"A part named `{wanted}` needs the name of its file.", field=wanted)
        self._events.append(_Began(_text(options[b"filename"]), field))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_part_end(self) -> None:
        self._events.append(_ENDED)

    def _on_end(self) -> None:
        self.ended = True


def _text(raw: bytes) -> str:
    """Browsers send UTF-8, whatever the standards said before; others what their machine has."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _boundary(content_type: str | None) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != MULTIPART:
        raise UnsupportedUpload
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedRequest("The Content-Type of the upload names no boundary.")
    return boundary


async def upload_body(request: Request) -> AsyncIterator[bytes]:
    """The request's body as it arrives. Raises `MalformedRequest` where the client goes away in the middle."""
    try:
        async for data in request.stream():
            yield data
    except ClientDisconnect:
        # Nobody reads the answer; it ends the request in order.
        raise MalformedRequest("The client went away in the middle of the upload.") from None
