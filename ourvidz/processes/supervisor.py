"""`ourvidz supervisor`: look at the leases, again and again, anchor what was written, and roll up days."""

from typing import Final

import structlog

from ourvidz import wiring
from ourvidz.processes.condition import Condition
from ourvidz.processes.lifelines import Stop
from ourvidz.processes.pulse import Pulse
from ourvidz.processes.telling import Telling
from ourvidz.settings import Settings

LOOP_SECONDS: Final = 120.0
"""All leases are looked at within this."""

log = structlog.get_logger()


def main(settings: Settings, *, parent: int | None = None, tell: int | None = None) -> int:
    """End leases that nobody renews, anchor the history and roll up days, until told to stop. Any number may run.

    `tell` is the descriptor by which `up` hears how it is.
    """
    stop = Stop(parent).listen()
    store = wiring.checked_store(settings)
    supervisor = wiring.supervisor(settings, store)
    anchoring = wiring.anchoring(settings, store)
    rolling = wiring.rolling(store)
    log.info("supervisor up", lease_seconds=settings.lease_seconds)
    pulse = Pulse()
    pulse.beat("leases", LOOP_SECONDS)

    def condition() -> Condition:
        return Condition(still=pulse.still(), unready=["draining"] if stop.draining.is_set() else [])

    with Telling.of(settings, condition, parent=tell) as telling:
        while not stop.draining.wait(min(settings.lease_seconds / 6, 2.0)):
            supervisor.tick()
            anchoring.tick()
            rolling.tick()
            pulse.beat("leases", LOOP_SECONDS)
        telling.stopping()
    store.close()
    log.info("supervisor down")
    return 0
