"""`ourvidz ingress`: one blocking loop a list."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import structlog

from ourvidz import wiring
from ourvidz.processes.condition import Condition
from ourvidz.processes.lifelines import Stop
from ourvidz.processes.pulse import Pulse
from ourvidz.processes.telling import Telling
from ourvidz.settings import Settings

FIRST_BACKOFF: Final = 0.5
LONGEST_BACKOFF: Final = 30.0
LOOP_SECONDS: Final = 180.0
"""A list is looked at within this, whatever Redis and the database do."""

log = structlog.get_logger()


class Serves(Protocol):
    """An ingress as its thread sees it."""

    def serve_once(self, timeout: float, *, wait: Callable[[float], object]) -> int:
        """See `workers.ingress.Ingress.serve_once`."""


def serve(ingress: Serves, draining: threading.Event, beat: Callable[[], None] = lambda: None) -> None:
    """Serve until told to stop, whatever is raised: a list that nobody serves looks just like a quiet one."""
    failures = 0
    while not draining.is_set():
        beat()
        try:
            ingress.serve_once(1.0, wait=draining.wait)
            failures = 0
        except Exception:  # nothing that we know of; the payloads are in a list of Redis
            seconds = min(FIRST_BACKOFF * 2.0 ** min(failures, 16), LONGEST_BACKOFF)
            failures += 1
            log.exception("ingress failed: it goes on", failures=failures, again_in=seconds)
            draining.wait(seconds)


def main(settings: Settings, *, parent: int | None = None, tell: int | None = None) -> int:
    """Take jobs from both lists until told to stop. `tell` is the descriptor by which `up` hears how it is."""
    stop = Stop(parent).listen()
    store = wiring.checked_store(settings)
    ingresses = wiring.ingresses(settings, store)

    pulse = Pulse()
    threads = []
    for ingress in ingresses:
        beat = partial(pulse.beat, f"list {ingress.lists.queue}", LOOP_SECONDS)
        threads.append(threading.Thread(target=serve, args=(ingress, stop.draining, beat), daemon=True))
    for thread in threads:
        thread.start()
    log.info("ingress up", lists=[ingress.lists.queue for ingress in ingresses])

    def condition() -> Condition:
        return Condition(still=pulse.still(), unready=["draining"] if stop.draining.is_set() else [])

    with Telling.of(settings, condition, parent=tell) as telling:
        stop.draining.wait()
        pulse.end()
        telling.stopping()
        for thread in threads:
            thread.join(timeout=10)
    for ingress in ingresses:
        ingress.close()
    store.close()
    log.info("ingress down")
    return 0
