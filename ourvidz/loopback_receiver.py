"""A receiver of callbacks on this host, for the demo and for tests: it checks, keeps and logs what it is told.

    python -m ourvidz.loopback_receiver --port 8099 --log callbacks.jsonl

It answers like the real one, and can be told to misbehave like one. With OURVIDZ_CALLBACK_SECRET set, a callback
whose Standard Webhooks signature does not hold is answered 401.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Literal

from workers.signature import signing_key, verify

LARGEST: Final = 4 * 1024 * 1024
TOLERANCE: Final = 300.0
"""Seconds that a signed timestamp may be off, as the Standard Webhooks specification advises."""

Fault = Literal[
    "error", "refuse", "slow_down", "deny", "redirect", "drip", "drip_headers", "hang", "close", "unsuccessful"
]
"""error: 500 after having accepted. refuse: 400 as the real receiver words it. slow_down: 429 with Retry-After.
deny: 401. redirect: 307. unsuccessful: 200 with `"success": false`. drip, drip_headers: a byte now and then, without
an end. hang: no answer. close: the connection ends without one. The last four have accepted, too."""

_ACCEPTING: Final = frozenset({None, "error", "drip", "drip_headers", "hang", "close"})


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One callback that was accepted. `headers` are in lower case and without Authorization."""

    time: float
    webhook_id: str | None
    body: dict[str, Any]
    headers: dict[str, str]


class LoopbackReceiver:
    """An HTTP receiver on 127.0.0.1 in threads of its own; port 0 takes any. Use it as a context manager."""

    def __init__(self, *, port: int = 0, log: Path | None = None, secret: str | None = None) -> None:
        self._key = None if secret is None else signing_key(secret)
        self._log = log
        self._changed = threading.Condition()
        self._deliveries: list[Delivery] = []
        self._requests = 0
        self._faults: deque[tuple[Fault, str]] = deque()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        # It looks every 20 ms whether it shall close; half a second is the default, and tests close many.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="loopback-receiver", daemon=True
        )

    @property
    def url(self) -> str:
        """Where callbacks go; every path is taken."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/functions/v1/job-callback"

    @property
    def deliveries(self) -> list[Delivery]:
        """What was accepted, in order. A repeated id stands in it as often as it came."""
        with self._changed:
            return list(self._deliveries)

    @property
    def requests(self) -> int:
        """How many requests came, accepted or not."""
        with self._changed:
            return self._requests

    def start(self) -> "LoopbackReceiver":
        """Begin to listen."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening; pending drips and hangs end."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> "LoopbackReceiver":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def misbehave(self, fault: Fault, *, times: int = 1, value: str = "") -> None:
        """Answer the next `times` requests so. `value`: the Retry-After of slow_down, the target of redirect."""
        with self._changed:
            self._faults.extend([(fault, value)] * times)

    def wait_for(self, count: int, *, seconds: float = 30.0) -> list[Delivery]:
        """Return the deliveries as soon as there are `count`. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._deliveries) >= count, seconds):
                raise TimeoutError(f"expected {count} callbacks, found {len(self._deliveries)}")
            return list(self._deliveries)

    def take(self, body: bytes, headers: dict[str, str]) -> tuple[Fault | None, str, dict[str, Any] | None]:
        """Judge one request: the fault to answer with, its value, and the body when it is a callback."""
        with self._changed:
            self._requests += 1
            fault, value = self._faults.popleft() if self._faults else (None, "")
            if self._key is not None and not self._signed(self._key, body, headers):
                return "deny", "the signature does not hold", None
            try:
                told = json.loads(body)
            except ValueError:
                return "refuse", "the body is not JSON", None
            if not isinstance(told, dict):
                return "refuse", "the body is not a JSON object", None
            if fault in _ACCEPTING:
                self._keep(told, headers)
            return fault, value, told

    def _signed(self, key: bytes, body: bytes, headers: dict[str, str]) -> bool:
        stamp = headers.get("webhook-timestamp", "")
        if not stamp.isascii() or not stamp.isdigit() or abs(time.time() - int(stamp)) > TOLERANCE:
            return False
        return verify(key, headers.get("webhook-id", ""), int(stamp), body, headers.get("webhook-signature", ""))

    def _keep(self, told: dict[str, Any], headers: dict[str, str]) -> None:
        public = {name: value for name, value in headers.items() if name != "authorization"}
        kept = Delivery(time=time.time(), webhook_id=headers.get("webhook-id"), body=told, headers=public)
        if self._log is not None:
            line = {"time": kept.time, "webhook-id": kept.webhook_id, "body": kept.body, "headers": kept.headers}
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self._deliveries.append(kept)
        self._changed.notify_all()

    def drip(self, send: Callable[[bytes], object]) -> None:
        """Send a byte now and then until the other side has had enough, or this receiver closes."""
        try:
            while not self._closing.wait(0.02):
                send(b"x")
        except OSError:
            return  # the other side has gone, as it should

    def hang(self) -> None:
        """Wait until this receiver closes."""
        self._closing.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that leaves in the middle is nothing to tell of; anything else is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(receiver: LoopbackReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > LARGEST:
                self.close_connection = True
                return self._answer(411, {"error": "Content-Length is missing or too large", "success": False})
            headers = {name.lower(): value for name, value in self.headers.items()}
            fault, value, told = receiver.take(self.rfile.read(int(length)), headers)
            return self._answer_with(fault, value, told or {})

        def _answer_with(self, fault: Fault | None, value: str, told: dict[str, Any]) -> None:
            refusal = {"error": value or "told to misbehave", "success": False}
            match fault:
                case None:
                    self._answer(200, _success(told))
                case "error":
                    self._answer(500, refusal)
                case "refuse":
                    self._answer(400, refusal)
                case "deny":
                    self._answer(401, refusal)
                case "unsuccessful":
                    self._answer(200, refusal)
                case "slow_down":
                    self._answer(429, refusal, {"Retry-After": value or "1"})
                case "redirect":
                    self._answer(307, refusal, {"Location": value or "/elsewhere"})
                case "drip":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                    receiver.drip(self.wfile.write)
                    self.close_connection = True
                case "drip_headers":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                    receiver.drip(self.wfile.write)
                    self.close_connection = True
                case "hang":
                    receiver.hang()
                    self.close_connection = True
                case "close":
                    self.close_connection = True

        def _answer(self, code: int, answer: dict[str, Any], more: dict[str, str] | None = None) -> None:
            raw = json.dumps(answer).encode()
            self.send_response(code)
            for name, value in {"Content-Type": "application/json", **(more or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: the log file tells it all."""

    return Handler


def _success(told: dict[str, Any]) -> dict[str, Any]:
    metadata = told.get("metadata")
    assets = told.get("assets")
    return {
        "success": True,
        "message": "Job callback processed successfully with standardized parameters",
        "debug": {
            "job_id": told.get("job_id"),
            "jobStatus": told.get("status"),
            "jobType": metadata.get("job_type") if isinstance(metadata, dict) else None,
            "assetsProcessed": len(assets) if isinstance(assets, list) else 0,
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Listen until interrupted; the URL is the first line on stdout."""
    parser = argparse.ArgumentParser(prog="python -m ourvidz.loopback_receiver", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--log", type=Path, required=True, help="one JSON line for each callback is appended to it")
    options = parser.parse_args(arguments)
    with LoopbackReceiver(
        port=options.port, log=options.log, secret=os.environ.get("OURVIDZ_CALLBACK_SECRET")
    ) as receiver:
        sys.stdout.write(receiver.url + "\n")
        sys.stdout.flush()
        try:
            receiver.hang()
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
