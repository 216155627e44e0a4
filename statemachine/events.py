"""The facts of a job's life, one class a kind.

`kind` is what the database holds: it outlives class names and is never renamed. Fields may be added with a
default; any other change of shape is a new kind, and an upcast of the old one in `upcasts`. Times inside `data` are
ISO-8601 in UTC; durations are seconds; sizes are bytes.
"""

from typing import Any, ClassVar, Final

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all kinds. Its fields are the `data` column of `job_events`."""

    kind: ClassVar[str]


class JobQueued(Event, frozen=True):
    """A payload was accepted. What was asked and what was resolved; personal content stands in `job_payloads`."""

    kind: ClassVar[str] = "job_queued"
    payload_digest: str
    job_type: str | None
    user_id: str | None
    queue: str
    source: str
    stages: list[str]
    model: str | None = None
    priority: int = 0
    turn: int = 0
    seed: int | None = None
    request: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    disagreements: list[str] = []
    content_digest: str | None = None
    created_at: str | None = None


class Claimed(Event, frozen=True):
    """A worker of that version took the lease; `token` fences off everyone before it."""

    kind: ClassVar[str] = "claimed"
    worker: str
    host: str
    device: str
    token: int
    version: str | None = None


class StageStarted(Event, frozen=True):
    """An attempt at a stage began. `stage` and `attempt` stand in the envelope's columns too."""

    kind: ClassVar[str] = "stage_started"
    stage: str
    attempt: int
    device: str | None = None


class RefsFetched(Event, frozen=True):
    """Every reference that the job goes on with is in the spool.

    Of each: role, host, bytes (of the file that came), width, height, name, digest (of the file in the spool),
    source_digest (of the file that came), notes.
    """

    kind: ClassVar[str] = "refs_fetched"
    references: list[dict[str, Any]] = []


class PromptEnhanced(Event, frozen=True):
    """The enhancer's text was accepted. The text itself stands in `job_payloads`."""

    kind: ClassVar[str] = "prompt_enhanced"
    digest: str
    seconds: float
    tokens: int | None = None
    model: str | None = None


class EnhancementSkipped(Event, frozen=True):
    """The original prompt is used, and why."""

    kind: ClassVar[str] = "enhancement_skipped"
    reason: str


class ModelLoaded(Event, frozen=True):
    """The device loaded a model for this job."""

    kind: ClassVar[str] = "model_loaded"
    model: str
    seconds: float
    bytes: int
    digest: str | None = None


class ModelMoved(Event, frozen=True):
    """Parts of a model changed their place for this job: to the device, to the host's memory, or they were released."""

    kind: ClassVar[str] = "model_moved"
    model: str
    parts: list[str]
    to: str
    seconds: float
    bytes: int


class Checkpointed(Event, frozen=True):
    """Denoising is safe up to `step` of `of`: the file `name` with `digest` is in the spool."""

    kind: ClassVar[str] = "checkpointed"
    step: int
    of: int
    name: str
    digest: str
    device_seconds: float = 0.0


class CheckpointDiscarded(Event, frozen=True):
    """A stored checkpoint is of no use, and why: denoising goes on from an older one, or begins anew."""

    kind: ClassVar[str] = "checkpoint_discarded"
    name: str
    reason: str


class AssetGenerated(Event, frozen=True):
    """One picture or video is in the spool, whole, under `name`."""

    kind: ClassVar[str] = "asset_generated"
    index: int
    seed: int
    name: str
    digest: str
    bytes: int
    width: int
    height: int
    frames: int = 1
    seconds: float = 0.0
    content_type: str = "image/png"


class MediaGenerated(Event, frozen=True):
    """All assets of the job are in the spool. `reference_way` says how references were used; None without one."""

    kind: ClassVar[str] = "media_generated"
    device_seconds: float
    engine: str
    model_digest: str | None = None
    memory: dict[str, float] = {}
    versions: dict[str, str] = {}
    render_scale: str | None = None
    threads: int | None = None
    batches: list[int] = []
    reference_way: str | None = None


class AssetUploaded(Event, frozen=True):
    """One asset is in its bucket."""

    kind: ClassVar[str] = "asset_uploaded"
    index: int
    bucket: str
    key: str
    digest: str
    bytes: int
    url: str | None = None


class MediaUploaded(Event, frozen=True):
    """All assets are in their bucket: the run's outcome is `completed`."""

    kind: ClassVar[str] = "media_uploaded"


class AssetsLost(Event, frozen=True):
    """The spool lost a file before it was uploaded; the seed is in the history, so it is made again."""

    kind: ClassVar[str] = "assets_lost"
    missing: list[str]
    reason: str


class ReferencesLost(Event, frozen=True):
    """A reference that is to be drawn with is not in the spool, or never was; `missing` names the roles."""

    kind: ClassVar[str] = "references_lost"
    missing: list[str]
    reason: str


class CallbackSent(Event, frozen=True):
    """One request to the receiver and what it answered."""

    kind: ClassVar[str] = "callback_sent"
    status: str
    id: str
    delivered: bool
    try_: int = msgspec.field(name="try")
    http_code: int | None = None
    ms: float | None = None
    answer: str | None = None
    error: str | None = None


class Degraded(Event, frozen=True):
    """The job goes on with less than was asked: what, and why."""

    kind: ClassVar[str] = "degraded"
    what: str
    why: str


class RetryScheduled(Event, frozen=True):
    """This attempt failed; the stage is due again at `resume_at`."""

    kind: ClassVar[str] = "retry_scheduled"
    error_class: str
    error_type: str
    message: str
    delay: float
    attempt: int
    budget: int
    resume_at: str
    token: int


class Interrupted(Event, frozen=True):
    """The lease ended without a result of the stage. `token` fences off whoever held it."""

    kind: ClassVar[str] = "interrupted"
    reason: str
    by: str
    token: int
    error_class: str = "crash"
    detail: str | None = None
    counts: bool = True


class CancelRequested(Event, frozen=True):
    """An operator or the producer wants no result any more."""

    kind: ClassVar[str] = "cancel_requested"
    by: str
    reason: str


class OutcomeDecided(Event, frozen=True):
    """The run failed or was cancelled. Stored before the receiver is told."""

    kind: ClassVar[str] = "outcome_decided"
    outcome: str
    error_class: str
    error_type: str
    message: str


class JobCompleted(Event, frozen=True):
    """The run ended well and its receiver knows."""

    kind: ClassVar[str] = "job_completed"
    total_seconds: float
    notified: bool = True


UNDELIVERABLE: Final = "CallbackUndeliverable"
"""The `error_type` of a run of which only the telling failed."""


class JobFailed(Event, frozen=True):
    """The run ended badly. `error_type` is `CallbackUndeliverable` when only the telling failed."""

    kind: ClassVar[str] = "job_failed"
    error_class: str
    error_type: str
    message: str
    total_seconds: float
    notified: bool = True


class JobCancelled(Event, frozen=True):
    """The run was given up on request."""

    kind: ClassVar[str] = "job_cancelled"
    by: str
    reason: str
    total_seconds: float
    notified: bool = True


class Requeued(Event, frozen=True):
    """An operator starts a new run of a finished job at `stage`.

    One at `callback` tells the outcome of the run before it, under the id that this had; `as_new`: under a new one.
    """

    kind: ClassVar[str] = "requeued"
    by: str
    reason: str
    run: int
    stage: str
    as_new: bool = False


class ContentErased(Event, frozen=True):
    """An operator had what is personal removed from the database: the payload, prompts, references' URLs, dead letters.

    `files` are those that are to go from storage as well, each with bucket, key and, where one is known, digest.
    """

    kind: ClassVar[str] = "content_erased"
    by: str
    reason: str
    files: list[dict[str, Any]] = []


class FilesRemoved(Event, frozen=True):
    """Nothing is left in storage of the files that `content_erased` names. By whoever had it done in the end."""

    kind: ClassVar[str] = "files_removed"
    by: str


class Unknown(Event, frozen=True):
    """A kind that this version does not know, kept as it was stored."""

    kind: ClassVar[str] = "unknown"
    stored_kind: str
    stored_data: str


KINDS: Final[dict[str, type[Event]]] = {cls.kind: cls for cls in Event.__subclasses__() if cls is not Unknown}
"""Stored kind → class."""
