"""Jobs of several fates, made by the real decisions under a clock that only goes on when told to."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ourvidz.inspect.situation import Situation
from statemachine import decisions
from statemachine import events as e
from statemachine.admission import NewJob
from statemachine.job import Job, Stored
from statemachine.store.chain import check
from statemachine.store.codec import canonical, seal_all
from statemachine.store.reading import Ahead
from workers.arrivals import build_payload, read

START: Final = datetime(2026, 7, 5, 12, 0, 0, tzinfo=UTC)
JOB: Final = "7f3a0c1e-5b7d-4c7e-9a51-2f1f6c9d0e11"
USER: Final = "0b9d6a52-1c55-4a44-8d0e-5d3c3f6f7a90"
WORKER: Final = "gpu-1-3f9c"


class Life:
    """One job, lived step by step."""

    def __init__(self, *, num_images: int = 3, job_type: str = "sdxl_image_fast") -> None:
        self.now = START
        payload = build_payload(
            job_type,
            "a heron at dawn, mist over the reeds",
            num_images=num_images,
            seed=42,
            user_id=USER,
            job_id=JOB,
            created_at=START - timedelta(seconds=4),
        )
        new = read(canonical(payload).encode(), queue="sdxl_queue", source="redis", now=START, draw_seed=lambda: 42)
        assert isinstance(new, NewJob)
        self.content: dict[str, Any] = new.content or {}
        self.history: list[Stored] = []
        self.job = Job(id=JOB)
        self.lease: dict[str, Any] | None = None
        self.write(*new.events)

    def write(self, *events: e.Event) -> "Life":
        """Append, judged as ever."""
        rows, self.job = seal_all(self.job, list(events), worker_id=self.job.worker_id, at=self.now)
        self.history += rows
        return self

    def wait(self, seconds: float) -> "Life":
        """Time goes on."""
        self.now += timedelta(seconds=seconds)
        return self

    def claim(self, worker: str = WORKER, device: str = "cuda:0") -> "Life":
        """A worker takes it, with a lease of 30 seconds."""
        self.write(*decisions.claim(self.job, worker=worker, host=worker.split("-")[0], device=device))
        self.lease = {
            "worker_id": worker,
            "token": self.job.token,
            "expires_at": self.now + timedelta(seconds=30),
            "renewed_at": self.now,
            "spool_host": "gpu",
            "progress": None,
            "progress_at": None,
        }
        return self.start()

    def start(self) -> "Life":
        """The stage that is due begins."""
        return self.write(*decisions.start(self.job, device=self.job.device))

    def at_step(self, step: int, of: int = 15) -> "Life":
        """The worker tells how far it is, and its lease is renewed."""
        assert self.lease is not None
        self.lease |= {
            "progress": {"step": step, "of": of},
            "progress_at": self.now,
            "renewed_at": self.now,
            "expires_at": self.now + timedelta(seconds=30),
        }
        return self

    def checkpoint(self, step: int) -> "Life":
        """Denoising is safe up to `step`, each of which took the device 0.7 s."""
        drawn = 0.7 * step
        return self.write(
            e.Checkpointed(step=step, of=15, name=f"latents_{step}", digest="c" * 64, device_seconds=drawn)
        )

    def interrupt(self, reason: str = "engine crashed", detail: str | None = "exit code -9", **more: Any) -> "Life":
        """The lease ends without a result."""
        self.write(*decisions.interrupt(self.job, reason=reason, by="supervisor", now=self.now, detail=detail, **more))
        self.lease = None
        return self

    def trouble(self, message: str, error_type: str, error_class: str = "transient") -> "Life":
        """The attempt fails."""
        self.write(
            *decisions.trouble(
                self.job, error_class=error_class, error_type=error_type, message=message, now=self.now, jitter=1.0
            )
        )
        self.lease = None
        return self

    def generate(self, seconds: float = 8.0) -> "Life":
        """Every asset is made."""
        self.wait(seconds)
        number = self.job.request["num_images"]
        for index in range(number):
            self.write(
                e.AssetGenerated(
                    index=index, seed=42 + index, name=f"asset_{index}.png", digest=f"{index:064x}",
                    bytes=1_310_720 + index, width=1024, height=1024, seconds=seconds / number,
                )
            )  # fmt: skip
        return self.write(e.MediaGenerated(device_seconds=seconds, engine="diffusers"))

    def upload(self) -> "Life":
        """Every asset is uploaded, in two tenths of a second each."""
        for asset in self.job.assets_to_upload:
            self.wait(0.2).write(
                e.AssetUploaded(
                    index=asset.index, bucket="sdxl_image_fast", key=f"{USER}/{JOB}_{asset.index}.png",
                    digest=asset.digest, bytes=asset.bytes,
                )
            )  # fmt: skip
        return self.write(e.MediaUploaded())

    def tell(self, http_code: int = 200, answer: str = '{"success": true}', ms: float = 42.0) -> "Life":
        """One callback request and its answer."""
        status = "completed" if self.job.outcome == "completed" else "failed"
        number = len(self.job.told(status)) + 1
        return self.wait(ms / 1000).write(
            e.CallbackSent(
                status=status, id=f"{JOB}:{self.job.run}:{status}", delivered=http_code == 200, try_=number,
                http_code=http_code, ms=ms, answer=answer,
            )
        )  # fmt: skip

    def finish(self, *, notified: bool = True) -> "Life":
        """The run ends as its outcome says."""
        self.write(*decisions.finish(self.job, now=self.now, notified=notified))
        self.lease = None
        return self

    def seen(self, *workers: dict[str, Any], **more: Any) -> Situation:
        """What `jobs inspect` would read at this moment."""
        if self.lease is None and self.job.worker_id is None and self.job.spooled:
            more = {"spool": "gpu"} | more
        return Situation(
            job=self.job, history=self.history, now=self.now, lease=self.lease, content=self.content,
            workers=list(workers), **{"findings": check(JOB, self.history).findings} | more,
        )  # fmt: skip


def worker(now: datetime, *job_types: str, worker_id: str = WORKER, seen: float = 2.0, **more: Any) -> dict[str, Any]:
    """A row of `workers` as `store.reading` gives it."""
    return {
        "worker_id": worker_id,
        "host": "gpu",
        "pid": 4711,
        "device": "cuda:0",
        "engine": "diffusers",
        "job_types": list(job_types),
        "models": ["lustify_sdxl"] if job_types else [],
        "state": "running",
        "note": None,
        "version": "0.1.0",
        "started_at": START,
        "last_seen_at": now - timedelta(seconds=seen),
        "jobs": [],
        "spool": "gpu",
    } | more


def no_worker_for_its_model() -> Situation:
    """Queued for twelve minutes; the only worker makes videos."""
    life = Life().wait(724)
    return life.seen(worker(life.now, "video_fast", "video_high"), ahead=Ahead())


def running_at_step_7() -> Situation:
    """In the middle of generating."""
    life = Life().wait(1.2).claim().wait(7.0).at_step(7).wait(0.5)
    return life.seen(worker(life.now, "sdxl_image_fast"))


def interrupted() -> Situation:
    """The engine crashed at a checkpoint; nobody has taken the job up again."""
    life = Life().wait(1.2).claim().wait(5.0).checkpoint(7).wait(1.4).interrupt().wait(4)
    return life.seen(worker(life.now, "sdxl_image_fast"), ahead=Ahead())


def resumed() -> Situation:
    """Taken up by another worker after the crash."""
    life = Life().wait(1.2).claim().wait(5.0).checkpoint(7).wait(1.4).interrupt().wait(4)
    life.claim("cpu-2-77aa", "cpu").wait(3.0).at_step(10)
    return life.seen(worker(life.now, "sdxl_image_fast", worker_id="cpu-2-77aa"))


def waiting_for_a_retry() -> Situation:
    """Storage refused the connection, twice."""
    life = Life().wait(1.2).claim().generate().start().wait(0.3)
    life.trouble("file storage at https://files.example/?token=abc: connection refused", "StorageAway")
    life.wait(1.1).claim().wait(0.3)
    life.trouble("file storage at https://files.example/?token=abc: connection refused", "StorageAway").wait(0.4)
    return life.seen(worker(life.now, "sdxl_image_fast"))


def refused_payload() -> Situation:
    """Four pictures were asked for, and its owner was told."""
    life = Life(num_images=4).wait(0.1).claim().tell().finish().wait(190)
    return life.seen()


def completed() -> Situation:
    """Everything went well."""
    life = Life().wait(1.2).claim().generate().start().upload().start().tell().finish().wait(200)
    return life.seen()


def undeliverable() -> Situation:
    """The receiver answered 500 to each of nine tries."""
    life = Life().wait(1.2).claim().generate().start().upload()
    for number in range(9):
        if number:
            life.wait(decisions.CALLBACK_DELAYS[number - 1]).claim()
        else:
            life.start()
        life.tell(500, "Internal Server Error").trouble("HTTP 500", "CallbackRefused")
    return life.wait(60).seen()


def requeued() -> Situation:
    """Out of memory, requeued by an operator, waiting in line."""
    life = Life().wait(1.2).claim().wait(2.0)
    life.trouble("Insufficient VRAM for generation", "OutOfMemory", "permanent").start().tell().finish()
    life.wait(3600).write(*decisions.requeue(life.job, by="ada", reason="a larger card is there")).wait(5)
    return life.seen(worker(life.now, "sdxl_image_fast"), ahead=Ahead(turn=1, older=1))


FATES: Final[dict[str, Callable[[], Situation]]] = {
    make.__name__: make
    for make in (
        no_worker_for_its_model,
        running_at_step_7,
        interrupted,
        resumed,
        waiting_for_a_retry,
        refused_payload,
        completed,
        undeliverable,
        requeued,
    )
}
