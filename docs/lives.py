"""Jobs that are lived step by step, written as workers write them, under a clock that goes on when told to."""

from datetime import datetime, timedelta

import msgspec

from statemachine import decisions
from statemachine import events as e
from statemachine.admission import NewJob
from statemachine.job import Job
from statemachine.states import DEVICE_STAGES, State
from statemachine.store import EventStore


class SetClock:
    """The time that it is told."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        """What it was told last."""
        return self.at

    def wait(self, seconds: float) -> None:
        """Time goes on."""
        self.at += timedelta(seconds=seconds)


class Worker(msgspec.Struct):
    """Who takes jobs up: its device is busy until `free_at` and has loaded `resident`."""

    worker_id: str
    host: str
    device: str
    models: tuple[str, ...]
    free_at: datetime
    resident: str | None = None


class Life:
    """One job in `store`, whose clock is `clock`, admitted when it is made."""

    def __init__(self, store: EventStore, clock: SetClock, new: NewJob) -> None:
        self.store = store
        self.clock = clock
        store.admit([new])
        self.job: Job = store.load(new.job_id)

    def write(self, *events: e.Event) -> "Life":
        """Append, judged as ever, in the name of who holds the job. Decisions may find that there is nothing to do."""
        if events:
            self.job = self.store.append(self.job, list(events), worker_id=self.job.worker_id)
        return self

    def wait(self, seconds: float) -> "Life":
        """Time goes on."""
        self.clock.wait(seconds)
        return self

    def claim(self, worker: Worker) -> "Life":
        """The worker takes it, when it is due and the device is free."""
        assert self.job.due_at is not None
        self.clock.at = max(self.clock.at, self.job.due_at, worker.free_at)
        told = decisions.claim(
            self.job, worker=worker.worker_id, host=worker.host, device=worker.device, version="0.1.0"
        )
        self.job = self.store.append(self.job, list(told), worker_id=worker.worker_id)
        return self

    def start(self) -> "Life":
        """The stage that is due begins."""
        device = self.job.device if self.job.state in DEVICE_STAGES else None
        return self.write(*decisions.start(self.job, device=device))

    def load(self, worker: Worker, seconds: float) -> "Life":
        """The device has the job's model, whatever it had before."""
        model = self.job.model or ""
        if worker.resident == model:
            return self
        worker.resident = model
        loaded = e.ModelLoaded(model=model, seconds=seconds, bytes=int(seconds * 1_250_000_000), digest="c0" * 32)
        return self.wait(seconds).write(loaded)

    def draw(self, seconds: float) -> "Life":
        """Every asset is made; `seconds` more on the device, counted from the last checkpoint."""
        number = int(self.job.request["num_images"])
        before = self.job.checkpoint.device_seconds if self.job.checkpoint else 0.0
        for index in range(number):
            self.wait(seconds / number).write(asset(self.job, index))
        return self.write(e.MediaGenerated(device_seconds=before + seconds, engine="diffusers"))

    def checkpoint(self, seconds: float, step: int) -> "Life":
        """After `seconds` on the device, denoising is safe up to `step`."""
        made = e.Checkpointed(step=step, of=25, name=f"latents_{step}", digest="5a" * 32, device_seconds=seconds)
        return self.wait(seconds).write(made)

    def upload(self) -> "Life":
        """Every asset is uploaded, half a second each."""
        for one in self.job.assets_to_upload:
            key = f"{self.job.user_id}/{self.job.id}_{one.index}"
            bucket = self.job.job_type or ""
            uploaded = e.AssetUploaded(index=one.index, bucket=bucket, key=key, digest=one.digest, bytes=one.bytes)
            self.wait(0.5).write(uploaded)
        return self.write(e.MediaUploaded())

    def tell(self, http_code: int | None = 200, *, ms: float = 42.0, status: str | None = None) -> "Life":
        """One request to the receiver and its answer, or none."""
        said = status or ("completed" if self.job.outcome == "completed" else "failed")
        sent = e.CallbackSent(
            status=said,
            id=f"{self.job.id}:{self.job.run}:{said}",
            delivered=http_code == 200,
            try_=len(self.job.told(said)) + 1,
            http_code=http_code,
            ms=None if http_code is None else ms,
            error="connection refused" if http_code is None else None,
        )
        return self.wait(ms / 1000).write(sent)

    def finish(self) -> "Life":
        """The run ends as its outcome says."""
        return self.write(*decisions.finish(self.job, now=self.clock.at, notified=True))

    def trouble(self, error_class: str, error_type: str, message: str, budget: int | None = None) -> "Life":
        """The attempt fails: another one later, or the end of the run."""
        return self.write(
            *decisions.trouble(
                self.job,
                error_class=error_class,
                error_type=error_type,
                message=message,
                now=self.clock.at,
                jitter=1.0,
                budget=budget,
            )
        )

    def interrupt(self, reason: str, *, by: str = "supervisor", counts: bool = True) -> "Life":
        """The lease ends without a result."""
        return self.write(*decisions.interrupt(self.job, reason=reason, by=by, now=self.clock.at, counts=counts))

    def cancel(self, by: str, reason: str) -> "Life":
        """Somebody wants no result any more."""
        return self.write(*decisions.cancel(self.job, by=by, reason=reason))

    def requeue(self, by: str, reason: str, stage: State | None = None) -> "Life":
        """Somebody starts another run."""
        return self.write(*decisions.requeue(self.job, by=by, reason=reason, stage=stage))


def asset(job: Job, index: int) -> e.AssetGenerated:
    """What the job's image or video `index` might be."""
    video = (job.job_type or "").startswith("video")
    return e.AssetGenerated(
        index=index,
        seed=(job.seed or 0) + index,
        name=f"asset_{index}.{'mp4' if video else 'png'}",
        digest=f"{index:064x}",
        bytes=(4_200_000 if video else 1_310_720) + index,
        width=480 if video else 1024,
        height=832 if video else 1024,
        frames=81 if video else 1,
        seconds=0.25,
        content_type="video/mp4" if video else "image/png",
    )
