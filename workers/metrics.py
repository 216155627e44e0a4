"""Worker metrics: one JSON for each generation, best effort and never in a job's way."""

import threading
from collections import deque
from typing import Final

import msgspec
import requests
import structlog

from workers.errors import TryAgain
from workers.generations import Generation
from workers.storage.over_http import Wire

MOST: Final = 200
"""So many wait to be told; past them the oldest are dropped."""

SECONDS: Final = 5.0
"""What telling one may take."""

log = structlog.get_logger()


class HttpMetrics:
    """Posts to one URL, each once. Any thread may call `generation`; `wait` and `tick` belong to one of their own.

    No redirect is followed and no secret is sent. What cannot be told is logged, without the URL, and forgotten.
    """

    def __init__(self, url: str, *, most: int = MOST, seconds: float = SECONDS) -> None:
        self._url = url
        self._seconds = seconds
        self._wire = Wire("the receiver of metrics")
        self._changed = threading.Condition()
        self._waiting: deque[Generation] = deque(maxlen=most)
        self._dropped = 0

    def generation(self, told: Generation) -> None:
        """See `Metrics.generation`."""
        with self._changed:
            self._dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(told)
            self._changed.notify()

    def wait(self, seconds: float) -> bool:
        """Wait until there is something to tell, or for so long."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._waiting), seconds)

    def tick(self) -> bool:
        """Tell the oldest, if there is one. True when there was."""
        with self._changed:
            if not self._waiting:
                return False
            told = self._waiting.popleft()
            dropped, self._dropped = self._dropped, 0
        if dropped:
            log.warning("metrics dropped: they are not taken as fast as they come", count=dropped)
        try:
            status = self._post(msgspec.json.encode(told))
        except TryAgain as problem:
            log.warning("metric not delivered", reason=problem.message)
        else:
            if not 200 <= status < 300:
                log.warning("metric not delivered", reason=f"{self._wire.name} answered {status}")
        return True

    def _post(self, body: bytes) -> int:
        headers = {"Content-Type": "application/json", "Connection": "close", "User-Agent": "ourvidz"}
        with self._wire.within(self._seconds):
            return self._wire.send(requests.Request("POST", self._url, headers=headers, data=body).prepare()).status
