"""Fetches a page from the web for a caller, without becoming a way into the network that this service stands in.

Only http and https; only addresses of the public internet, checked on the very address that a connection is made to,
for every redirect anew: what a name resolves to a moment earlier or later does not matter. Time, redirects and size,
packed and unpacked, are bounded. No proxy of the environment is used; no cookie or credential is sent or kept.
"""

import asyncio
import ipaddress
import socket
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from hybrid_ai.errors import InvalidArgument, Unavailable

if TYPE_CHECKING:
    import aiohttp

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_TYPES = ("text/html", "application/xhtml+xml")
# Azure's metadata service has a public address; the other clouds' are link-local or private, which is refused anyway.
_METADATA = frozenset((ipaddress.ip_address("168.63.129.16"),))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Not all of these are special to every version of Python's ipaddress.
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "fec0::/10")))


@dataclass(frozen=True)
class Fetched:
    """A page as it came: `url` is where the redirects led."""

    url: str
    body: bytes
    charset: str


class RefusedAddress(OSError):
    """The name stands for an address that is not of the public internet."""


def is_public(address: Address) -> bool:
    """Whether the address, and the IPv4 address that it may carry, are of the public internet."""
    inner = _carried(address)
    if inner is not None:
        return is_public(inner)
    if address in _METADATA or any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _carried(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv6 one: mapped, 6to4, Teredo, NAT64."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


class Fetcher:
    """Fetches pages. `allowed` are networks that are let in besides: an intranet, by configuration."""

    def __init__(
        self,
        allowed: Sequence[Network],
        max_bytes: int,
        seconds: float,
        resolver: "aiohttp.abc.AbstractResolver | None" = None,
    ) -> None:
        self._allowed, self._max_bytes, self._seconds, self._resolver = allowed, max_bytes, seconds, resolver

    async def fetch(self, url: str) -> Fetched:
        """Raises InvalidArgument(url) for what is refused, Unavailable for what cannot be had."""
        import aiohttp  # only a service that fetches pays for it

        try:
            async with asyncio.timeout(self._seconds):
                return await self._follow(url)
        except TimeoutError:
            raise Unavailable(f"the page did not come within {self._seconds:g} s", reason="FETCH_FAILED") from None
        except aiohttp.InvalidURL:
            raise _refused("is not a URL that can be fetched") from None
        except (aiohttp.ClientError, OSError, zlib.error) as error:
            if any(isinstance(cause, RefusedAddress) for cause in _causes(error)):
                raise _refused("leads to an address that is not of the public internet") from None
            raise Unavailable(
                f"the page could not be fetched ({type(error).__name__})", reason="FETCH_FAILED"
            ) from None

    async def _follow(self, url: str) -> Fetched:
        import aiohttp

        for _ in range(MAX_REDIRECTS + 1):
            _check(url)
            # A connector for each hop: no connection is kept that was checked for another name.
            connector = aiohttp.TCPConnector(
                resolver=self._resolver, use_dns_cache=False, force_close=True, socket_factory=self._open_socket
            )
            options: dict[str, Any] = {"auto_decompress": False, "cookie_jar": aiohttp.DummyCookieJar()}
            headers = {"accept": ", ".join(_TYPES), "accept-encoding": "gzip, deflate", "user-agent": "hybrid-ai"}
            async with (
                aiohttp.ClientSession(connector=connector, headers=headers, **options) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                if response.status not in _REDIRECTS or "location" not in response.headers:
                    return await self._read(url, response)
                url = urljoin(url, response.headers["location"])
        raise _refused(f"redirects more than {MAX_REDIRECTS} times")

    def _open_socket(self, info: "aiohttp.AddrInfoType") -> socket.socket:
        """Makes the socket for an address that a connection is about to be made to, if that is allowed."""
        family, kind, protocol, _, target = info
        address = ipaddress.ip_address(str(target[0]).partition("%")[0])
        within = any(address.version == network.version and address in network for network in self._allowed)
        if not within and not is_public(address):
            raise RefusedAddress
        return socket.socket(family, kind, protocol)

    async def _read(self, url: str, response: "aiohttp.ClientResponse") -> Fetched:
        if response.status != 200:
            raise Unavailable(f"the page's server answered HTTP {response.status}", reason="FETCH_FAILED")
        if response.content_type not in _TYPES:
            raise _refused(f"is of another type than {' or '.join(_TYPES)}")
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "deflate"):
            raise Unavailable("the page came in an encoding that was not asked for", reason="FETCH_FAILED")
        unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding != "identity" else None
        body = bytearray()
        async for chunk in response.content.iter_chunked(65_536):
            # One byte more than allowed tells that there is more; the rest is never unpacked.
            room = self._max_bytes + 1 - len(body)
            body += unpack.decompress(chunk, room) if unpack else chunk[:room]
            if len(body) > self._max_bytes:
                raise _refused(f"is larger than {self._max_bytes} bytes")
        return Fetched(url, bytes(body), response.charset or "")


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("is not a URL") from None
    if parts.scheme not in ("http", "https"):
        raise _refused("or where it redirects to is not http or https")
    if not parts.hostname or port == 0:
        raise _refused("has no host")
    if parts.username is not None or parts.password is not None:
        raise _refused("must not hold a name or password")


def _refused(what: str) -> InvalidArgument:
    return InvalidArgument([("url", what)])


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error, what it was raised from, and the parts of groups."""
    found: list[BaseException] = []
    todo = [error]
    while todo:
        current = todo.pop()
        if current is None or current in found:
            continue
        found.append(current)
        todo += [current.__cause__, current.__context__, getattr(current, "os_error", None)]
        todo += list(getattr(current, "exceptions", ()))
    return found
