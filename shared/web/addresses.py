"""Which addresses of the web we call for somebody else: what is written, and what a name turns out to be.

Both are lists of what is allowed, not of what is known to be bad: an address is refused unless it is written in the
one usual way, and a number of the internet unless everybody could reach it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urljoin

import httpx

IpAddress = IPv4Address | IPv6Address


class AddressRefused(Exception):
    """The address is not one to call. The text says what is wrong with it; `retryable`: it may be right later."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An address taken apart once: whoever checks it and whoever connects read the same parts.

    All parts are ASCII. `host` is lower case, without brackets, without a dot at the end. `target` begins with `/`.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As the `Host` header wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


MAX_ADDRESS_CHARACTERS = 2_000
PORTS = frozenset({80, 443})
"""The web's own. Other ports are where services stand that were never meant for strangers."""

# A backslash, a tab or a line end is read in one way by one parser and in another by the next.
_NEVER_IN_AN_ADDRESS = re.compile(r"[\x00-\x20\x7f-\xa0\\\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# What ends so is a number to some resolver: decimal, octal or hexadecimal, whole or in parts.
_ENDS_AS_NUMBER = re.compile(r"(?:^|\.)(?:\d+|0x[0-9a-f]*)$")
_INNER_NAMES = frozenset({
    "corp", "home", "internal", "intranet", "lan", "local", "localdomain", "localhost", "onion", "private",
    "home.arpa",
})  # fmt: skip

# IANA's registries of special addresses. Python's own lists differ from version to version.
_SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "168.63.129.16/32",  # Azure's own services, by a public number
        ),
    )
)  # fmt: skip
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocols, Teredo among them, which carries an IPv4 address
            "2001:db8::/32", "2620:4f:8000::/48", "3ffe::/16", "3fff::/20",
            "2002::/16",  # 6to4, which carries an IPv4 address; nobody has served anything by it for years
        ),
    )
)  # fmt: skip
# Where a network speaks IPv6 alone, its resolver answers so for every server that has IPv4 alone.
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)


def parsed(text: str) -> WebAddress:
    """Raises `AddressRefused` with what is wrong with it."""
    text = text.strip(" \n")
    if len(text) > MAX_ADDRESS_CHARACTERS:
        raise AddressRefused(f"The address has more than {MAX_ADDRESS_CHARACTERS} characters.")
    if _NEVER_IN_AN_ADDRESS.search(text):
        raise AddressRefused("The address contains white space, a backslash or a control character.")
    if not re.match(r"https?://[^/]", text, re.IGNORECASE):
        raise AddressRefused("The address has to begin with http:// or https:// and a host.")
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii").lower()
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise AddressRefused("The address is not valid.") from None
    if "@" in _authority_of(text):
        raise AddressRefused("The address contains a user name or a password. Leave them out.")
    port = url.port if url.port is not None else 443 if url.scheme == "https" else 80
    return WebAddress(url.scheme, _usual_host(host), port, url.raw_path.decode("ascii"))


def joined(base: WebAddress, location: str) -> WebAddress:
    """Where a redirect leads. Raises `AddressRefused`."""
    # Before `urljoin`, which takes out line ends and tabs silently.
    if _NEVER_IN_AN_ADDRESS.search(location):
        raise AddressRefused("The page redirects to an address that is not valid.")
    # With a scheme it stands for itself; `urljoin` would take `http:/host` for a path.
    if _SCHEME.match(location):
        return parsed(location)
    try:
        return parsed(urljoin(str(base), location))
    except ValueError:
        raise AddressRefused("The page redirects to an address that is not valid.") from None


def literal(host: str) -> IpAddress | None:
    """The number, where the host is one."""
    if ":" in host:
        return IPv6Address(host)
    return IPv4Address(host) if _ENDS_AS_NUMBER.search(host) else None


def is_inner_name(host: str) -> bool:
    """Names that mean something on one network only: whatever stands there is nobody else's business."""
    return "." not in host or any(host == name or host.endswith(f".{name}") for name in _INNER_NAMES)


def is_public(address: IpAddress) -> bool:
    """Whether it is the same host for everybody, and one that strangers may speak to."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    if address not in _GLOBAL_IPV6 or any(address in network for network in _SPECIAL_IPV6):
        return False
    return (int(address) >> 32) & 0xFFFF_FFFF not in _ISATAP


def _authority_of(text: str) -> str:
    return re.split(r"[/?#]", text.split("://", 1)[1], maxsplit=1)[0]


def _usual_host(host: str) -> str:
    """The host as everybody writes it. Raises `AddressRefused` for every other way."""
    if ":" in host:
        if "%" in host:
            raise AddressRefused("The address names a network interface.")
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise AddressRefused("The address is not valid.") from None
    host = host.removesuffix(".")
    if len(host) > 253 or not _NAME.fullmatch(host):
        raise AddressRefused("The address has no valid host name.")
    if _ENDS_AS_NUMBER.search(host):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise AddressRefused("The host looks like a number, but not like an IP address.") from None
    return host
