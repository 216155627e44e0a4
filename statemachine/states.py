"""The states of a job. A state names the stage that is due; being worked on is a lease, never a state."""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a job stands. Values are stored and never renamed."""

    QUEUED = "queued"
    FETCHING_REFS = "fetching_refs"
    ENHANCING = "enhancing"
    GENERATING = "generating"
    UPLOADING = "uploading"
    CALLBACK = "callback"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Nothing but an operator's `requeued` leaves a terminal state."""
        return self in TERMINAL


TERMINAL: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})
LIVE: Final = tuple(state for state in State if state not in TERMINAL)
STAGES: Final = tuple(state for state in LIVE if state is not State.QUEUED)
"""The states that have work of their own, in the order in which a job walks them."""
DEVICE_STAGES: Final = (State.ENHANCING, State.GENERATING)
"""Those that need a device."""


class Outcome(StrEnum):
    """What became of a run. Decided and stored before the callback that tells of it."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
