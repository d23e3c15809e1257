"""Where a request comes from, as far as a limit cares."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from chat_api.auth.request_limits import caller_address


def request_from(client: tuple[str, int] | None) -> Request:
    return Request({"type": "http", "headers": [], "client": client})


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("a-socket", "a-socket"),
    ],
)
def test_an_address_is_that_of_a_customer(host: str, address: str) -> None:
    assert caller_address(request_from((host, 1))) == address


def test_no_address_is_one_too() -> None:
    assert caller_address(request_from(None)) == ""
