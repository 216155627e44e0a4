"""A Supabase Storage of the tests' own on loopback: the routes, status codes and bodies of the real one.

The real one answers most refusals with 400 and tells the real status in the body; the gateway before it does not.
Source: https://github.com/supabase/storage, its error classes and its object routes.
"""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal

KEY: Final = "service-key-that-nobody-may-see"

Fault = Literal[
    "lost",
    "conflict",
    "too_large",
    "slow_down",
    "gateway_down",
    "error",
    "denied",
    "bad_jwt",
    "redirect",
    "web_page",
    "odd",
    "hang",
    "drip",
]
"""lost: stored, and the connection ends without an answer. conflict: 409 though nothing is there. too_large: 413 in
the body. slow_down: 429 with Retry-After: 7. gateway_down: 503 in HTML. error: 500. denied: 403 in the body.
bad_jwt: 400, InvalidJWT, echoing the key. redirect: 307. web_page: 200 in HTML. odd: 400 of another kind. hang: no
answer. drip: a byte of an answer now and then."""

_REFUSALS: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "conflict": (409, {"statusCode": "409", "code": "TransactionError", "error": "TransactionError", "message": "x"}),
    "too_large": (
        400,
        {
            "statusCode": "413",
            "error": "Payload too large",
            "message": "The object exceeded the maximum allowed size",
        },
    ),
    "error": (500, {"statusCode": "500", "code": "InternalError", "error": "Internal", "message": "Internal"}),
    "denied": (
        400,
        {"statusCode": "403", "error": "Unauthorized", "message": "new row violates row-level security policy"},
    ),
    "bad_jwt": (
        400,
        {"statusCode": "400", "code": "InvalidJWT", "error": "InvalidJWT", "message": f"Invalid Compact JWS: {KEY}"},
    ),
    "bad_token": (400, {"statusCode": "400", "error": "InvalidJWT", "message": "signature verification failed"}),
    "odd": (400, {"statusCode": "400", "error": "InvalidRequest", "message": "something else"}),
    "duplicate": (400, {"statusCode": "409", "error": "Duplicate", "message": "The resource already exists"}),
    "no_bucket": (400, {"statusCode": "404", "error": "Bucket not found", "message": "Bucket not found"}),
    "no_object": (400, {"statusCode": "404", "error": "not_found", "message": "Object not found"}),
}


OBJECTS: Final = "/storage/v1/object/"
_SIGN: Final = "/storage/v1/object/sign/"
_PUBLIC: Final = "/storage/v1/object/public/"


def _token(payload: dict[str, Any]) -> str:
    """A JWT, as the real one signs it with the project's secret."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    head = f"{part(json.dumps({'alg': 'HS256'}).encode())}.{part(json.dumps(payload).encode())}"
    return f"{head}.{part(hmac.digest(b'secret of the project', head.encode(), 'sha256'))}"


def payload_of(token: str) -> dict[str, Any]:
    """What a token says: url, iat, exp."""
    middle = token.split(".")[1]
    told: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return told


def _is_valid(token: str, name: str) -> bool:
    payload = payload_of(token) if token.count(".") == 2 else {}
    return token == _token(payload) and payload["url"] == name and payload["exp"] > time.time()


class SupabaseServer:
    """Storage on 127.0.0.1 with these buckets. Use it as a context manager.

    `upserts=False` is a server that answers "Duplicate" whenever something is there.
    """

    def __init__(self, *buckets: str, upserts: bool = True) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        """`{bucket}/{user_id}/{file}` → bytes and content type."""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        """Method, path and headers of what came."""
        self.puts: list[tuple[str, str]] = []
        """`{bucket}/{user_id}/{file}` and digest of every upload that came, whatever it was answered."""
        self.buckets = set(buckets)
        self.public = set[str]()
        """Which of the buckets anybody may read."""
        self.upserts = upserts
        self.location = ""
        self._faults: deque[Fault] = deque()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """What SUPABASE_URL would be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def misbehave(self, *faults: Fault) -> None:
        """Answer the next requests so."""
        self._faults.extend(faults)

    def __enter__(self) -> "SupabaseServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def next_fault(self) -> Fault | None:
        """The fault to answer with."""
        return self._faults.popleft() if self._faults else None

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until this server closes, or for so long."""
        return self._closing.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that leaves in the middle is what some tests are about."""


def _handler(server: SupabaseServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not self.path.startswith(_SIGN):
                server.puts.append((self.path.removeprefix(OBJECTS), hashlib.sha256(data).hexdigest()))
            if self._misbehaves(data) or not self._let_in():
                return
            if self.path.startswith(_SIGN):
                self._sign(data)
            else:
                self._store(data)

        def do_GET(self) -> None:
            if self._misbehaves(None):
                return
            if self.path.startswith((_SIGN, _PUBLIC)):
                self._show()
                return
            if not self._let_in():
                return
            if self.path == "/storage/v1/bucket":
                self._say(200, [{"id": name, "name": name, "public": False} for name in sorted(server.buckets)])
            elif (found := server.objects.get(self.path.removeprefix("/storage/v1/object/authenticated/"))) is None:
                self._say(*_REFUSALS["no_object"])
            else:
                self._send(200, found[0], {"Content-Type": found[1], "ETag": hashlib.md5(found[0]).hexdigest()})

        def do_DELETE(self) -> None:
            if self._misbehaves(None) or not self._let_in():
                return
            if server.objects.pop(self.path.removeprefix(OBJECTS), None) is None:
                self._say(*_REFUSALS["no_object"])
            else:
                self._say(200, {"message": "Successfully deleted"})

        def _sign(self, data: bytes) -> None:
            """A path below /storage/v1, and not a whole URL."""
            name = self.path.removeprefix(_SIGN)
            asked = json.loads(data).get("expiresIn")
            if not isinstance(asked, int) or asked < 1:
                said = "body/expiresIn must be integer"
                self._say(400, {"statusCode": "400", "error": "Error", "message": said, "code": "InvalidRequest"})
            elif name not in server.objects:
                self._say(*_REFUSALS["no_object"])
            else:
                now = int(time.time())
                token = _token({"url": name, "iat": now, "exp": now + asked})
                self._say(200, {"signedURL": f"/object/sign/{name}?token={token}"})

        def _show(self) -> None:
            """What a browser gets: by a token, or from a public bucket."""
            path, _, query = self.path.partition("?")
            name = path.removeprefix(_SIGN).removeprefix(_PUBLIC)
            open_to_all = path.startswith(_PUBLIC) and name.partition("/")[0] in server.public
            token = query.removeprefix("token=")
            if not open_to_all and (path.startswith(_PUBLIC) or not _is_valid(token, name)):
                self._say(*_REFUSALS["no_bucket" if path.startswith(_PUBLIC) else "bad_token"])
            elif name not in server.objects:
                self._say(*_REFUSALS["no_object"])
            else:
                self._send(200, server.objects[name][0], {"Content-Type": server.objects[name][1]})

        def _store(self, data: bytes) -> None:
            name = self.path.removeprefix(OBJECTS)
            if name.partition("/")[0] not in server.buckets:
                self._say(*_REFUSALS["no_bucket"])
            elif name in server.objects and not (server.upserts and self.headers.get("x-upsert") == "true"):
                self._say(*_REFUSALS["duplicate"])
            else:
                server.objects[name] = (data, self.headers.get("Content-Type", ""))
                self._say(200, {"Key": name, "Id": "0e7c0c1f-0000-4000-8000-000000000000"})

        def _let_in(self) -> bool:
            if self.headers.get("Authorization") == f"Bearer {KEY}":
                return True
            self._say(400, {"statusCode": "403", "error": "Unauthorized", "message": "signature verification failed"})
            return False

        def _misbehaves(self, data: bytes | None) -> bool:
            server.requests.append((self.command, self.path, dict(self.headers.items())))
            match server.next_fault():
                case None:
                    return False
                case "lost":
                    if data is not None:
                        kept = (data, self.headers.get("Content-Type", ""))
                        server.objects[self.path.removeprefix(OBJECTS)] = kept
                    self.close_connection = True
                case "slow_down":
                    self._send(429, b"slow down", {"Retry-After": "7"})
                case "gateway_down":
                    self._send(503, b"<html>upstream</html>", {})
                case "redirect":
                    self._send(307, b"", {"Location": server.location})
                case "web_page":
                    self._send(200, b"<html>hello</html>", {})
                case "hang":
                    server.wait()
                    self.close_connection = True
                case "drip":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                    while not server.wait(0.02):
                        self.wfile.write(b" ")
                case fault:
                    self._say(*_REFUSALS[fault])
            return True

        def _say(self, status: int, answer: Any) -> None:
            self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests look at `requests`."""

    return Handler
