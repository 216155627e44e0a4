"""The engine process as its parent sees it: started when needed, watched, replaced when it dies. Imports no torch."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from workers.engine_child import OBEY_SECONDS, Child
from workers.engines.config import EngineConfig
from workers.engines.messages import (
    Enhance,
    Enhanced,
    Failed,
    FromEngine,
    Generate,
    Generated,
    Ready,
    Shutdown,
)
from workers.outstanding import Outstanding
from workers.ports import EngineDied

log = logging.getLogger(__name__)

BACKOFF_SECONDS: Final = 0.5
"""After the first death before Ready; doubled for each further one in a row."""

BACKOFF_LIMIT: Final = 60.0


class EngineProcess:
    """One engine process on one device; implements `workers.ports.Engine`. Thread-safe.

    A keeper thread of its own starts the process and lives as long as this object: on Linux the process is killed
    when the thread that started it ends. The same thread reads all answers and watches the limits. Nothing is
    started before the first call of `ready` or `run`.
    """

    def __init__(self, config: EngineConfig, *, obey_seconds: float = OBEY_SECONDS) -> None:
        self.config = config
        self._obey_seconds = obey_seconds
        self._changed = threading.Condition()
        self._child: Child | None = None
        self._keeper: threading.Thread | None = None
        self._wanted = False
        self._closed = False
        self._failed_starts = 0
        self._failure = ("engine crashed", "")
        self._failures_in_a_row = 0
        self._not_before = 0.0
        self._wake_read, self._wake_write = os.pipe()
        self._pipes = [self._wake_read, self._wake_write]
        os.set_blocking(self._wake_write, False)

    @property
    def pid(self) -> int | None:
        """The process that runs now, or None."""
        child = self._child
        return child.process.pid if child is not None else None

    @property
    def up(self) -> bool:
        """A process runs and has said that it is ready."""
        child = self._child
        return child is not None and child.ready is not None

    @property
    def resident(self) -> frozenset[str]:
        """The models that it said it has loaded and has not said it released, on the device or in memory beside it."""
        child = self._child
        return child.resident if child is not None else frozenset()

    def ready(self) -> Ready:
        """What runs there. Waits until it does; raises `EngineDied` when it cannot start or `close` was called."""
        with self._changed:
            return self._living()[1]

    def run(self, request: Generate | Enhance) -> Iterator[FromEngine]:
        """See `workers.ports.Engine.run`. The request is handed over now, not when the iterator is first asked.

        Waits for a process that is just starting. Leaving the iterator before its end cancels the request. Raises
        ValueError when a request of that id is with the process already.
        """
        with self._changed:
            child, _ = self._living()
            outstanding = child.register(request.request_id)
            self._wake()  # now there is a limit to watch
        child.send(request)
        return self._answers(outstanding)

    def cancel(self, request_id: str, *, keep: bool = False) -> None:
        """See `workers.ports.Engine.cancel`. A process that does not stop within its limit is killed."""
        with self._changed:
            child = self._child
            outstanding = None if child is None else child.outstanding.get(request_id)
        if child is not None and outstanding is not None:
            child.withdraw(outstanding, keep=keep)
            self._wake()  # now there is a limit to watch

    def close(self, *, seconds: float = 10.0) -> None:
        """End the process: politely, after `seconds` by SIGTERM, after two more by SIGKILL. Safe to call twice.

        The request on the device may finish within that time; every other ends in EngineDied "engine stopped".
        """
        with self._changed:
            self._closed = True
            child, keeper = self._child, self._keeper
            if child is not None:
                child.closing = True
            self._changed.notify_all()
        if keeper is not None and child is not None:
            child.send(Shutdown())
            keeper.join(seconds if child.ready is not None else 0.0)
            for stop in (child.process.terminate, child.process.kill):
                if keeper.is_alive():
                    stop()
                    keeper.join(2.0)
        if keeper is not None:
            keeper.join(5.0)
            if keeper.is_alive():
                log.warning("the engine process cannot be reaped: it is left to the kernel")
                return
        with self._changed:
            while self._pipes:
                os.close(self._pipes.pop())

    def _answers(self, outstanding: Outstanding) -> Iterator[FromEngine]:
        done = False
        try:
            while not done:
                message = outstanding.answers.get()
                done = isinstance(message, Generated | Enhanced | Failed | EngineDied)
                if isinstance(message, EngineDied):
                    raise message
                yield message
        finally:
            if not done:
                self.cancel(outstanding.request_id)

    def _living(self) -> tuple[Child, Ready]:
        """The process, started if it is not there and waited for. Call with the lock held. Raises EngineDied."""
        seen = self._failed_starts
        while True:
            if self._closed:
                raise EngineDied("engine stopped", "the worker closed it", started=False)
            if self._child is not None and self._child.ready is not None:
                return self._child, self._child.ready
            if self._failed_starts > seen:
                raise EngineDied(*self._failure, started=False)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="engine-keeper", daemon=True)
                self._keeper.start()
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full of wake-ups: one more says nothing new
            os.write(self._wake_write, b"\0")

    def _keep(self) -> None:
        """The keeper thread. Without it nothing would be started or answered, so its end is told to everybody."""
        try:
            self._serve()
        finally:
            with self._changed:
                self._closed = True
                for outstanding in list(self._child.outstanding.values()) if self._child is not None else []:
                    death = EngineDied("engine stopped", "its keeper has ended", started=outstanding.started)
                    outstanding.answers.put(death)
                self._changed.notify_all()

    def _serve(self) -> None:
        """One process after another, as long as somebody asks for them."""
        while self._wait_until_wanted():
            try:
                child = Child(self.config, self._wake_read, obey_seconds=self._obey_seconds)
            except OSError as error:
                self._start_failed("engine crashed", f"it could not be started: {error}")
                continue
            log.debug("engine process %d started for %s", child.process.pid, self.config.device_key)
            with self._changed:
                self._child = child
                child.closing = self._closed
            if child.closing:
                child.process.kill()
            child.watch(self._on_ready)
            self._bury(child)

    def _wait_until_wanted(self) -> bool:
        with self._changed:
            while not self._closed:
                pause = self._not_before - time.monotonic()
                if self._wanted and pause <= 0:
                    self._wanted = False
                    return True
                self._changed.wait(pause if self._wanted else None)
            return False

    def _on_ready(self) -> None:
        with self._changed:
            self._failures_in_a_row = 0
            self._changed.notify_all()

    def _start_failed(self, reason: str, detail: str) -> None:
        with self._changed:
            self._failures_in_a_row += 1
            self._failed_starts += 1
            self._failure = (reason, detail)
            pause = min(BACKOFF_LIMIT, BACKOFF_SECONDS * 2 ** (self._failures_in_a_row - 1))
            self._not_before = time.monotonic() + pause
            self._wanted = False
            self._changed.notify_all()

    def _bury(self, child: Child) -> None:
        """Tell everybody who waited for it, and how long to leave its successor alone."""
        reason, detail = child.death()
        log.info("engine process %d is gone: %s: %s", child.process.pid, reason, detail)
        with self._changed:
            self._child = None
            if child.ready is None:
                self._start_failed(reason, detail)
            for outstanding in child.outstanding.values():
                blameless = child.blameless(outstanding)
                outstanding.answers.put(EngineDied(reason, detail, started=outstanding.started, blameless=blameless))
            child.outstanding.clear()
            self._changed.notify_all()
