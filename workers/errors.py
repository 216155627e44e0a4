"""How a stage ends when it does not end in events.

StageEnds
 ├─ TryAgain        the same work may go well later (transient, device_memory)
 ├─ GiveUp          it never will: permanent
 └─ Misconfigured   nothing is wrong with the job: the lane pauses, the job keeps its budget
"""


class StageEnds(Exception):
    """Base. Every one carries the class for the budget, a type for the callback and one sentence."""

    error_class = "permanent"

    def __init__(self, message: str, *, error_type: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.error_type = error_type or type(self).__name__


class TryAgain(StageEnds):
    """Worth another try after a backoff, or after `retry_after` seconds when the other side said so."""

    error_class = "transient"

    def __init__(
        self,
        message: str,
        *,
        error_type: str | None = None,
        error_class: str = "transient",
        retry_after: float | None = None,
        budget: int | None = None,
    ) -> None:
        super().__init__(message, error_type=error_type)
        self.error_class = error_class
        self.retry_after = retry_after
        self.budget = budget


class GiveUp(StageEnds):
    """No other try would help."""


class Misconfigured(StageEnds):
    """Credentials, a missing bucket, a full disk, a missing model: somebody has to mend the set-up."""

    error_class = "misconfiguration"
