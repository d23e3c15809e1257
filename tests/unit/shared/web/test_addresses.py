from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.web.addresses import (
    MAX_ADDRESS_CHARACTERS,
    AddressRefused,
    WebAddress,
    is_inner_name,
    is_public,
    joined,
    literal,
    parsed,
)

BASE = WebAddress("https", "site.example", 443, "/a/b?c")


@pytest.mark.parametrize(
    ("text", "address", "authority"),
    [
        ("http://site.example", WebAddress("http", "site.example", 80, "/"), "site.example"),
        ("HTTPS://Site.Example:443/A?b#c", WebAddress("https", "site.example", 443, "/A?b"), "site.example"),
        ("http://site.example.:8080/", WebAddress("http", "site.example", 8080, "/"), "site.example:8080"),
        (" https://site.example/ \n", WebAddress("https", "site.example", 443, "/"), "site.example"),
        (
            "http://bücher.example/ü",
            WebAddress("http", "xn--bcher-kva.example", 80, "/%C3%BC"),
            "xn--bcher-kva.example",
        ),
        ("http://8.8.8.8/", WebAddress("http", "8.8.8.8", 80, "/"), "8.8.8.8"),
        ("http://[2606:4700:0:0::1]:80/", WebAddress("http", "2606:4700::1", 80, "/"), "[2606:4700::1]"),
        (
            "http://site.example?a=http://u@v/",
            WebAddress("http", "site.example", 80, "/?a=http://u@v/"),
            "site.example",
        ),
    ],
)
def test_takes_an_address_apart(text: str, address: WebAddress, authority: str) -> None:
    assert parsed(text) == address
    assert address.authority == authority
    assert parsed(str(address)) == address


@pytest.mark.parametrize(
    "sign", ["\\", " ", "\t", "\n", "\r", "\x00", "\x7f", "\xa0", "\u200b", "\u2028", "\u3000", "\ufeff"]
)
def test_what_parsers_disagree_on_is_refused_wherever_it_stands(sign: str) -> None:
    for text in (f"http://site{sign}.example/", f"http://site.example{sign}/", f"http://site.example/a{sign}b?c#d"):
        with pytest.raises(AddressRefused, match="white space"):
            parsed(text)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "0x", "8.8.8.08", "site.123", "1.2.3.4.5"]
)
def test_a_host_that_looks_like_a_number_has_to_be_one(host: str) -> None:
    with pytest.raises(AddressRefused, match=r"looks like a number|not valid"):
        parsed(f"http://{host}/")


def test_a_long_address_is_refused() -> None:
    with pytest.raises(AddressRefused, match="characters"):
        parsed("http://site.example/" + "a" * MAX_ADDRESS_CHARACTERS)


@given(st.text(max_size=60))
def test_nothing_but_a_refusal_comes_of_nonsense(rest: str) -> None:
    for text in (rest, f"http://{rest}", f"http://site.example{rest}", f"http://{rest}@site.example/"):
        try:
            address = parsed(text)
        except AddressRefused:
            continue
        assert str(address).isascii()
        assert not set(str(address)) & set(" \\\r\n\t")
        assert parsed(str(address)) == address


@given(st.text(max_size=60))
def test_a_redirect_leads_to_an_address_or_nowhere(location: str) -> None:
    try:
        address = joined(BASE, location)
    except AddressRefused:
        return
    assert parsed(str(address)) == address


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("/x", "https://site.example/x"),
        ("x?y", "https://site.example/a/x?y"),
        ("?y", "https://site.example/a/b?y"),
        ("", "https://site.example/a/b?c"),
        ("//other.example/x", "https://other.example/x"),
        ("http://other.example:81", "http://other.example:81/"),
        ("../../../x", "https://site.example/x"),
        ("/ü", "https://site.example/%C3%BC"),
    ],
)
def test_a_redirect_is_read_from_where_it_stands(location: str, where: str) -> None:
    assert str(joined(BASE, location)) == where


@pytest.mark.parametrize(
    "location",
    ["http:x", "http:/x", "https:x", "https:/x", "mailto:a@b", "/a b", "/a\r\nb", "\\\\x", "http://[", "//["],
)
def test_a_redirect_to_no_address_is_refused(location: str) -> None:
    with pytest.raises(AddressRefused):
        joined(BASE, location)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8", "1.1.1.1", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1",
        "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "64:ff9b::8.8.8.8",
    ],
)  # fmt: skip
def test_what_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.1", "0.1.2.3", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1", "169.254.169.254",
        "172.16.0.0", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.255.255",
        "198.18.0.1", "198.19.255.255", "198.51.100.9", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1",
        "255.255.255.255", "168.63.129.16", "::", "::1", "::8.8.8.8", "::ffff:8.8.8.8", "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "100::1", "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2001:10::1", "2001:20::1", "2002:808:808::1",
        "2002:a00:1::", "3fff::1", "3ffe::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1",
        "ff02::1", "2606:4700::5efe:8.8.8.8", "2606:4700::200:5efe:10.0.0.1", "2606:4700::1%eth0",
    ],
)  # fmt: skip
def test_what_is_not(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.ip_addresses())
def test_nothing_is_public_that_python_calls_private(address: object) -> None:
    number = ip_address(str(address))
    if number.is_private or number.is_loopback or number.is_link_local or number.is_multicast or number.is_reserved:
        in_nat64 = str(number).startswith("64:ff9b::")
        assert in_nat64 or not is_public(number)


@pytest.mark.parametrize(
    "name", ["localhost", "a.localhost", "db", "x.local", "x.internal", "a.b.home.arpa", "x.lan", "x.onion"]
)
def test_inner_names(name: str) -> None:
    assert is_inner_name(name)


@pytest.mark.parametrize(
    "name", ["site.example", "localhost.example", "internal.example", "mylocal.com", "notlocalhost.net"]
)
def test_outer_names(name: str) -> None:
    assert not is_inner_name(name)


def test_a_number_is_known_as_one() -> None:
    assert literal("8.8.8.8") == ip_address("8.8.8.8")
    assert literal("2606:4700::1") == ip_address("2606:4700::1")
    assert literal("8.8.8.8.example") is None
