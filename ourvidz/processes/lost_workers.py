"""What `up` does for the jobs of a worker that has died: their leases need not run out, since it saw the end."""

import queue
import threading
from contextlib import closing
from typing import Final

import structlog

from ourvidz import wiring
from ourvidz.settings import Settings
from statemachine.errors import StoreAway
from statemachine.store import open_store
from workers.lifeline import ending

LONGEST_BACKOFF: Final = 5.0

log = structlog.get_logger()


class LostWorkers:
    """A thread of its own, since a database that is away must not keep `up` from looking after its children."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dead: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="lost workers", daemon=True)
        self._thread.start()

    def mourn(self, worker_id: str, code: int) -> None:
        """Hand back what this worker held, as soon as the database answers."""
        self._dead.put((worker_id, code))

    def close(self, *, seconds: float = 5.0) -> None:
        """Wait for what is being handed back; what cannot be by then runs out by itself."""
        self._dead.put(None)
        self._thread.join(seconds)
        self._over.set()

    def _serve(self) -> None:
        while (dead := self._dead.get()) is not None:
            worker_id, code = dead
            failures = 0
            while not self._hand_back(worker_id, ending(code)):
                failures += 1
                if self._over.wait(min(0.1 * 2.0 ** min(failures, 10), LONGEST_BACKOFF)):
                    return

    def _hand_back(self, worker_id: str, how: str) -> bool:
        """False where the database is away."""
        try:
            with closing(open_store(self._settings.database_url)) as store:
                ended = wiring.supervisor(self._settings, store).worker_died(worker_id, how)
        except StoreAway as error:
            log.warning("database away", thread="lost workers", reason=str(error))
            return False
        except Exception:  # one that nobody foresaw must not keep the next one's jobs waiting
            log.exception("leases not handed back: they run out by themselves", worker=worker_id)
            return True
        log.info("leases of a dead worker handed back", worker=worker_id, how=how, jobs=ended)
        return True
