"""Requests that an engine process has not answered to the end, and when it counts as hung for one of them."""

import queue
from collections.abc import Collection
from typing import NamedTuple

from workers.engines.config import LOADING, EngineConfig
from workers.engines.messages import FromEngine
from workers.ports import EngineDied


class Outstanding:
    """One request. `answers` ends with a last message or an EngineDied. Times are monotonic seconds."""

    def __init__(self, request_id: str, now: float, limit: float) -> None:
        self.request_id = request_id
        self.answers: queue.SimpleQueue[FromEngine | EngineDied] = queue.SimpleQueue()
        self.doing = "waiting"
        self.limit = limit
        self.last = now
        self.begun: float | None = None
        self.cancelled_at: float | None = None
        self._loading_since = now

    @property
    def started(self) -> bool:
        """The device has taken it up."""
        return self.begun is not None

    @property
    def loading(self) -> bool:
        """A model is being loaded for it, which others may need as well."""
        return self.doing.startswith(LOADING)

    def does(self, doing: str, now: float, config: EngineConfig) -> None:
        """A word of it came."""
        if self.loading and self.cancelled_at is not None:
            self.cancelled_at = now
        if doing.startswith(LOADING) and not self.loading:
            self._loading_since = now
        self.doing, self.last = doing, now
        self.limit = config.load_seconds if self.loading else config.hang_limit

    def hangs(self, config: EngineConfig, *, obey_seconds: float) -> "Hang | None":
        """What ends it first; None while it only waits.

        Words alone are no work: who says for ever that it loads, or makes steps without end, is ended as well.
        """
        if self.begun is None:
            return None
        due = [
            Hang(self.last + self.limit, f"no sign of life for {self.limit:g} s while {self.doing}", self),
            Hang(self.begun + config.request_seconds, f"not done after {config.request_seconds:g} s", self),
        ]
        if self.loading:
            words = f"still {self.doing} after {config.load_seconds:g} s"
            due.append(Hang(self._loading_since + config.load_seconds, words, self))
        elif self.cancelled_at is not None:
            due.append(Hang(self.cancelled_at + obey_seconds, f"did not stop within {obey_seconds:g} s", self))
        return min(due, key=lambda hang: hang.at)


class Hang(NamedTuple):
    """When the process counts as hung, the words for it, and the request whose fault it is."""

    at: float
    words: str
    guilty: Outstanding | None


def hang(waiting: Collection[Outstanding], config: EngineConfig, last: float, *, obey_seconds: float) -> Hang | None:
    """Which limit is met first, if nothing more is heard; `last` is when anything was. None while nothing is asked."""
    due = [hang for one in waiting if (hang := one.hangs(config, obey_seconds=obey_seconds)) is not None]
    if due:
        return min(due, key=lambda hang: hang.at)
    if waiting:
        since = max(last, min(one.last for one in waiting))
        return Hang(since + config.hang_limit, f"a request was not taken up for {config.hang_limit:g} s", None)
    return None
