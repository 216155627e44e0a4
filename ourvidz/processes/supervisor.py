"""`ourvidz supervisor`: look at the leases, again and again."""

import structlog

from ourvidz import wiring
from ourvidz.processes.lifelines import Stop
from ourvidz.settings import Settings

log = structlog.get_logger()


def main(settings: Settings, *, parent: int | None = None) -> int:
    """End leases that nobody renews, until told to stop. Any number of these may run."""
    stop = Stop(parent).listen()
    store = wiring.checked_store(settings)
    supervisor = wiring.supervisor(settings, store)
    log.info("supervisor up", lease_seconds=settings.lease_seconds)
    while not stop.draining.wait(min(settings.lease_seconds / 6, 2.0)):
        supervisor.tick()
    store.close()
    log.info("supervisor down")
    return 0
