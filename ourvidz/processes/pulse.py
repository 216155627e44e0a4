"""The pulse of a process: which of its loops still move."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class _Beat:
    at: float
    limit: float


class Pulse:
    """Loops beat; one that has not for longer than it may stands still. Thread-safe.

    What waits for its work must wake up and beat within its limit. What works is not standing still: its limit is
    longer than its work may take.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._beats: dict[str, _Beat] = {}
        self._lock = threading.Lock()

    def beat(self, loop: str, limit: float) -> None:
        """The loop moves, and beats again within `limit` seconds."""
        with self._lock:
            self._beats[loop] = _Beat(self._monotonic(), limit)

    def end(self) -> None:
        """The loops end, as they are to: nobody waits for their beats."""
        with self._lock:
            self._beats.clear()

    def still(self) -> list[str]:
        """A sentence for each loop that stands still."""
        now = self._monotonic()
        with self._lock:
            beats = dict(self._beats)
        return [
            f"{loop} stands still for {now - beat.at:.0f} s, its limit is {beat.limit:g} s"
            for loop, beat in beats.items()
            if now - beat.at > beat.limit
        ]
