"""What a stage handler may use. One `Tools` is made for each attempt; nothing in it outlives the attempt."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from statemachine.errors import FencedOut
from statemachine.events import Event
from statemachine.job import Asset, Job
from workers.policy import Policy, refusal
from workers.ports import Bucket, Clock, Engine, Receiver, References
from workers.spool import Spool

LEAST_SECONDS: Final = 0.5
"""With less of the lease left than this, no outside effect is begun."""


class Recorder(Protocol):
    """The store as an attempt sees it."""

    def record(self, job: Job, events: list[Event], *, personal: dict[str, Any] | None = None) -> Job:
        """Append and return the job as it then stands. Raises FencedOut when the lease was passed on.

        `personal` is merged into the job's content in `job_payloads` in the same transaction.
        """

    def renew(self, job: Job) -> float:
        """Renew the lease and return the seconds that are left of it by now. Raises FencedOut when it was passed on."""

    def content(self, job: Job) -> dict[str, Any]:
        """The job's personal content: prompt, negative_prompt, references, enhanced_prompt."""

    def progress(self, job: Job, progress: dict[str, Any]) -> None:
        """Tell people how far the attempt is. Best effort, never in the job's way, not part of the history."""


@dataclass(frozen=True)
class StageSettings:
    """What handlers are told by the operator."""

    callback_configured: bool = True
    callback_seconds: float = 20.0
    processing_seconds: float = 3.0
    upload_seconds: float = 120.0
    asset_urls: Literal["path", "public", "signed"] = "path"
    signed_url_seconds: int = 86_400
    signing_seconds: float = 10.0
    on_missing_reference: Literal["fail", "generate_without"] = "fail"
    reference_fit: Literal["letterbox", "crop"] = "crop"
    reference_seconds: float = 30.0
    enhance_seconds: float = 60.0
    enhance_tokens: int = 200
    embed_prompt: bool = True
    checkpoint_seconds: float | None = 15.0


@dataclass
class Tools:
    """The ports and the job at hand. `job` moves on with every `record`."""

    job: Job
    recorder: Recorder
    clock: Clock
    spool: Spool
    bucket: Bucket
    receiver: Receiver
    references: References
    engine: Engine
    settings: StageSettings
    draw: Callable[[], float]
    policy: Policy = refusal
    _content: dict[str, Any] | None = field(default=None)

    def record(self, *events: Event, personal: dict[str, Any] | None = None) -> Job:
        """Append `events` now. An effect is recorded after it happened, never before."""
        self.job = self.recorder.record(self.job, list(events), personal=personal)
        if personal is not None:
            self._content = None
        return self.job

    def renew(self, *, at_most: float) -> float:
        """Renew the lease before an outside effect, and return its time limit in seconds.

        Fencing does not guard a PUT or a POST: the effect must be over before the lease can pass on. A process that
        stood still while it renewed is told FencedOut, as if the lease were gone: nobody knows that it is not.
        """
        left = self.recorder.renew(self.job)
        if left < LEAST_SECONDS:
            raise FencedOut(self.job.id, self.job.token, None)
        return min(at_most, left * 0.8)

    def in_spool(self, name: str, digest: str) -> bool:
        """Whether the job has this file, and it is what the history says."""
        try:
            self.spool.read(self.job.id, name, digest)
        except FileNotFoundError:
            return False
        return True

    def finished(self) -> list[Asset]:
        """The assets of this run that are not drawn again: uploaded, or in the spool."""
        return [
            asset
            for asset in self.job.current_assets
            if asset.key is not None or self.in_spool(asset.name, asset.digest)
        ]

    @property
    def content(self) -> dict[str, Any]:
        """The job's personal content, read once an attempt."""
        if self._content is None:
            self._content = self.recorder.content(self.job)
        return self._content

    def now(self) -> datetime:
        """The time that goes into events."""
        return self.clock.now()
