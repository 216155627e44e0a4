"""New jobs for the store's tests."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from statemachine import decisions
from statemachine import events as e
from statemachine.admission import NewJob
from statemachine.job import Job
from statemachine.store import EventStore
from statemachine.store.claims import Claimant

TYPE = "sdxl_image_fast"
STAGES = ["generating", "uploading", "callback"]


def new_job(job_id: str | None = None, **changes: Any) -> NewJob:
    """A plain job; `changes` go to its `job_queued`."""
    fields: dict[str, Any] = {
        "payload_digest": "d" * 64,
        "job_type": TYPE,
        "user_id": "u",
        "queue": "sdxl_queue",
        "source": "redis",
        "stages": STAGES,
        "seed": 7,
        **changes,
    }
    return NewJob(
        job_id=job_id or str(uuid4()), events=[e.JobQueued(**fields)], raw=b'{"a": 1}', content={"prompt": "a heron"}
    )


def claimant(
    name: str = "w1",
    *,
    host: str = "h",
    types: list[str] | None = None,
    seconds: float = 30.0,
    grace: float = 30.0,
    resident: Sequence[str] = (),
) -> Claimant:
    """A worker that can make `types`, with the spool of its host."""
    return Claimant(
        worker_id=name,
        host=host,
        spool=host,
        device="cpu",
        job_types=types or [TYPE],
        lease_seconds=seconds,
        grace_seconds=grace,
        resident=resident,
    )


def claimed(store: EventStore, name: str = "w1") -> Job:
    """A job that was admitted and claimed."""
    new = new_job()
    store.admit([new])
    (job,) = store.claim(claimant(name), drawing=1)
    assert job.id == new.job_id
    return job


def asset(index: int = 0) -> e.AssetGenerated:
    """An asset in the spool."""
    return e.AssetGenerated(
        index=index, seed=7 + index, name=f"asset_{index}.png", digest=f"{index}" * 64, bytes=9, width=8, height=8
    )


def live_through(store: EventStore, job_id: str | None = None, *, assets: int = 2) -> str:
    """A job from its admission, or from its requeueing, to its completion; returns its id."""
    if job_id is None:
        new = new_job(request={"reference_mode": "start"})
        store.admit([new])
        job_id = new.job_id
    (job,) = store.claim(claimant(), drawing=1)
    assert job.id == job_id
    made = [asset(index) for index in range(assets)]
    job = store.append(job, [*decisions.start(job), *made, e.MediaGenerated(device_seconds=1.5, engine="null")])
    finish(store, upload(store, job))
    return job_id


def upload(store: EventStore, job: Job) -> Job:
    """Every asset is uploaded."""
    uploaded = [
        e.AssetUploaded(index=one.index, bucket="b", key=f"u/x_{one.index}.png", digest=one.digest, bytes=one.bytes)
        for one in job.assets_to_upload
    ]
    return store.append(job, [*decisions.start(job), *uploaded, e.MediaUploaded()])


def finish(store: EventStore, job: Job) -> Job:
    """The run ends as its outcome says."""
    return store.append(job, [*decisions.start(job), *decisions.finish(job, now=store.now(), notified=False)])
