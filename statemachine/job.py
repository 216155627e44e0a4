"""The job as a value: what its events so far add up to."""

from datetime import datetime
from typing import Any, Final

import msgspec

from statemachine import events as e
from statemachine.states import Outcome, State


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `job_events`: an event in its envelope. `data` is the canonical text that the digest covers."""

    job_id: str
    version: int
    kind: str
    from_state: State | None
    to_state: State
    run: int
    stage: str | None
    attempt: int | None
    worker_id: str | None
    at: datetime
    data: str
    digest: str
    event: e.Event


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one stage. `due_at` is when it could have begun; `outcome` is None while it runs.

    `device_seconds` is known of ended attempts at stages that need a device: as measured where the stage succeeded, all
    the time that it ran otherwise. `wasted_seconds` is the part of it whose result nobody could go on from.
    """

    run: int
    stage: State
    attempt: int
    worker_id: str | None
    host: str | None
    device: str | None
    token: int
    due_at: datetime
    started_at: datetime
    ended_at: datetime | None = None
    outcome: str | None = None
    error_class: str | None = None
    error_type: str | None = None
    message: str | None = None
    delay: float | None = None
    counts: bool = True
    device_seconds: float | None = None
    wasted_seconds: float | None = None

    @property
    def wait_seconds(self) -> float:
        """From due to begun."""
        return (self.started_at - self.due_at).total_seconds()

    @property
    def run_seconds(self) -> float | None:
        """From begun to ended; None while it runs."""
        return None if self.ended_at is None else (self.ended_at - self.started_at).total_seconds()


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One picture or video of a run: made, and perhaps uploaded."""

    run: int
    index: int
    seed: int
    name: str
    digest: str
    bytes: int
    width: int
    height: int
    frames: int
    content_type: str
    seconds: float
    bucket: str | None = None
    key: str | None = None
    url: str | None = None
    uploaded_at: datetime | None = None


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """One callback request that was made: the job's event number `version`."""

    version: int
    run: int
    status: str
    id: str
    try_: int
    at: datetime
    delivered: bool
    http_code: int | None
    ms: float | None
    answer: str | None
    error: str | None
    worker_id: str | None


class ModelChange(msgspec.Struct, frozen=True, kw_only=True):
    """A device loaded a model, or moved parts of it, for the job: its event number `version`.

    `place` is where it is now: `device` after a load, or as the engine calls it.
    """

    version: int
    run: int
    kind: str
    model: str
    place: str
    seconds: float
    bytes: int
    digest: str | None
    worker_id: str | None
    device: str | None
    at: datetime


CHECKPOINTS_KEPT: Final = 2
"""The last one, and the one before it in case that its file turns out to be rotten."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where denoising can go on: step, file and its digest."""

    step: int
    of: int
    name: str
    digest: str
    device_seconds: float


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run did not end as wished, or what its last failed attempt met."""

    error_class: str
    error_type: str
    message: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided of a run, whatever became of the telling. The receiver is told of it in the name of `run`.

    It outlives its run: who only tells again, tells the same. `worker_version` is that of the worker which had the job
    last when it was decided, or else of the first one that had it then.
    """

    outcome: Outcome
    error: Error | None
    run: int
    begun_at: datetime
    at: datetime
    worker_version: str | None = None

    @property
    def seconds(self) -> float:
        """From ingress (or the operator's `requeued`) to the outcome."""
        return round((self.at - self.begun_at).total_seconds(), 3)


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """Who had the personal content removed, when and why; `files_removed_at` is None while storage may have some."""

    by: str
    reason: str
    at: datetime
    files: tuple[dict[str, Any], ...]
    files_removed_at: datetime | None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job after its first `version` events. Version, digest and token ride along: no write without them.

    `lost_waiting` is how often a worker died with it in hand before it had begun the stage that is due.
    `device_base` is the device time that stood behind the open attempt when it began, `device_kept` what of its own is
    safe by now.
    """

    id: str
    version: int = 0
    digest: str = ""
    state: State = State.QUEUED
    outcome: Outcome | None = None
    run: int = 1
    token: int = 0
    worker_id: str | None = None
    host: str | None = None
    device: str | None = None
    worker_version: str | None = None
    lost_waiting: int = 0
    resume_at: datetime | None = None
    job_type: str | None = None
    user_id: str | None = None
    queue: str = ""
    source: str = ""
    model: str | None = None
    priority: int = 0
    turn: int = 0
    seed: int | None = None
    payload_digest: str = ""
    content_digest: str | None = None
    enhanced_digest: str | None = None
    enhancement_skipped: str | None = None
    stages: tuple[State, ...] = ()
    request: dict[str, Any] = {}
    attempts: tuple[Attempt, ...] = ()
    assets: tuple[Asset, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    model_changes: tuple[ModelChange, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    device_base: float = 0.0
    device_kept: float = 0.0
    references: tuple[dict[str, Any], ...] = ()
    degraded: tuple[tuple[str, str], ...] = ()
    media: e.MediaGenerated | None = None
    cancel_by: str | None = None
    cancel_reason: str | None = None
    error: Error | None = None
    verdict: Verdict | None = None
    erased: Erasure | None = None
    created_at: datetime | None = None
    queued_at: datetime | None = None
    run_at: datetime | None = None
    due_at: datetime | None = None
    started_at: datetime | None = None
    outcome_at: datetime | None = None
    finished_at: datetime | None = None
    last_at: datetime | None = None

    @property
    def cancel_pending(self) -> bool:
        """Somebody asked for the end of this run, and nothing is decided yet."""
        return self.cancel_by is not None and self.outcome is None

    @property
    def only_tells(self) -> bool:
        """This run tells of an earlier one's outcome, and nothing else."""
        return self.verdict is not None and self.verdict.begun_at != self.run_at

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt that is running, if one is."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.ended_at is None else None

    def tries(self, stage: State) -> list[Attempt]:
        """The attempts at `stage` in this run, oldest first."""
        return [attempt for attempt in self.attempts if attempt.run == self.run and attempt.stage is stage]

    @property
    def current_assets(self) -> list[Asset]:
        """The assets of this run that are believed to be in the spool or uploaded, by index."""
        return sorted((asset for asset in self.assets if asset.run == self.run), key=lambda asset: asset.index)

    @property
    def assets_to_upload(self) -> list[Asset]:
        """Made, and no event says that they are uploaded."""
        return [asset for asset in self.current_assets if asset.key is None]

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last one that is kept: where denoising goes on."""
        return self.checkpoints[-1] if self.checkpoints else None

    @property
    def spooled(self) -> bool:
        """The job goes on from files that its history tells of, in the spool of who made them."""
        match self.state:
            case State.FETCHING_REFS | State.ENHANCING | State.GENERATING:
                return bool(self.references or self.checkpoints or self.assets_to_upload)
            case State.UPLOADING:
                return bool(self.assets_to_upload)
            case _:
                return False

    def told(self, status: str) -> list[Callback]:
        """The callback requests of this run with that status."""
        return [call for call in self.callbacks if call.run == self.run and call.status == status]
