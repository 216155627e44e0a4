"""Signals: how a process learns that it is to stop."""

import os
import select
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Final

from statemachine.errors import StoreAway

PARENT_SECONDS: Final = 5.0


class Stop:
    """SIGTERM and SIGINT: the first asks to drain, the second to stop at once. So does the end of the parent, if given.

    The kernel tells of that end by SIGTERM, on Linux. Everywhere the parent is looked at every `parent_seconds` too: a
    worker has been seen to work on under no parent, its signal never heard.
    """

    def __init__(self, parent: int | None = None, *, parent_seconds: float = PARENT_SECONDS) -> None:
        self.draining = threading.Event()
        self.now = threading.Event()
        self._parent = parent
        self._parent_seconds = parent_seconds
        self._told = -1

    def listen(self) -> "Stop":
        """Take over the signals. Call from the main thread; a thread that only listens is started."""
        heard, self._told = os.pipe()
        os.set_blocking(self._told, False)
        threading.Thread(target=self._listen, args=(heard,), name="signals", daemon=True).start()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._heard)
        return self

    def request(self, *, at_once: bool = False) -> None:
        """As if a signal had come."""
        if at_once:
            self.now.set()
        self.draining.set()

    @property
    def orphaned(self) -> bool:
        """The parent that started this process is gone: nobody waits for a slow farewell."""
        return self._parent is not None and os.getppid() != self._parent

    def _heard(self, _signum: int, _frame: FrameType | None) -> None:
        # Nothing that takes a lock: the main thread, which runs this, may be inside the wait of the very same event.
        with suppress(BlockingIOError):  # so many unread signals say all there is to say
            os.write(self._told, b"!")

    def _listen(self, heard: int) -> None:
        while True:
            wait = None if self.draining.is_set() else self._parent_seconds
            if select.select([heard], [], [], wait)[0]:
                os.read(heard, 1)
                self.request(at_once=self.draining.is_set())
            elif self.orphaned:
                self.request()

    def pause(self, failures: int) -> None:
        """Wait while the database is away; raises StoreAway when the process is to stop now."""
        if self.now.wait(min(0.1 * 2.0 ** min(failures, 10), 5.0)):
            raise StoreAway("the process is stopping, and the database is still away")
