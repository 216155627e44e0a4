"""GET /live and /ready, for whoever starts containers anew and sends them work."""

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import structlog

from ourvidz.layers import SettingsError
from ourvidz.processes.condition import Condition

log = structlog.get_logger()

REQUEST_SECONDS: Final = 5.0
"""Who takes longer to say what he wants is left."""

Ask = Callable[[], Condition]


class Health:
    """An HTTP server in threads of its own, at one address and no other."""

    def __init__(self, address: str, ask: Ask) -> None:
        """Raises SettingsError where the address cannot be had."""
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET

        class Answers(_Handler):
            condition = staticmethod(ask)

        class Server(ThreadingHTTPServer):
            address_family = family
            daemon_threads = True

        try:
            self._server = Server((host, int(port)), Answers)
        except (OSError, OverflowError) as error:
            raise SettingsError(f"health_address: {address} cannot be listened at: {error}") from error
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        log.info("health is answered", address=address, port=self.port)

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    condition: Ask
    timeout = REQUEST_SECONDS
    server_version = "ourvidz"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with 200 or 503, and why."""
        asked = self.path.partition("?")[0]
        condition = self.condition()
        match asked:
            case "/live":
                self._say(condition.live, {"live": condition.live, "why": condition.still})
            case "/ready":
                why = condition.still + condition.unready
                self._say(condition.ready, {"ready": condition.ready, "why": why, "status": condition.status})
            case _:
                self._send(404, {"error": "there are /live and /ready"})

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """A probe comes every few seconds: not into anybody's log."""

    def _say(self, well: bool, body: dict[str, Any]) -> None:
        self._send(200 if well else 503, body)

    def _send(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
