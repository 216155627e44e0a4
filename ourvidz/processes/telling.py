"""The thread that tells how a process is: `up` its parent, systemd, and whoever asks over HTTP."""

import os
import threading
from types import TracebackType
from typing import Final, Self

from ourvidz.processes.condition import ToParent
from ourvidz.processes.health import Ask, Health
from ourvidz.processes.notify import Notify
from ourvidz.settings import Settings

TELL_SECONDS: Final = 1.0


class Telling:
    """A context: as long as it is open, everybody who wants to know hears how the process is.

    systemd hears READY=1 once, when the process is ready for the first time, and WATCHDOG=1 only while it is live:
    one whose loops stand still is thereby killed and started anew.
    """

    def __init__(
        self, ask: Ask, *, notify: Notify, parent: ToParent | None = None, health: Health | None = None
    ) -> None:
        self._ask = ask
        self._notify = notify
        self._parent = parent
        self._health = health
        self._over = threading.Event()
        self._was_ready = False
        self._status = ""
        self._thread = threading.Thread(target=self._tell, name="telling", daemon=True)

    @classmethod
    def of(cls, settings: Settings, ask: Ask, *, parent: int | None = None) -> Self:
        """As settings and environment say. `parent` is the descriptor by which `up` hears us.

        Raises SettingsError for a health address that cannot be had.
        """
        health = None if settings.health_address is None else Health(settings.health_address, ask)
        channel = None if parent is None else ToParent(parent)
        return cls(ask, notify=Notify.of(os.environ, os.getpid()), parent=channel, health=health)

    def tell(self) -> None:
        """Once, now."""
        condition = self._ask()
        if self._parent is not None:
            self._parent.tell(condition)
        lines = []
        if condition.ready and not self._was_ready:
            self._was_ready = True
            lines.append("READY=1")
        if condition.live and self._notify.watchdog is not None:
            lines.append("WATCHDOG=1")
        status = "; ".join(filter(None, [*condition.still, *condition.unready, condition.status]))
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if lines:
            self._notify.say(*lines)

    def stopping(self) -> None:
        """The process was told to stop, and drains."""
        self._notify.say("STOPPING=1")

    def _tell(self) -> None:
        watchdog = self._notify.watchdog
        seconds = TELL_SECONDS if watchdog is None else min(TELL_SECONDS, watchdog / 2)
        while not self._over.wait(seconds):
            self.tell()

    def __enter__(self) -> Self:
        self.tell()
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._notify.close()
        for door in (self._parent, self._health):
            if door is not None:
                door.close()
