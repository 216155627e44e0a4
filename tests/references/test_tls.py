"""Certificates: checked against the name, at the address that was judged."""

import ssl
from collections.abc import Iterator

import pytest
import trustme

from tests.references.asking import PICTURE, get, refused
from tests.references.internet import PUBLIC, Internet, Site, ok


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs nice.example's certificate. Nobody trusts it by himself."""
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """What a client knows that trusts `authority`."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class TestTls:
    """The name is what the certificate is checked against, the judged address is what is dialled."""

    @pytest.fixture
    def site(self, authority: trustme.CA) -> Iterator[tuple[Site, list[str | None]]]:
        named: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("nice.example").configure_cert(context)
        context.sni_callback = lambda _, name, __: named.append(name)
        with Site(ok(PICTURE), tls=context) as site:
            yield site, named

    def test_the_name_goes_into_sni_and_host(self, site: tuple[Site, list[str | None]], authority: trustme.CA) -> None:
        there, named = site
        internet = Internet({"nice.example": [[PUBLIC], ["127.0.0.1"]]}, there)
        trust = trusting(authority)
        fetched = get("https://nice.example/a", resolve=internet.resolve, dial=internet.dial, trust=trust)
        assert fetched.data == PICTURE
        assert (named, internet.dialled) == (["nice.example"], [f"{PUBLIC}:443"])
        assert "\r\nHost: nice.example\r\n" in there.requests[0]

    def test_another_name_is_refused(self, site: tuple[Site, list[str | None]], authority: trustme.CA) -> None:
        there, _ = site
        internet = Internet({"evil.example": [[PUBLIC]]}, there)
        trust = trusting(authority)
        said = refused("https://evil.example/a", resolve=internet.resolve, dial=internet.dial, trust=trust)
        assert said == "evil.example has no certificate that can be trusted for this name"
        assert there.requests == []

    def test_a_stranger_is_not_trusted(self, site: tuple[Site, list[str | None]]) -> None:
        there, _ = site
        internet = Internet({"nice.example": [[PUBLIC]]}, there)
        said = refused("https://nice.example/a", resolve=internet.resolve, dial=internet.dial)
        assert said == "nice.example has no certificate that can be trusted for this name"
