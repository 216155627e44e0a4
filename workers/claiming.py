"""What a worker claims: as much as it has room for, and first what its engine has loaded."""

from collections.abc import Callable, Set
from datetime import datetime

from msgspec.structs import replace

from statemachine import decisions
from statemachine.job import Job
from statemachine.states import State
from statemachine.store import EventStore
from statemachine.store.affinity import Affinity, loaded_after
from statemachine.store.claims import Claimant
from workers.held import Held
from workers.lane import Lane


class Claiming:
    """Asks the store for jobs. One thread at a time."""

    def __init__(
        self,
        claimant: Claimant,
        store: EventStore,
        held: Held,
        *,
        engine: Lane,
        deliver: Lane,
        engine_up: Callable[[], bool],
        resident: Callable[[], Set[str]],
        affinity: Affinity,
    ) -> None:
        self._claimant = claimant
        self._store = store
        self._held = held
        self._engine = engine
        self._deliver = deliver
        self._engine_up = engine_up
        self._resident = resident
        self._affinity = affinity

    def claim(self, now: datetime, *, expected: bool) -> list[Job]:
        """Never more than free slots + 1, nothing for a lane that is paused, or beside a job that is on trial.

        See `EventStore.claim`.
        """
        deliver, engine = self._deliver, self._engine
        in_hand = self._held.jobs()
        if deliver.paused(now) or any(decisions.on_trial(job) for job in in_hand):
            return []
        held = [job.state for job in in_hand]
        drawing = sum(state not in (State.UPLOADING, State.CALLBACK) for state in held)
        telling = sum(state is State.CALLBACK for state in held)
        # A receiver or a bucket that is down must not make the device draw more than can be delivered.
        choked = len(held) - drawing >= 4 * deliver.slots or engine.paused(now) or not self._engine_up()
        # What is claimed now is drawn after what is in hand, and meets the models that those leave behind.
        ahead = [job.model for job in in_hand if job.state not in (State.UPLOADING, State.CALLBACK)]
        return self._store.claim(
            replace(self._claimant, resident=sorted(loaded_after(self._resident(), ahead)), empty_handed=not in_hand),
            drawing=0 if choked else max(0, engine.slots + 1 - drawing),
            telling=max(0, deliver.slots + 1 - telling),
            expected=expected,
            affinity=self._affinity,
        )
