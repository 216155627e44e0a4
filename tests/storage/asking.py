"""Asking a storage, and servers on loopback that answer badly."""

import socket
import threading

from tests.supabase_server import KEY as SERVICE_KEY
from tests.supabase_server import SupabaseServer
from workers.ports import Bucket
from workers.storage import open_storage

USER = "11111111-2222-4333-8444-555555555555"
JOB = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
KEY = f"{USER}/{JOB}_0.png"
S3_SECRET = "secret-access-key-that-nobody-may-see"
NEVER = 60.0
"""A limit that only a broken test reaches."""


def put(
    storage: Bucket, data: bytes, *, bucket: str = "sdxl_image_fast", key: str = KEY, seconds: float = NEVER
) -> None:
    storage.put(bucket, key, data, content_type="image/png", seconds=seconds)


def get(storage: Bucket, *, key: str = KEY, most: int = 1_000_000, bucket: str = "sdxl_image_fast") -> bytes | None:
    return storage.get(bucket, key, most=most, seconds=NEVER)


def remove(storage: Bucket, *, key: str = KEY, bucket: str = "sdxl_image_fast") -> None:
    storage.remove(bucket, key, seconds=NEVER)


def signed(storage: Bucket, *, key: str = KEY, holds: int = 600, seconds: float = NEVER) -> str:
    return storage.url("sdxl_image_fast", key, how="signed", holds=holds, seconds=seconds)


def public(storage: Bucket, *, key: str = KEY) -> str:
    return storage.url("sdxl_image_fast", key, how="public", holds=600, seconds=NEVER)


def at(server: SupabaseServer, *, key: str = SERVICE_KEY) -> Bucket:
    return open_storage("supabase:", supabase_url=server.url, supabase_key=key)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Answering:
    """Answers every request with the same bytes, whatever was asked; `then` it closes, hangs or drips."""

    def __init__(self, answer: str, *, then: str = "close") -> None:
        self.asked = 0
        self._answer = answer.encode()
        self._then = then
        self._over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Answering":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.close()

    def _serve(self) -> None:
        try:
            while True:
                connected, _ = self._server.accept()
                with connected:
                    self.asked += 1
                    read_request(connected)
                    self.answer(connected)
        except OSError:
            return  # it was closed, or the other side has had enough

    def answer(self, connected: socket.socket) -> None:
        connected.sendall(self._answer)
        while self._then == "drip" and not self._over.wait(0.02):
            connected.sendall(b" ")
        if self._then == "hang":
            self._over.wait()


class Losing(Answering):
    """Passes a request on to the real server, and closes instead of answering."""

    def __init__(self, behind: str) -> None:
        super().__init__("")
        self._behind = behind

    def _serve(self) -> None:
        connected, _ = self._server.accept()
        with connected, socket.create_connection(_address(self._behind)) as real:
            real.sendall(read_request(connected))
            assert b" 200 " in real.recv(65536)


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def read_request(connected: socket.socket) -> bytes:
    """One whole request with a Content-Length."""
    came = b""
    while b"\r\n\r\n" not in came:
        came += connected.recv(65536)
    head, _, _ = came.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(came) < len(head) + 4 + length:
        came += connected.recv(65536)
    return came
