"""Real HTTP on loopback: what is only odd comes through whole."""

import gzip
import socket
import zlib
from typing import Any

import pytest

from tests.references.asking import HEAD, PICTURE, get
from tests.references.internet import PUBLIC, Internet, Reply, Site, ok, redirect
from workers.references.fetching import Fetched

CHUNKS = b"3;a=b\r\n\x89PN\r\na\r\nG and so o\r\n1\r\nn\r\n0\r\nX: y\r\n\r\n"


class TestOddOnesPass:
    @pytest.mark.parametrize(
        ("reply", "kind"),
        [
            (ok(PICTURE), "image/png"),
            (ok(PICTURE, kind=None), None),
            (ok(PICTURE, kind="application/octet-stream"), "application/octet-stream"),
            (ok(PICTURE, kind="text/plain"), "text/plain"),
            (ok(PICTURE, kind="Image/PNG; charset=binary"), "image/png"),
            (HEAD + b"\r\n" + PICTURE, "image/png"),
            (b"HTTP/1.0 200 OK\r\n\r\n" + PICTURE, None),
            (b"HTTP/1.1 200\r\n\r\n" + PICTURE, None),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + ok(PICTURE), "image/png"),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, "image/png"),
            (ok(gzip.compress(PICTURE), "Content-Encoding: gzip"), "image/png"),
            (ok(gzip.compress(PICTURE), "Content-Encoding: X-GZIP"), "image/png"),
            (ok(zlib.compress(PICTURE), "Content-Encoding: deflate"), "image/png"),
            (ok(zlib.compress(PICTURE, wbits=-15), "Content-Encoding: deflate"), "image/png"),
            (ok(PICTURE, "Content-Encoding: identity", "Set-Cookie: a=b"), "image/png"),
            (b"HTTP/1.1 203 Fine\r\n\r\n" + PICTURE, None),
        ],
        ids=[
            "plain", "no type", "octets", "text", "parameters", "no length", "http/1.0", "no phrase", "continue",
            "chunked", "gzip", "x-gzip", "deflate", "raw deflate", "identity", "203",
        ],
    )  # fmt: skip
    def test_answers(self, reply: Reply, kind: str | None) -> None:
        with Site(reply) as site:
            fetched = get(f"{site.url}/", allowed=site.allowed)
        assert fetched == Fetched(data=PICTURE, content_type=kind, final_host="127.0.0.1", redirects=0)

    def test_exactly_as_large_as_allowed(self) -> None:
        for reply in (ok(b"x" * 100_000), ok(gzip.compress(b"x" * 100_000), "Content-Encoding: gzip")):
            with Site(reply) as site:
                assert len(get(f"{site.url}/", allowed=site.allowed).data) == 100_000

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects(self, status: int) -> None:
        with Site({"/a": redirect("/b?c#d", status), "/b?c": redirect("./e", status), "/e": ok(PICTURE)}) as site:
            fetched = get(f"{site.url}/a", allowed=site.allowed)
        assert (fetched.data, fetched.redirects) == (PICTURE, 2)

    def test_as_many_redirects_as_allowed(self) -> None:
        with Site({"/": redirect("/1"), "/1": redirect("/2"), "/2": redirect("/3"), "/3": ok(PICTURE)}) as site:
            assert get(f"{site.url}/", allowed=site.allowed).redirects == 3

    @pytest.mark.parametrize(
        ("asked", "target"),
        [
            ("/père noël.png", "/p%C3%A8re%20no%C3%ABl.png"),
            ("/写真/猫.png", "/%E5%86%99%E7%9C%9F/%E7%8C%AB.png"),
            ("/a%20b%2Fc.png", "/a%20b%2Fc.png"),
            ("?sig=a%2Bb+c==&x=[1]", "/?sig=a%2Bb+c==&x=[1]"),
            ("/a#fragment", "/a"),
            ("//double", "//double"),
        ],
    )
    def test_paths(self, asked: str, target: str) -> None:
        with Site({target: ok(PICTURE)}) as site:
            assert get(site.url + asked, allowed=site.allowed).data == PICTURE

    def test_a_redirect_in_utf_8(self) -> None:
        with Site({"/": redirect("/père.png"), "/p%C3%A8re.png": ok(PICTURE)}) as site:
            assert get(f"{site.url}/", allowed=site.allowed).data == PICTURE

    def test_a_name_that_is_allowed_to_be_inside(self) -> None:
        with Site(ok(PICTURE)) as site:
            internet = Internet({"minio.internal": [["10.0.0.7"]]}, site)
            more: dict[str, Any] = {"resolve": internet.resolve, "dial": internet.dial}
            fetched = get("http://MinIO.internal:9000/a", allowed=frozenset({"minio.internal:9000"}), **more)
            assert fetched.final_host == "minio.internal"
            assert "\r\nHost: minio.internal:9000\r\n" in site.requests[0]

    def test_the_second_address_where_the_first_is_dead(self) -> None:
        with Site(ok(PICTURE)) as site:
            internet = Internet({"nice.example": [["2606:4700::1", PUBLIC]]}, site)

            def dial(address: Any, port: int, seconds: float) -> socket.socket:
                if address.version == 6:
                    raise OSError("Network is unreachable")
                return internet.dial(address, port, seconds)

            assert get("http://nice.example/", resolve=internet.resolve, dial=dial).data == PICTURE
            assert "\r\nHost: nice.example\r\n" in site.requests[0]

    def test_a_name_in_letters_of_its_own(self) -> None:
        with Site(ok(PICTURE)) as site:
            internet = Internet({"xn--bcher-kva.example": [[PUBLIC]]}, site)
            fetched = get("http://bücher.example/", resolve=internet.resolve, dial=internet.dial)
        assert fetched.final_host == "xn--bcher-kva.example"

    def test_ipv6(self) -> None:
        with Site(ok(PICTURE), host="::1") as site:
            there = f"[::1]:{site.port}"
            assert get(f"http://{there}/", allowed=frozenset({there})).final_host == "::1"
            assert f"\r\nHost: {there}\r\n" in site.requests[0]
