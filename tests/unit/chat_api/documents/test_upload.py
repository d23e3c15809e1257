"""Reading uploads: forms in any pieces, limits, and forms that are not what they should be."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chat_api.documents.errors import DocumentTooLarge
from chat_api.documents.extraction.errors import EmptyDocument, UnsupportedDocument
from chat_api.documents.upload import document_reader
from chat_api.kit.scratch import scratch_folder
from chat_api.kit.upload import InvalidUpload, ReceivedFile, UnsupportedUpload
from shared.problems import MalformedRequest, Problem

LIMIT = 1_000
KIND = "multipart/form-data; boundary=edge"


def part(content: bytes, name: str = "a.txt", field: str = "files") -> bytes:
    disposition = f'form-data; name="{field}"; filename="{name}"'.encode()
    return b"--edge\r\nContent-Disposition: %b\r\nContent-Type: text/plain\r\n\r\n%b\r\n" % (disposition, content)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]
    yield b""


async def read(folder: Path, body: bytes, *, kind: str | None = KIND, size: int = 64 * 1024) -> list[ReceivedFile]:
    return await document_reader(folder, max_bytes=LIMIT).form(kind, pieces(body, size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
async def test_a_form_in_pieces_of_any_size(tmp_path: Path, size: int) -> None:
    first, second = b"one\r\n--edge\r--edg\r\n\n" * 20, b"%PDF-1.4\n" + bytes(range(256))

    files = await read(tmp_path, form(part(first, "a.md"), part(second, "b.bin", "file")), size=size)

    assert [(file.name, file.size, file.content_type) for file in files] == [
        ("a.md", len(first), "text/markdown"),
        ("b.bin", len(second), "application/pdf"),
    ]
    for file, content in zip(files, (first, second), strict=True):
        assert file.path.read_bytes() == content
        assert file.sha256 == hashlib.sha256(content).digest()


async def test_a_preamble_and_an_epilogue_are_passed_over(tmp_path: Path) -> None:
    files = await read(tmp_path, b"\r\n" + form(part(b"x")) + b"and so on, --edge\r\n")

    assert [file.path.read_bytes() for file in files] == [b"x"]


@pytest.mark.parametrize("size", [1, 4096])
async def test_a_file_at_the_limit_is_taken_and_one_above_is_not(tmp_path: Path, size: int) -> None:
    [file] = await read(tmp_path, form(part(b"x" * LIMIT)), size=size)
    assert file.size == LIMIT
    (again := tmp_path / "again").mkdir()

    with pytest.raises(DocumentTooLarge, match=r"'large\.txt' is larger than 1000 bytes"):
        await read(again, form(part(b"x" * (LIMIT + 1), "large.txt")), size=size)


async def test_what_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield part(b"")[:-2]
        while True:
            taken += 100
            yield b"x" * 100

    with pytest.raises(DocumentTooLarge):
        await document_reader(tmp_path, max_bytes=LIMIT).form(KIND, endless())

    assert taken == LIMIT + 100


async def test_fifty_files_are_taken_and_one_more_is_not(tmp_path: Path) -> None:
    assert len(await read(tmp_path, form(*[part(b"x")] * 50))) == 50

    (tmp_path / "again").mkdir()
    with pytest.raises(InvalidUpload, match="50 files at most"):
        await read(tmp_path / "again", form(*[part(b"x")] * 51))


async def test_a_type_that_is_not_taken_is_said_with_the_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedDocument, match=r"'b\.pdf' cannot be taken.*a program"):
        await read(tmp_path, form(part(b"fine"), part(b"MZ\x90\x00\x03\x00", "b.pdf")))


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n"])
async def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(EmptyDocument, match=r"'a\.txt' is empty"):
        await read(tmp_path, form(part(content)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (None, UnsupportedUpload),
        ("", UnsupportedUpload),
        ("application/json", UnsupportedUpload),
        ("multipart/mixed; boundary=edge", UnsupportedUpload),
        ("multipart/form-data", MalformedRequest),
        ("multipart/form-data; boundary=", MalformedRequest),
        ('multipart/form-data; boundary=""', MalformedRequest),
        ("multipart/form-data; boundary=other", MalformedRequest),
        (f"multipart/form-data; boundary={'x' * 500}", MalformedRequest),
        ("multipart/form-data; boundary=ü", MalformedRequest),
    ],
)
async def test_a_content_type_that_is_not_that_of_the_form(
    tmp_path: Path, kind: str | None, expected: type[Problem]
) -> None:
    with pytest.raises(expected):
        await read(tmp_path, form(part(b"x")), kind=kind)


GOOD = form(part(b"content"))


@pytest.mark.parametrize("cut", [0, 1, 5, 30, 100, len(GOOD) - 20, len(GOOD) - 10, len(GOOD) - 5])
async def test_a_form_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    with pytest.raises(MalformedRequest):
        await read(tmp_path, GOOD[:cut])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"--edge--\r\n", InvalidUpload),
        (form(part(b"x", field="document")), InvalidUpload),
        (form(part(b"x"), b'--edge\r\nContent-Disposition: form-data; name="bot_id"\r\n\r\n1\r\n'), InvalidUpload),
        (form(b'--edge\r\nContent-Disposition: form-data; name="files"\r\n\r\nno file\r\n'), InvalidUpload),
        (form(b'--edge\r\nContent-Disposition: form-data; filename="a.txt"\r\n\r\nx\r\n'), InvalidUpload),
        (form(b"--edge\r\nContent-Type: text/plain\r\n\r\nx\r\n"), InvalidUpload),
        (form(b"--edge\r\n\r\nx\r\n"), InvalidUpload),
        (form(part(b"x", "")), InvalidUpload),
        (form(part(b"x", "..")), InvalidUpload),
        (form(part(b"x", "a/b/")), InvalidUpload),
        (b"this is no form at all", MalformedRequest),
        (b"\x00" * 200, MalformedRequest),
        (form(b"--edge\r\nno colon\r\n\r\nx\r\n"), MalformedRequest),
        (form(b"--edge\r\n" + b"X-Header: y\r\n" * 1_000 + b"\r\nx\r\n"), MalformedRequest),
        (form(b"--edge\r\nX-Header: " + b"y" * 100_000 + b"\r\n\r\nx\r\n"), MalformedRequest),
    ],
)
async def test_a_form_that_is_wrong(tmp_path: Path, body: bytes, expected: type[Problem]) -> None:
    with pytest.raises(expected):
        await read(tmp_path, body)


async def test_a_name_of_another_age_is_read(tmp_path: Path) -> None:
    body = form(part(b"x").replace(b"a.txt", "Öl.txt".encode("latin-1")))

    assert [file.name for file in await read(tmp_path, body)] == ["Öl.txt"]


async def test_a_text_becomes_a_file(tmp_path: Path) -> None:
    [file] = await document_reader(tmp_path, max_bytes=LIMIT).text("notes/öl.md", "Öl")

    assert (file.name, file.path.read_text(), file.content_type) == ("öl.md", "Öl", "text/markdown")


@pytest.mark.parametrize(("name", "text", "expected"), [("..", "x", InvalidUpload), ("a", "ö" * 501, DocumentTooLarge)])
async def test_a_text_that_is_refused(tmp_path: Path, name: str, text: str, expected: type[Problem]) -> None:
    with pytest.raises(expected):
        await document_reader(tmp_path, max_bytes=LIMIT).text(name, text)


async def test_the_folder_of_an_upload_goes_with_it() -> None:
    folders: list[Path] = []

    async def fail() -> None:
        async with scratch_folder() as folder:
            (folder / "0").write_bytes(b"x")
            folders.append(folder)
            raise InvalidUpload

    with pytest.raises(InvalidUpload):
        await fail()

    assert not folders[0].exists()
