"""Reference pictures on this host, for the demo and for tests: an HTTP server that serves a few, and draws two."""

import io
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFilter

SIZE: Final = (600, 900)
"""Of the drawn pictures, in pixels: neither SDXL's shape nor WAN's, so that each job has to fit them."""


class LoopbackPictures:
    """Serves `pictures`, name → bytes of a PNG, on a free port of 127.0.0.1. Use it as a context manager."""

    def __init__(self, pictures: Mapping[str, bytes]) -> None:
        self._asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(pictures, self._asked))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="loopback-pictures", daemon=True
        )

    @property
    def host(self) -> str:
        """host:port, as `OURVIDZ_ALLOWED_REFERENCE_HOSTS` wants it."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[str]:
        """The names that were asked for, in order."""
        return list(self._asked)

    def url(self, name: str) -> str:
        """Where a picture is."""
        return f"http://{self.host}/{name}"

    def __enter__(self) -> "LoopbackPictures":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(pictures: Mapping[str, bytes], asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            asked.append(name)
            data = pictures.get(name)
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: who asks is seen in `asked`."""

    return Handler


def dawn() -> bytes:
    """A red sun over an orange sea, as a PNG."""
    return _scene(above="#f7b267", below="#7c2e41", disc="#ffe8c2", at=(0.5, 0.38), radius=0.18)


def night() -> bytes:
    """A moon in a blue night, as a PNG."""
    return _scene(above="#101b3f", below="#2f6690", disc="#dff3ff", at=(0.3, 0.25), radius=0.13)


def _scene(*, above: str, below: str, disc: str, at: tuple[float, float], radius: float) -> bytes:
    width, height = SIZE
    fade = Image.linear_gradient("L").resize(SIZE)
    picture = Image.composite(Image.new("RGB", SIZE, below), Image.new("RGB", SIZE, above), fade)
    x, y, r = at[0] * width, at[1] * height, radius * width
    ImageDraw.Draw(picture).ellipse((x - r, y - r, x + r, y + r), fill=disc)
    file = io.BytesIO()
    picture.filter(ImageFilter.GaussianBlur(6)).save(file, "PNG")
    return file.getvalue()
