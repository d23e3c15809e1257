"""Names of files in a header: nothing in them ends the header, the quotes or the encoding."""

from __future__ import annotations

import pytest

from chat_api.attachments.router import content_disposition


@pytest.mark.parametrize(
    ("name", "plain", "encoded"),
    [
        ("plan.pdf", "plan.pdf", "plan.pdf"),
        ("two words.txt", "two words.txt", "two%20words.txt"),
        ('a"; filename="b.exe', "a_; filename=_b.exe", "a%22%3B%20filename%3D%22b.exe"),
        ("a\\b", "a_b", "a%5Cb"),
        ("100%41.txt", "100_41.txt", "100%2541.txt"),
        ("näkymä.png", "n_kym_.png", "n%C3%A4kym%C3%A4.png"),
        ("会話", "__", "%E4%BC%9A%E8%A9%B1"),
        ("a\r\nSet-Cookie: x=1", "a__Set-Cookie: x=1", "a%0D%0ASet-Cookie%3A%20x%3D1"),
        ("../a'b*", "../a'b*", "..%2Fa%27b%2A"),
    ],
)
def test_a_name_in_both_forms(name: str, plain: str, encoded: str) -> None:
    header = content_disposition(name, inline=False)

    assert header == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    assert header.isascii()
    assert header.isprintable()
