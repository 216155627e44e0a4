"""Fetching a picture from a stranger's URL, for a worker that stands inside somebody's network.

Every address of a host must be public, unless the operator allows that host and port; the address that was checked is
the one that is connected to, so a name that answers otherwise the second time gains nothing. Redirects are followed by
hand and judged like the URL itself. Nothing is taken from the environment: no proxy, no .netrc, no cookies.
"""

import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException, IncompleteRead, LineTooLong, RemoteDisconnected
from typing import Final
from urllib.parse import urljoin

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from workers.errors import GiveUp, Misconfigured, StageEnds, TryAgain
from workers.receiver import wait_asked
from workers.references.addresses import IPAddress, Resolve, addresses, is_public
from workers.references.urls import Place, parse
from workers.references.wire import Answer, BrokenOff, TooMuch, Undecodable
from workers.timed_http import Limit

Dial = Callable[[IPAddress, int, float], socket.socket]
"""Connects to an address and a port within so many seconds."""

REDIRECTS: Final = (301, 302, 303, 307, 308)
NO_PICTURES: Final = re.compile(
    r"(video|audio|font)/.*|text/(html|xml|css)|application/(json|xml|pdf|javascript|xhtml\+xml)|image/svg\+xml"
)
"""What a server says of pages and films. Other wrong words are common on pictures: decoding has the last word."""
_PASSING: Final = (408, 425, 429)
ERROR_BYTES: Final = 4096
LONGEST_WAIT: Final = 600.0
"""Seconds. A stranger's server that asks for more does not decide how long a job of ours lies there."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`bytes` holds on the wire and again decoded; `seconds` for all of it, redirects included."""

    bytes: int = 20 * 1024 * 1024
    seconds: float = 30.0
    redirects: int = 5


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came. `content_type` is the server's word in lower case, without parameters, or None."""

    data: bytes
    content_type: str | None
    final_host: str
    redirects: int


def fetch(
    url: str,
    *,
    allowed: frozenset[str],
    limits: Limits,
    bearer_for: Mapping[str, str],
    resolve: Resolve = socket.getaddrinfo,
    dial: Dial | None = None,
    trust: ssl.SSLContext | None = None,
) -> Fetched:
    """Fetch the URL's content. Raises GiveUp for what is refused or is not there, TryAgain for what may pass.

    Raises Misconfigured for a token that cannot be sent, or that its origin does not accept.

    `allowed` holds host:port that may be anywhere. `bearer_for` maps an origin (scheme://host) to its token, which
    goes there with the first request and never along a redirect. A name is resolved by the system, in the system's
    time; all else ends within `limits.seconds`. Errors name the host and nothing else of a URL.
    """
    limit = Limit(limits.seconds)
    open_to = frozenset(entry.lower() for entry in allowed)
    place = _parsed(url)
    token = _token(place, bearer_for)
    for redirects in range(limits.redirects + 1):
        try:
            connected = _connect(place, open_to, limit, resolve, dial or _dial, trust)
            with connected:
                came = _ask(connected, place, token, limits, limit)
        except StageEnds:
            raise
        except (OSError, HTTPException, TooMuch, BrokenOff, Undecodable) as problem:
            raise _sorted_out(problem, place, limits) from None
        if not isinstance(came, str):
            content_type, data = came
            return Fetched(data=data, content_type=content_type, final_host=place.host, redirects=redirects)
        place, token = _parsed(came), None
    raise _refused(f"{place.host} is where more than {limits.redirects} redirects lead")


def _parsed(url: str) -> Place:
    try:
        return parse(url)
    except ValueError as problem:
        raise _refused(f"the reference's URL {problem}") from None


def _token(place: Place, bearer_for: Mapping[str, str]) -> str | None:
    token = next((token for origin, token in bearer_for.items() if parse(origin).origin == place.origin), None)
    if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise Misconfigured(f"the key for {place.host} must be printable ASCII without spaces")
    return token


def _connect(
    place: Place, allowed: frozenset[str], limit: Limit, resolve: Resolve, dial: Dial, trust: ssl.SSLContext | None
) -> socket.socket:
    """Connect to the first address that answers, after all of them were judged."""
    try:
        found = addresses(place.host, place.port, resolve)
    except socket.gaierror as problem:
        if problem.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            raise _refused(f"{place.host} does not exist") from None
        raise _passing(f"{place.host} cannot be resolved now") from None
    except ValueError:
        raise _refused(f"{place.host} does not resolve to an address") from None
    if not found:
        raise _refused(f"{place.host} has no address")
    if place.host_port not in allowed and not all(is_public(address) for address in found):
        raise _refused(f"{place.host} is not at a public address")  # which one it is, is nobody's business
    last = OSError()
    for tried, address in enumerate(found):
        try:
            connected = dial(address, place.port, limit.left() / (len(found) - tried))
        except OSError as error:
            last = error
            continue
        if place.scheme == "http":
            return connected
        connected.settimeout(limit.left())  # for the handshake as a whole
        # The name, not the address, is what the certificate must be for. A handshake that fails closes the socket.
        return (trust or _trust()).wrap_socket(connected, server_hostname=place.host)
    raise last


def _dial(address: IPAddress, port: int, seconds: float) -> socket.socket:
    connecting = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connecting.settimeout(seconds)
        connecting.connect((str(address), port))
    except OSError:
        connecting.close()
        raise
    return connecting


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)


def _ask(
    connected: socket.socket, place: Place, token: str | None, limits: Limits, limit: Limit
) -> str | tuple[str | None, bytes]:
    """Send one GET. Returns where it redirects to, or the content's type and bytes."""
    lines = [
        f"GET {place.target} HTTP/1.1",
        f"Host: {place.host_header}",
        "User-Agent: ourvidz",
        "Accept: image/png, image/jpeg, image/webp, image/gif, image/bmp, */*;q=0.1",
        "Accept-Encoding: identity",  # packing does not make pictures smaller
        "Connection: close",
    ]
    if token is not None:
        # Supabase's gateway knows older keys by Authorization and newer ones, which are no JWT, by apikey.
        lines += [f"Authorization: Bearer {token}", f"apikey: {token}"]
    connected.settimeout(limit.left())
    connected.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    with Answer(connected, limit) as answer:
        answer.begin()
        if answer.status in REDIRECTS:
            return _next(answer, place)
        if answer.status in _PASSING or answer.status >= 500:
            wait = wait_asked(answer.headers.get("Retry-After"), now=time.time())
            raise _passing(
                f"{place.host} answered {answer.status}", retry_after=None if wait is None else min(wait, LONGEST_WAIT)
            )
        if token is not None and _refuses_the_key(answer):
            raise Misconfigured(f"{place.host} refuses the service key", error_type="ReferenceForbidden")
        if answer.status not in (200, 203):
            raise _refused(f"{place.host} answered {answer.status}")
        kind = (answer.headers.get("Content-Type") or "").partition(";")[0].strip().lower()[:100] or None
        if kind is not None and (said := NO_PICTURES.fullmatch(kind)):
            shown = "film or sound" if said[1] else kind
            raise _refused(f"{place.host} answered with {shown}, not with a picture")
        return kind, answer.body(limits.bytes)


def _refuses_the_key(answer: Answer) -> bool:
    """Whether it is the key that is wrong. Supabase Storage answers 400 for this as well, and tells it in the body.

    It answers 403 also where a resized picture is asked for and the project's plan has none: that is the URL's fault.
    """
    if answer.status not in (400, 401, 403):
        return False
    try:
        told = json.loads(answer.body(ERROR_BYTES))
    except (ValueError, RecursionError, TooMuch, BrokenOff, Undecodable, HTTPException):
        told = None
    if not isinstance(told, dict):
        return answer.status != 400
    codes = (told.get("code"), told.get("error"))
    if "FeatureNotEnabled" in codes:
        return False
    return answer.status != 400 or told.get("statusCode") in ("401", "403") or "InvalidJWT" in codes


def _next(answer: Answer, place: Place) -> str:
    said = answer.headers.get("Location")
    if not said:
        raise _refused(f"{place.host} redirects to nowhere")
    with suppress(UnicodeError):
        said = said.encode("latin-1").decode()  # http.client reads headers as Latin-1, servers write UTF-8
    try:
        return urljoin(f"{place.scheme}://{place.host_header}{place.target}", said)
    except ValueError:
        raise _refused(f"{place.host} redirects to what cannot be read") from None


def _sorted_out(problem: Exception, place: Place, limits: Limits) -> StageEnds:
    """One sentence of our own: the libraries' words may repeat what a stranger sent."""
    match problem:
        case TimeoutError():
            return _passing(f"{place.host} did not give the whole answer within {limits.seconds:g} s")
        case TooMuch():
            return _refused(f"{place.host} sends more than {limits.bytes} bytes, or headers without end")
        case Undecodable():
            return _refused(f"{place.host} sends content whose encoding cannot be read")
        case ssl.SSLCertVerificationError():
            return _refused(f"{place.host} has no certificate that can be trusted for this name")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | BrokenOff() | IncompleteRead() | RemoteDisconnected():
            return _passing(f"{place.host} broke off its answer")
        case ssl.SSLError():
            return _refused(f"{place.host} does not speak TLS as it should")
        case LineTooLong():
            return _refused(f"{place.host} sends headers without end")
        case HTTPException():
            return _refused(f"{place.host} does not speak HTTP as it should")
        case ConnectionRefusedError():
            return _passing(f"{place.host} refuses connections")
        case _:
            return _passing(f"{place.host} cannot be reached")


def _refused(sentence: str) -> GiveUp:
    return GiveUp(sentence, error_type="ReferenceRefused")


def _passing(sentence: str, *, retry_after: float | None = None) -> TryAgain:
    return TryAgain(sentence, error_type="ReferenceUnreachable", retry_after=retry_after)
