"""Real HTTP on loopback: what leads inside is refused before anything is sent, and what never ends is cut."""

import gzip
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.references.asking import HEAD, INSIDE, LIMITS, PICTURE, SHORT, get, passing, refused
from tests.references.internet import PUBLIC, Internet, Reply, Site, ok, redirect
from workers.errors import GiveUp, Misconfigured, TryAgain


@pytest.fixture(scope="module")
def canary() -> Iterator[Site]:
    """On every address that this host has, IPv4 and IPv6. Nobody may ever come."""
    with Site(ok(b"the crown jewels"), host="::") as site:
        yield site
        assert site.visitors() == 0


HERE = [
    "127.0.0.1", "127.0.0.2", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "017700000001",
    "0177.0.0.1", "00000177.0.0.1", "0.0.0.0", "0", "0x0", "127.0.0.1.", "localhost", "LocalHost", "localhost.",
    "１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
]  # fmt: skip
ELSEWHERE = [
    "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.2.1",
    "198.18.0.1", "224.0.0.1", "255.255.255.255", "[fd00:ec2::254]", "[fe80::1]", "[ff02::1]", "[2001:db8::1]",
    "[::ffff:169.254.169.254]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
]  # fmt: skip


class TestNobodyIsLedInside:
    @pytest.mark.parametrize("host", HERE)
    def test_this_host_in_every_notation(self, canary: Site, host: str) -> None:
        """The system's own resolver, the real connection: nothing stands between this test and the canary."""
        said = refused(f"http://{host}:{canary.port}/")
        assert said.endswith((INSIDE, "writes its address in another form than four decimal numbers"))

    @pytest.mark.parametrize("host", ELSEWHERE)
    def test_addresses_of_the_house(self, host: str) -> None:
        internet = Internet({})
        assert refused(f"http://{host}/latest/meta-data", dial=internet.dial).endswith(INSIDE)
        assert internet.dialled == []

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"])
    def test_a_redirect(self, canary: Site, host: str) -> None:
        with Site(redirect(f"http://{host}:{canary.port}/")) as site:
            assert refused(f"{site.url}/", allowed=site.allowed).endswith(INSIDE)

    def test_a_redirect_over_several_stations(self, canary: Site) -> None:
        stations = {"/": redirect("/a"), "/a": redirect("b"), "/b": redirect(f"//localhost:{canary.port}/")}
        with Site(stations) as site:
            assert refused(f"{site.url}/", allowed=site.allowed) == "localhost" + INSIDE
            assert len(site.requests) == 3

    @pytest.mark.parametrize("found", [["127.0.0.1"], ["::1"], ["10.0.0.1"], [PUBLIC, "127.0.0.1"], ["::1", PUBLIC]])
    def test_a_name_that_resolves_to_it(self, canary: Site, found: list[str]) -> None:
        """One address among public ones is enough: a happy second try would lead there."""
        internet = Internet({"nice.example": [found]}, canary)
        url = f"http://nice.example:{canary.port}/"
        assert refused(url, resolve=internet.resolve, dial=internet.dial) == "nice.example" + INSIDE
        assert internet.dialled == []

    def test_a_resolver_that_changes_its_answer_gains_nothing(self) -> None:
        """Asked once; the address that was judged is the one that is dialled."""
        with Site(ok(PICTURE)) as site:
            internet = Internet({"nice.example": [[PUBLIC], ["127.0.0.1"]]}, site)
            assert get("http://nice.example/", resolve=internet.resolve, dial=internet.dial).data == PICTURE
        assert (internet.asked, internet.dialled) == (["nice.example"], [f"{PUBLIC}:80"])

    def test_a_redirect_to_the_same_name_is_judged_anew(self) -> None:
        with Site(redirect("/again")) as site:
            internet = Internet({"nice.example": [[PUBLIC], ["127.0.0.1"]]}, site)
            said = refused("http://nice.example/", resolve=internet.resolve, dial=internet.dial)
        assert said == "nice.example" + INSIDE
        assert internet.dialled == [f"{PUBLIC}:80"]

    def test_one_port_that_is_allowed_opens_no_other(self, canary: Site) -> None:
        assert refused(f"http://127.0.0.1:{canary.port}/", allowed=frozenset({"127.0.0.1:1"})).endswith(INSIDE)
        assert refused(f"http://localhost:{canary.port}/", allowed=frozenset({f"127.0.0.1:{canary.port}"}))

    def test_nothing_of_the_environment(self, canary: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A proxy would connect wherever it likes; a .netrc would hand out a password."""
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password hunter2\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        with Site(ok(PICTURE)) as site:
            assert get(f"{site.url}/", allowed=site.allowed).data == PICTURE
            assert "authorization" not in site.requests[0].lower()

    def test_the_canary_would_have_sung(self) -> None:
        with Site(ok(b"the crown jewels"), host="::") as site:
            for host in ("127.0.0.1", "[::1]", "localhost"):
                get(f"http://{host}:{site.port}/", allowed=frozenset({f"{host}:{site.port}"}))
            assert site.visitors() == 3

    @pytest.mark.parametrize(
        ("found", "reason"),
        [
            (["no address"], " does not resolve to an address"),
            ([""], " does not resolve to an address"),
            (["fe80::1%eth0"], INSIDE),
            ([], " has no address"),
        ],
    )
    def test_a_resolver_that_talks_nonsense(self, found: list[str], reason: str) -> None:
        internet = Internet({"nice.example": [found]})
        said = refused("http://nice.example/", resolve=internet.resolve, dial=internet.dial)
        assert said == "nice.example" + reason
        assert internet.dialled == []


class TestRedirects:
    @pytest.mark.parametrize(
        ("to", "reason"),
        [
            ("file:///etc/passwd", "the reference's URL must begin with http:// or https://"),
            ("ftp://127.0.0.1/hunter2", "the reference's URL must begin with http:// or https://"),
            ("gopher://127.0.0.1:6379/_FLUSHALL", "the reference's URL must begin with http:// or https://"),
            ("http://user:hunter2@nice.example/", "the reference's URL must not hold a user or a password"),
            ("http://0x7f.1/", "the reference's URL writes its address in another form than four decimal numbers"),
            ("http://[nonsense/", "127.0.0.1 redirects to what cannot be read"),
            ("", "127.0.0.1 redirects to nowhere"),
            ("/", "127.0.0.1 is where more than 3 redirects lead"),
        ],
    )
    def test_refused(self, to: str, reason: str) -> None:
        with Site(redirect(to)) as site:
            assert refused(f"{site.url}/", allowed=site.allowed) == reason

    def test_no_more_than_allowed(self) -> None:
        with Site(redirect("/")) as site:
            refused(f"{site.url}/", allowed=site.allowed)
            assert len(site.requests) == 1 + LIMITS.redirects

    def test_the_body_of_a_redirect_is_not_read(self) -> None:
        endless = b"HTTP/1.1 302 Found\r\nLocation: /picture\r\n\r\n"
        with Site({"/": _forever(endless, b"x" * 1000), "/picture": ok(PICTURE)}) as site:
            assert get(f"{site.url}/", allowed=site.allowed).data == PICTURE


def _forever(first: bytes, more: bytes) -> Reply:
    def talk(talking: socket.socket, closing: threading.Event) -> None:
        talking.sendall(first)
        while not closing.is_set():
            talking.sendall(more)

    return talk


def _drip(first: bytes) -> Reply:
    def talk(talking: socket.socket, closing: threading.Event) -> None:
        talking.sendall(first)
        while not closing.wait(0.02):
            talking.sendall(b"x")

    return talk


def _silent(_: socket.socket, closing: threading.Event) -> None:
    closing.wait()


BOMB = gzip.compress(b"\0" * 10_000_000)
LARGE = "127.0.0.1 sends more than 100000 bytes, or headers without end"
ODD = "127.0.0.1 sends content whose encoding cannot be read"
NO_HTTP = "127.0.0.1 does not speak HTTP as it should"


class TestItEnds:
    @pytest.mark.parametrize(
        "reply",
        [
            _drip(HEAD + b"Content-Length: 99999\r\n\r\n"),
            _drip(HEAD + b"X-Header: "),
            _drip(HEAD + b"\r\n"),
            _drip(b"HTTP/1.1 200 "),
            _drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n"),
            _silent,
        ],
        ids=["length", "header", "endless", "status", "chunk", "silence"],
    )
    def test_a_slow_one(self, reply: Reply) -> None:
        """That this returns at all is the proof: each drips, or waits, until the server is closed."""
        with Site(reply) as site:
            ended = passing(f"{site.url}/", allowed=site.allowed, limits=SHORT)
        assert ended.message == "127.0.0.1 did not give the whole answer within 0.3 s"

    def test_a_handshake_that_never_comes(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as mute:
            there = f"127.0.0.1:{mute.getsockname()[1]}"
            passing(f"https://{there}/", allowed=frozenset({there}), limits=SHORT)

    @pytest.mark.parametrize(
        ("reply", "reason"),
        [
            (_forever(HEAD + b"\r\n", b"x" * 1000), LARGE),
            (_forever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + b"x" * 1000 + b"\r\n"), LARGE),
            (_forever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"y" * 900 + b"\r\nx\r\n"), LARGE),
            (_forever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"), LARGE),
            (_forever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", b"x" * 1000), LARGE),
            (_forever(HEAD, b"X: " + b"y" * 5000 + b"\r\n"), LARGE),
            (_forever(HEAD, b"y" * 1000), LARGE),
            (_forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), LARGE),
            (HEAD + b"X: y\r\n" * 200 + b"\r\n", NO_HTTP),
            (HEAD + b"Content-Length: 100001\r\n\r\n", LARGE),
            (ok(b"x" * 100_001), LARGE),
            (HEAD + b"\r\n" + b"x" * 100_001, LARGE),
            (ok(BOMB, "Content-Encoding: gzip"), LARGE),
            (ok(zlib.compress(b"\0" * 10_000_000), "Content-Encoding: deflate"), LARGE),
            (ok(gzip.compress(BOMB), "Content-Encoding: gzip, gzip"), ODD),
            (ok(PICTURE, "Content-Encoding: br"), ODD),
            (ok(PICTURE, "Content-Encoding: gzip"), ODD),
            (ok(gzip.compress(PICTURE) + b"more", "Content-Encoding: gzip"), ODD),
            (b"SSH-2.0-OpenSSH_9.2\r\n", NO_HTTP),
            (b"HTTP/1.1 999999 What\r\n\r\n", NO_HTTP),
        ],
        ids=[
            "body", "chunks", "chunk extensions", "trailers", "negative chunk", "headers", "one header", "continue",
            "many headers", "length", "one more", "one more without length", "gzip bomb", "deflate bomb",
            "two encodings", "brotli", "no gzip", "behind gzip", "ssh", "status",
        ],
    )  # fmt: skip
    def test_a_large_or_a_broken_one(self, reply: Reply, reason: str) -> None:
        with Site(reply) as site:
            assert refused(f"{site.url}/", allowed=site.allowed) == reason

    def test_a_bomb_is_not_unpacked(self) -> None:
        """Ten megabytes are in it; what was allowed is a hundred kilobytes."""
        with Site(ok(BOMB, "Content-Encoding: gzip")) as site:
            tracemalloc.start()
            try:
                refused(f"{site.url}/", allowed=site.allowed)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert peak < 2_000_000

    @pytest.mark.parametrize(
        "reply",
        [
            b"",
            HEAD + b"Content-Length: 50\r\n\r\nshort",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n32\r\nshort",
            ok(gzip.compress(PICTURE)[:-9], "Content-Encoding: gzip"),
        ],
        ids=["nothing", "length", "chunk", "gzip"],
    )
    def test_one_that_breaks_off(self, reply: bytes) -> None:
        with Site(reply) as site:
            assert passing(f"{site.url}/", allowed=site.allowed).message == "127.0.0.1 broke off its answer"


class TestWhatTheyAnswer:
    @pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 410])
    def test_no(self, status: int) -> None:
        with Site(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()) as site:
            assert refused(f"{site.url}/?token=hunter2", allowed=site.allowed) == f"127.0.0.1 answered {status}"

    @pytest.mark.parametrize(("status", "after"), [(500, None), (503, 17.0), (429, 120.0), (408, None), (425, None)])
    def test_later(self, status: int, after: float | None) -> None:
        asked = "" if after is None else f"Retry-After: {after:g}\r\n"
        with Site(f"HTTP/1.1 {status} Later\r\n{asked}Content-Length: 0\r\n\r\n".encode()) as site:
            ended = passing(f"{site.url}/", allowed=site.allowed)
        assert (ended.message, ended.retry_after) == (f"127.0.0.1 answered {status}", after)

    def test_later_but_not_as_late_as_a_stranger_likes(self) -> None:
        with Site(b"HTTP/1.1 503 Later\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n") as site:
            assert passing(f"{site.url}/", allowed=site.allowed).retry_after == 600.0

    @pytest.mark.parametrize(
        "kind", ["text/html; charset=utf-8", "application/json", "image/svg+xml", "video/mp4", "audio/mpeg"]
    )
    def test_no_picture(self, kind: str) -> None:
        with Site(ok(b"<html>", kind=kind)) as site:
            assert refused(f"{site.url}/", allowed=site.allowed).endswith(", not with a picture")

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            there = f"127.0.0.1:{closed.getsockname()[1]}"
        ended = passing(f"http://{there}/?token=hunter2", allowed=frozenset({there}))
        assert ended.message == "127.0.0.1 refuses connections"

    @pytest.mark.parametrize(("code", "sort"), [(socket.EAI_NONAME, GiveUp), (socket.EAI_AGAIN, TryAgain)])
    def test_no_such_name(self, code: int, sort: type[Exception]) -> None:
        def resolve(*_: object, **__: object) -> None:
            raise socket.gaierror(code, "hunter2")

        with pytest.raises(sort, match=r"^nice.example (does not exist|cannot be resolved now)$"):
            get("http://nice.example/", resolve=resolve)

    def test_a_plain_server_behind_https(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=_say_no, args=(listening,), daemon=True).start()
            there = f"127.0.0.1:{listening.getsockname()[1]}"
            said = refused(f"https://{there}/", allowed=frozenset({there}))
        assert said == "127.0.0.1 does not speak TLS as it should"


def _say_no(listening: socket.socket) -> None:
    with suppress(OSError), listening.accept()[0] as caller:
        caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while caller.recv(65536):
            pass


class TestTheKey:
    def ask(self, site: Site, url: str, keys: Mapping[str, str]) -> list[str]:
        get(url, allowed=site.allowed, bearer_for=keys)
        return [line for head in site.requests for line in head.split("\r\n") if line.startswith("Authorization")]

    def test_goes_to_its_own_origin(self) -> None:
        with Site(ok(PICTURE)) as site:
            keys = {"https://other.example": "other", site.url: "hunter2"}
            assert self.ask(site, f"{site.url}/a", keys) == ["Authorization: Bearer hunter2"]

    def test_goes_to_no_other(self) -> None:
        """Another scheme, another port, another name for the same address."""
        with Site(ok(PICTURE)) as site:
            port = f":{site.port}"
            others = [f"https://127.0.0.1{port}", "http://127.0.0.1", f"http://localhost{port}", f"{site.url}1"[:-2]]
            assert self.ask(site, f"{site.url}/a", dict.fromkeys(others, "hunter2")) == []

    def test_never_goes_along_a_redirect_to_another_origin(self) -> None:
        with Site(ok(PICTURE)) as other, Site(redirect(f"{other.url}/b")) as site:
            fetched = get(f"{site.url}/a", allowed=site.allowed | other.allowed, bearer_for={site.url: "hunter2"})
            assert (fetched.data, fetched.redirects) == (PICTURE, 1)
            assert "hunter2" in site.requests[0]
            assert "hunter2" not in other.requests[0]

    def test_is_not_fetched_by_a_redirect_to_its_own_origin(self) -> None:
        """Else a stranger's page could have the worker read what only the key may read."""
        with Site(ok(PICTURE)) as own, Site(redirect(f"{own.url}/private")) as site:
            get(f"{site.url}/a", allowed=site.allowed | own.allowed, bearer_for={own.url: "hunter2"})
            assert "hunter2" not in own.requests[0]

    def test_that_would_forge_a_header_is_not_sent_and_not_shown(self) -> None:
        with Site(ok(PICTURE)) as site:
            with pytest.raises(Misconfigured) as caught:
                get(f"{site.url}/", allowed=site.allowed, bearer_for={site.url: "hunter2\r\nX: y"})
            assert "hunter2" not in str(caught.value)
            assert site.requests == []
