"""What can go wrong between a caller and the history.

StatemachineError
 ├─ StoreAway          the database does not answer: nothing was acknowledged, try again later
 ├─ NotAllowed         the database's user may not do that
 ├─ SchemaMismatch     the database is of another version than this program
 ├─ UnreadableHistory  an event that only a later version can have written, or that was damaged
 ├─ UnknownJob         no job has this id, or several begin with it
 │   └─ ArchivedJob    there was one, and its history is in an archive now
 ├─ Refused            an operator's act that cannot be, as the job stands; its sentence says why
 ├─ IllegalEvent       the transition table has no row for it: a bug of the caller
 └─ Conflict
     ├─ StaleJob       another writer was first: reload, judge again, retry
     └─ FencedOut      the lease was passed on: final, stop working on this job
         └─ Forked     the history here is another one: the database was restored under a worker's hands
"""


class StatemachineError(Exception):
    """Base of all."""


class StoreAway(StatemachineError):
    """The database cannot be reached, or broke the connection in the middle."""


class NotAllowed(StatemachineError):
    """The user as whom the database is asked lacks a right: one that may only read wanted to write."""


class SchemaMismatch(StatemachineError):
    """The tables are older or newer than this program, or are not there."""


class UnreadableHistory(StatemachineError):
    """A stored event says what this version cannot understand. The job is left alone; the others go on."""


class UnknownJob(StatemachineError):
    """No job, or more than one, answers to an id or its prefix."""


class ArchivedJob(UnknownJob):
    """The job ended long ago and was archived; the sentence says when, and where to."""


class Refused(StatemachineError):
    """What an operator asked of a job is not possible, or is too late."""


class IllegalEvent(StatemachineError):
    """An event that may not happen in the state in which the job is."""

    def __init__(self, job_id: str, kind: str, from_state: str, to_state: str | None) -> None:
        wanted = f" → {to_state}" if to_state else ""
        super().__init__(f"job {job_id}: the event {kind} is not allowed in the state {from_state}{wanted}")


class Conflict(StatemachineError):
    """Another writer and this one do not agree on where the job stands."""


class StaleJob(Conflict):
    """The version is not the expected one, under a token that still holds."""

    def __init__(self, job_id: str, expected: int, found: int | None) -> None:
        super().__init__(f"job {job_id}: expected version {expected}, found {found}")
        self.job_id, self.expected, self.found = job_id, expected, found


class FencedOut(Conflict):
    """The token is no longer the job's: somebody else has, or had, the lease."""

    def __init__(self, job_id: str, token: int, found: int | None) -> None:
        super().__init__(f"job {job_id}: the lease with token {token} has ended, the job is at token {found}")
        self.job_id, self.token, self.found = job_id, token, found


class Forked(FencedOut):
    """Version and token may be the job's, but what it was judged on is not what stands in the history."""

    def __init__(self, job_id: str, token: int, version: int) -> None:
        Conflict.__init__(
            self, f"job {job_id}: at version {version} its history is not the one that this was judged on"
        )
        self.job_id, self.token, self.found = job_id, token, token
