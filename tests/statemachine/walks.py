"""Jobs that take any turn that a job can take, at random and yet the same for the same seed."""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from uuid import UUID

from docs.lives import Life, SetClock, Worker, asset
from statemachine import decisions
from statemachine import events as e
from statemachine.admission import NewJob
from statemachine.errors import FencedOut
from statemachine.expectations import EXPECTATIONS, expected
from statemachine.states import STAGES, State
from statemachine.store import EventStore

START = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)
USERS = ("ada", "bo", "Zoë 🦩", None)


def walk(
    url_store: EventStore,
    seed: int,
    *,
    jobs: int = 24,
    steps: int = 720,
    start: datetime = START,
    meanwhile: Callable[[EventStore, SetClock, Random], None] | None = None,
) -> EventStore:
    """Fill the store with `jobs` jobs that take `steps` steps between them; return it, under the clock of the walk.

    `meanwhile` is called after each step, and may move the clock.
    """
    rng, clock = Random(seed), SetClock(start)
    store = EventStore(url_store.engine, clock=clock, wakeups=url_store.wakeups)
    workers = [
        Worker(worker_id=f"gpu-{n}", host=f"host-{n}", device=f"cuda:{n}", models=(), free_at=start) for n in range(3)
    ]
    lives: list[Life] = []
    for number in range(steps):
        clock.wait(round(rng.expovariate(0.05), 6))
        if number % (steps // jobs) == 0:
            lives.append(Life(store, clock, _arrival(rng)))
        _step(rng.choice(lives[-8:]), rng, rng.choice(workers))
        if meanwhile is not None:
            meanwhile(store, clock, rng)
    return store


def _arrival(rng: Random) -> NewJob:
    wanted = rng.choice(EXPECTATIONS)
    refused = rng.random() < 0.1
    stages = [
        str(stage) for stage in STAGES if stage not in (State.FETCHING_REFS, State.ENHANCING) or rng.random() < 0.5
    ]
    queued = e.JobQueued(
        payload_digest="d" * 64,
        job_type=wanted.job_type,
        user_id=rng.choice(USERS),
        queue="sdxl_queue",
        source=rng.choice(["redis", "cli"]),
        stages=["callback"] if refused else stages,
        model=rng.choice(["lustify_sdxl", "wan_2_1_1_3b"]),
        seed=7,
        request={"num_images": wanted.assets, "reference_mode": "none"},
    )
    why = e.OutcomeDecided(outcome="failed", error_class="permanent", error_type="ValueError", message="too many \0")
    return NewJob(
        job_id=str(UUID(int=rng.getrandbits(128))), events=[queued, why] if refused else [queued], raw=b"{}", content={}
    )


def _step(life: Life, rng: Random, worker: Worker) -> None:
    """One thing that can happen to the job as it stands."""
    job = life.job
    if job.state.terminal:
        if rng.random() < 0.3:
            life.requeue("ada", "again", rng.choice([None, State.UPLOADING, State.CALLBACK]))
    elif job.worker_id is None:
        if rng.random() < 0.05:
            life.cancel("ada", "no more")
        else:
            life.claim(worker)
    elif job.open_attempt is None:
        if rng.random() < 0.1:
            life.interrupt("worker lost", counts=rng.random() < 0.7)
        elif job.cancel_pending:
            life.write(*decisions.cancelled(job))
        else:
            life.start()
    elif job.cancel_pending and rng.random() < 0.5:
        life.write(*decisions.cancelled(job))
    elif rng.random() < (0.6 if job.id < "4" else 0.15):  # some jobs are out of luck
        _trouble(life, rng)
    else:
        _work(life, rng, worker)


def _trouble(life: Life, rng: Random) -> None:
    match rng.randrange(8):
        case 0 | 1:
            error_class = rng.choice(["transient", "device_memory", "permanent", "misconfiguration"])
            life.trouble(error_class, f"{error_class}-{rng.randrange(2)}", "so it \0 was")
        case 2 | 3 | 4:
            life.interrupt("engine crashed", by=life.job.worker_id or "")
        case 5:
            life.interrupt("worker drained", counts=False)
        case 6:
            life.cancel("bo", "changed my mind")
        case _:
            stale = life.job
            life.interrupt("lease expired")
            try:
                life.store.append(stale, [e.Degraded(what="x", why="y")], worker_id=stale.worker_id)
            except FencedOut:
                return
            raise AssertionError("a write under a token that was passed on went through")


def _work(life: Life, rng: Random, worker: Worker) -> None:
    job = life.job
    match job.state:
        case State.FETCHING_REFS:
            life.write(e.RefsFetched(references=[]))
        case State.ENHANCING:
            enhanced = e.PromptEnhanced(digest="e" * 64, seconds=rng.random(), model="qwen")
            life.write(enhanced if rng.random() < 0.7 else e.EnhancementSkipped(reason="no model"))
        case State.GENERATING:
            _draw(life, rng, worker)
        case State.UPLOADING:
            left = job.assets_to_upload
            if left and rng.random() < 0.2:
                life.write(e.AssetsLost(missing=[left[0].digest], reason="the disk is gone"))
            else:
                life.upload()
        case _:
            life.tell(rng.choice([200, 200, 500, None]), ms=rng.random() * 500)
            if job.outcome is not None and life.job.callbacks[-1].delivered:
                life.finish()
            else:
                life.trouble("transient", "CallbackRefused", "HTTP 500")


def _draw(life: Life, rng: Random, worker: Worker) -> None:
    job = life.job
    number = int(job.request["num_images"])
    made = len(job.current_assets)
    match rng.randrange(5):
        case 0:
            worker.resident = rng.choice([worker.resident, None])
            life.load(worker, rng.random() * 20)
        case 1:
            life.write(e.ModelMoved(model=job.model or "", parts=["vae"], to="host", seconds=rng.random(), bytes=9))
        case 2:
            life.checkpoint(rng.random() * 30, rng.randrange(25))
        case 3 if job.checkpoint is not None:
            life.write(e.CheckpointDiscarded(name=job.checkpoint.name, reason="rotten"))
        case _:
            made_now = [asset(job, index) for index in range(made, number)]
            life.wait(rng.random() * 60).write(*made_now)
            usual = expected(job.job_type, number)
            assert usual is not None
            seconds = rng.uniform(0.7 * usual.least, 1.3 * (usual.most or usual.least))
            life.write(e.MediaGenerated(device_seconds=seconds, engine="null"))
