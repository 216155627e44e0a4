"""Keeps processes running, as systemd does with `Restart=always`."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

PAUSE_SECONDS: Final = 0.2
"""Between a death and the next start: what `ourvidz up` waits at first. systemd's own default is 0.1."""


class Keeper:
    """Every method belongs to the main thread: on Linux, children may end with the thread that started them."""

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self._environment = environment
        self._commands: dict[str, Sequence[str]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._dead_since: dict[str, float] = {}

    def keep(self, name: str, command: Sequence[str]) -> None:
        """Start it, and again whenever it ends."""
        self._commands[name] = command
        self._start(name)

    def look(self) -> None:
        """Start again what has ended."""
        now = time.monotonic()
        for name, process in self._running.items():
            if process.poll() is not None and now - self._dead_since.setdefault(name, now) >= PAUSE_SECONDS:
                self._start(name)

    def pid(self, name: str) -> int:
        """Of the process that was started last under this name."""
        return self._running[name].pid

    def close(self) -> None:
        """Leave nothing running."""
        for process in self._running.values():
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _start(self, name: str) -> None:
        self._dead_since.pop(name, None)
        with self._log.open("ab") as log:
            # The open pipe is for those that have no other way to end with us: its end is ours.
            self._running[name] = subprocess.Popen(
                self._commands[name], env=self._environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
