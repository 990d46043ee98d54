"""Fetching pages: what is let in, and every way around it.

127.0.0.2 is allowed and stands for the internet; everything else of this machine is private.
"""

import asyncio
import gzip
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from conftest import Loop, Running, as_user
from grpc_errors import fails, fields, invalid, reason
from hybrid.ai.v1 import text_service_pb2 as pb

from hybrid_ai.errors import InvalidArgument, Unavailable
from hybrid_ai.serving.fetch import Fetcher, is_public

OUTSIDE, INSIDE = "127.0.0.2", "127.0.0.1"
LIMIT = 100_000
# A host of digits alone is no URL to the HTTP client already.
REFUSED = "public internet|is not a URL"


class Names(AbstractResolver):
    """Answers with the next of the given addresses each time it is asked."""

    def __init__(self, *answers: str | list[str]) -> None:
        self.answers = [[answer] if isinstance(answer, str) else answer for answer in answers]
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
        addresses = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(host)
        return [
            {"hostname": host, "host": address, "port": port, "proto": 0, "flags": 0,
             "family": socket.AF_INET6 if ":" in address else socket.AF_INET}
            for address in addresses
        ]  # fmt: skip

    async def close(self) -> None:
        pass


class Site:
    """The same small site on a public and on a private address; `seen` are the addresses that were asked."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[str] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/redirect/{count}", self._redirect)
        app.router.add_get("/to", self._to)
        app.router.add_get("/{name}", self._page)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        outside = web.TCPSite(self._runner, OUTSIDE, 0)
        await outside.start()
        self.port = self._runner.addresses[0][1]
        await web.TCPSite(self._runner, INSIDE, self.port).start()

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def url(self, path: str, host: str = OUTSIDE) -> str:
        return f"http://{host}:{self.port}/{path}"

    async def _redirect(self, request: web.Request) -> web.Response:
        left = int(request.match_info["count"])
        raise web.HTTPFound(f"/redirect/{left - 1}" if left else "/page")

    async def _to(self, request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(request.query["url"])

    async def _page(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.seen.append(request.transport.get_extra_info("sockname")[0])
        assert "cookie" not in request.headers
        name, headers, status = request.match_info["name"], {"content-type": "text/html; charset=latin-1"}, 200
        body = "<title>A page</title><p>Grüße".encode("latin-1")
        if name == "bomb":
            headers["content-encoding"], body = "gzip", gzip.compress(b"a" * 50_000_000)
        elif name == "packed":
            headers["content-encoding"], body = "gzip", gzip.compress(body)
        elif name == "broken":
            headers["content-encoding"] = "gzip"
        elif name == "large":
            body = b"a" * (LIMIT + 1)
        elif name == "fits":
            body = b"a" * LIMIT
        elif name == "heavy":
            body = b"".join(b"<a href='/%d'><div>" % number for number in range(900)) + b"word " * 390_000
        elif name == "pdf":
            headers["content-type"] = "application/pdf"
        elif name == "missing":
            status = 404
        elif name == "slow":
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            await asyncio.sleep(30)
        return web.Response(body=body, headers=headers, status=status)


@pytest.fixture(scope="module")
def site(loop: Loop) -> Any:
    made = Site()
    loop.run(made.start())
    yield made
    loop.run(made.stop())


Fetch = Callable[..., Any]


@pytest.fixture
def fetch(loop: Loop) -> Fetch:
    def run(url: str, names: Names | None = None, seconds: float = 10.0) -> Any:
        fetcher = Fetcher([ipaddress.ip_network(f"{OUTSIDE}/32")], LIMIT, seconds, names)
        return loop.run(fetcher.fetch(url))

    return run


def refused(action: Callable[[], Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        action()


def test_a_page_is_fetched_with_its_encoding(site: Site, fetch: Fetch) -> None:
    for name in ("page", "packed", "redirect/0"):
        page = fetch(site.url(name))
        assert page.charset == "latin-1" and page.body.decode(page.charset).endswith("Grüße")
    assert page.url == site.url("page")


@pytest.mark.parametrize(
    "host",
    [
        INSIDE, "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "127.0.0.3", "10.0.0.1", "169.254.169.254",
        "[fe80::1]", "224.0.0.1", "0.0.0.0",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused_however_they_are_written(
    site: Site, fetch: Fetch, host: str
) -> None:
    before = len(site.seen)
    refused(lambda: fetch(site.url("page", host)), REFUSED)
    assert len(site.seen) == before


@pytest.mark.parametrize("target", [f"http://{INSIDE}", "http://localhost", "http://[::1]", "http://2130706433"])
def test_a_redirect_to_a_private_address_is_refused(site: Site, fetch: Fetch, target: str) -> None:
    refused(lambda: fetch(site.url(f"to?url={target}:{site.port}/page")), REFUSED)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("file:///etc/passwd", "not http or https"), ("ftp://127.0.0.2/", "not http or https"),
        ("gopher://127.0.0.2/", "not http or https"), ("//user@127.0.0.2:{port}/page", "a name or password"),
        ("//:secret@127.0.0.2:{port}/page", "a name or password"),
    ],
)  # fmt: skip
def test_a_redirect_to_another_scheme_or_with_a_name_is_refused(
    site: Site, fetch: Fetch, target: str, why: str
) -> None:
    """The redirects with a name lead to a page that is there: only the check stands before it."""
    before = len(site.seen)
    refused(lambda: fetch(site.url(f"to?url={target.format(port=site.port)}")), why)
    assert len(site.seen) == before


def test_a_name_that_changes_between_hops_is_checked_each_time(site: Site, fetch: Fetch) -> None:
    names = Names(OUTSIDE, INSIDE)
    refused(lambda: fetch(site.url("redirect/0", "rebind.example"), names), "public internet")
    assert names.asked == ["rebind.example"] * 2


def test_what_was_checked_is_what_is_connected_to(site: Site, fetch: Fetch) -> None:
    names, before = Names(OUTSIDE, INSIDE), len(site.seen)
    fetch(site.url("page", "rebind.example"), names)
    assert names.asked == ["rebind.example"]  # nobody asks again between the check and the connection
    assert site.seen[before:] == [OUTSIDE]
    refused(lambda: fetch(site.url("page", "rebind.example"), names), "public internet")


@pytest.mark.parametrize("address", [INSIDE, "::1", "::ffff:127.0.0.1", "10.1.2.3", "169.254.169.254"])
def test_a_name_that_stands_for_a_private_address_is_refused(site: Site, fetch: Fetch, address: str) -> None:
    refused(lambda: fetch(site.url("page", "inside.example"), Names(address)), "public internet")


def test_of_several_addresses_only_public_ones_are_used(site: Site, fetch: Fetch) -> None:
    before = len(site.seen)
    fetch(site.url("page", "both.example"), Names([INSIDE, OUTSIDE]))
    assert site.seen[before:] == [OUTSIDE]


def test_redirects_are_bounded(site: Site, fetch: Fetch) -> None:
    assert fetch(site.url("redirect/4")).url == site.url("page")
    refused(lambda: fetch(site.url("redirect/5")), "redirects more than 5 times")


def test_size_is_bounded_packed_and_unpacked(site: Site, fetch: Fetch) -> None:
    assert len(fetch(site.url("fits")).body) == LIMIT
    refused(lambda: fetch(site.url("large")), "larger than")
    refused(lambda: fetch(site.url("bomb")), "larger than")


def test_time_is_bounded(site: Site, fetch: Fetch) -> None:
    with pytest.raises(Unavailable, match=r"within 0\.3 s"):
        fetch(site.url("slow"), seconds=0.3)


def test_what_is_no_page_is_said_so(site: Site, fetch: Fetch) -> None:
    refused(lambda: fetch(site.url("pdf")), "another type")
    for name, text in (("missing", "HTTP 404"), ("broken", "could not be fetched")):
        with pytest.raises(Unavailable, match=text):
            fetch(site.url(name))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "not http or https"), ("page", "not http or https"), ("file:///etc/passwd", "not http or https"),
        ("http://", "has no host"), ("http://x:0/", "has no host"), ("http://a:b@127.0.0.2/", "a name or password"),
        ("http://x:99999/", "is not a URL"), ("http://[::1", "is not a URL"),
    ],
)  # fmt: skip
def test_what_is_no_web_address_is_refused(fetch: Fetch, url: str, why: str) -> None:
    refused(lambda: fetch(url), why)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fec0::1",
                                     "64:ff9b:1::1", "240.0.0.1", "255.255.255.255", "::", "ff02::1"])  # fmt: skip
def test_addresses_of_clouds_and_of_special_use_are_not(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


def ask(service: Running, url: str) -> pb.ExtractResponse:
    return service.text.Extract(pb.ExtractRequest(url=url), metadata=as_user())


def test_extract_fetches_where_it_is_configured(start: Callable[..., Running], site: Site) -> None:
    service = start(AI_EXTRACT_FETCH="on", AI_EXTRACT_FETCH_ALLOW=f"{OUTSIDE}/32", AI_EXTRACT_PROCESSES="1")
    page = ask(service, site.url("redirect/1"))
    assert (page.title, page.text, page.url) == ("A page", "Grüße", site.url("page"))
    assert invalid(lambda: ask(service, site.url("page", INSIDE))) == ["url"]
    error = fails(lambda: ask(service, site.url("missing")), grpc.StatusCode.UNAVAILABLE)
    assert (reason(error), error.details()) == ("FETCH_FAILED", "the page's server answered HTTP 404")


def test_a_url_may_have_2048_characters(start: Callable[..., Running], site: Site) -> None:
    service = start(AI_EXTRACT_FETCH="on", AI_EXTRACT_FETCH_ALLOW=f"{OUTSIDE}/32", AI_EXTRACT_PROCESSES="1")
    longest = site.url("page?") + "a" * (2_048 - len(site.url("page?")))
    assert ask(service, longest).url == longest
    error = fails(lambda: ask(service, longest + "a"), grpc.StatusCode.INVALID_ARGUMENT)
    assert error.details() == "url: has 2049 characters; 1 to 2048 are allowed"
    assert invalid(lambda: ask(service, "")) == ["url"]


def test_a_fetched_page_that_takes_too_long_is_blamed_on_its_url(start: Callable[..., Running], site: Site) -> None:
    service = start(
        AI_EXTRACT_FETCH="on",
        AI_EXTRACT_FETCH_ALLOW=f"{OUTSIDE}/32",
        AI_EXTRACT_PROCESSES="1",
        AI_EXTRACT_SECONDS="1",
    )
    error = fails(lambda: ask(service, site.url("heavy")), grpc.StatusCode.INVALID_ARGUMENT)
    assert (fields(error), reason(error)) == (["url"], "TOO_LARGE")
    assert ask(service, site.url("page")).title == "A page"
