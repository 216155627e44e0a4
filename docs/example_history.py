"""A night of a small service, always the same: the history that the examples of docs/sql.md are asked of.

It is written through the store, event by event, as workers, ingress and operators write it.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import msgspec

from docs.lives import Life, SetClock, Worker
from statemachine import decisions
from statemachine import events as e
from statemachine.admission import NewJob
from statemachine.errors import FencedOut
from statemachine.expectations import expected
from statemachine.states import State
from statemachine.store import EventStore
from statemachine.store.codec import canonical
from workers.arrivals import build_payload, read

BEGIN: Final = datetime(2026, 7, 5, 22, 0, tzinfo=UTC)
SDXL: Final = "lustify_sdxl"
WAN: Final = "wan_2_1_1_3b"


def named(name: str) -> str:
    """An id that is always the same."""
    return str(uuid5(NAMESPACE_URL, f"https://example.org/{name}"))


ADA, BO, CY = named("ada"), named("bo"), named("cy")


class Wish(msgspec.Struct, frozen=True):
    """One line of the night: after how many minutes who asked for what, how fast it was drawn, and its fate."""

    minute: float
    user: str
    job_type: str
    number: int
    pace: float
    fate: Callable[["Night", Life, "Wish"], None]
    config: dict[str, Any] = {}
    seed: int | None = None


class Night:
    """The service's workers, and what may become of a job."""

    def __init__(self, store: EventStore, clock: SetClock) -> None:
        self.store = store
        self.clock = clock
        self.workers = [
            Worker(worker_id="gpu-1-3f9c", host="gpu-1", device="cuda:0", models=(SDXL,), free_at=BEGIN),
            Worker(worker_id="gpu-2-77aa", host="gpu-2", device="cuda:0", models=(SDXL, WAN), free_at=BEGIN),
            Worker(worker_id="gpu-3-b07e", host="gpu-3", device="cuda:0", models=(WAN,), free_at=BEGIN),
        ]

    def worker(self, life: Life) -> Worker:
        """Whoever can make it and is free first."""
        able = [worker for worker in self.workers if life.job.model in worker.models]
        return min(able, key=lambda worker: (max(worker.free_at, self.clock.at), worker.worker_id))

    def begin(self, life: Life) -> Worker:
        """Somebody takes the job and is at its generation, the device having its model."""
        worker = self.worker(life)
        life.claim(worker).start()
        if life.job.state is State.FETCHING_REFS:
            life.wait(0.8).write(e.RefsFetched(references=[])).start()
        if life.job.state is State.ENHANCING:
            life.wait(6.5).write(e.PromptEnhanced(digest="e4" * 32, seconds=6.25, tokens=90, model="qwen")).start()
        life.load(worker, 11.5 if life.job.model == SDXL else 24.0)
        return worker

    def seconds(self, wish: Wish) -> float:
        """On the device: the middle of what is expected, times the pace."""
        usual = expected(wish.job_type, wish.number)
        assert usual is not None
        return (usual.least + (usual.most or usual.least)) / 2 * wish.pace

    def draw(self, life: Life, wish: Wish) -> None:
        """It is begun and drawn."""
        worker = self.begin(life)
        life.draw(self.seconds(wish))
        worker.free_at = self.clock.at

    def deliver(self, life: Life) -> None:
        """What was drawn is uploaded, and the receiver takes it."""
        life.start().upload().start().tell(ms=38.0).finish()

    def well(self, life: Life, wish: Wish) -> None:
        self.draw(life, wish)
        self.deliver(life)

    def crashes(self, life: Life, wish: Wish) -> None:
        """The engine dies behind a checkpoint; another attempt goes on from there."""
        worker, seconds = self.begin(life), self.seconds(wish)
        life.checkpoint(seconds * 0.5, 12).wait(seconds * 0.2).interrupt("engine crashed", by=worker.worker_id)
        worker.resident, worker.free_at = None, self.clock.at + timedelta(seconds=4)
        worker = self.begin(life)
        life.draw(seconds * 0.5)
        worker.free_at = self.clock.at
        self.deliver(life)

    def falls_silent(self, life: Life, wish: Wish) -> None:
        """The worker falls silent, another one takes over, and the first comes back to a job that is not its own."""
        worker = self.begin(life)
        stale = life.wait(self.seconds(wish) * 0.6).job
        life.wait(30).interrupt("lease expired")
        worker.free_at = self.clock.at + timedelta(minutes=6)
        self.draw(life, wish)
        with suppress(FencedOut):
            late = e.MediaGenerated(device_seconds=7.0, engine="diffusers")
            self.store.append(stale, [late], worker_id=worker.worker_id)
        self.deliver(life)

    def needs_memory(self, life: Life, wish: Wish) -> None:
        self.begin(life)
        life.wait(2.5).trouble("device_memory", "OutOfMemory", "Insufficient VRAM for generation")
        self.well(life, wish)

    def meets_a_storage_that_is_away(self, life: Life, wish: Wish) -> None:
        self.draw(life, wish)
        for _ in range(2):
            life.start().wait(0.3).trouble("transient", "StorageAway", "storage: connection refused")
            life.claim(self.worker(life))
        self.deliver(life)

    def meets_a_slow_receiver(self, life: Life, wish: Wish) -> None:
        self.draw(life, wish)
        life.start().upload().start().tell(503, ms=812.0).trouble("transient", "CallbackRefused", "HTTP 503")
        life.claim(self.worker(life)).start().tell(None, ms=3000.0)
        life.trouble("transient", "CallbackUnanswered", "connection refused")
        life.claim(self.worker(life)).start().tell(ms=95.0).finish()

    def is_never_taken(self, life: Life, wish: Wish) -> None:
        """The receiver answers 400, and says no for good with the fifth."""
        self.draw(life, wish)
        life.start().upload().start()
        for _ in range(5):
            life.tell(400, ms=12.0).trouble("transient", "CallbackRefused", "HTTP 400", budget=5)
            if not life.job.state.terminal:
                life.claim(self.worker(life)).start()

    def is_told_in_vain(self, life: Life, wish: Wish) -> None:
        """The receiver is down, and the next try is hours away."""
        self.draw(life, wish)
        life.start().upload()
        for number in range(6):
            if number:
                life.claim(self.worker(life))
            life.start().tell(502, ms=250.0).trouble("transient", "CallbackRefused", "HTTP 502")

    def is_told_twice(self, life: Life, wish: Wish) -> None:
        """Its worker is stopped with the answer in hand, and the next one tells it again."""
        self.draw(life, wish)
        life.start().upload().start().tell(ms=41.0).interrupt("worker stopped", by="gpu-1-3f9c", counts=False)
        life.claim(self.worker(life)).start().tell(ms=29.0).finish()

    def is_refused(self, life: Life, wish: Wish) -> None:
        """Its payload was: nothing is left but to say so."""
        life.wait(0.2).claim(self.workers[0]).start().tell(ms=35.0).finish()

    def offends(self, life: Life, wish: Wish) -> None:
        life.claim(self.worker(life)).start().wait(0.1)
        life.trouble("permanent", "ContentPolicy", "refused by the content policy").start().tell(ms=40.0).finish()

    def is_poison(self, life: Life, wish: Wish) -> None:
        """Every engine that draws it dies."""
        for _ in range(3):
            worker = self.begin(life)
            life.wait(3.0).interrupt("engine crashed", by=worker.worker_id)
            worker.resident, worker.free_at = None, self.clock.at + timedelta(seconds=4)
        life.claim(self.worker(life)).start().tell(ms=33.0).finish()

    def is_asked_for_again(self, life: Life, wish: Wish) -> None:
        """Somebody starts a second run of what was poison."""
        self.is_poison(life, wish)
        life.wait(1800).requeue("ops", "new driver on gpu-1")
        self.well(life, wish)

    def is_cancelled_in_line(self, life: Life, wish: Wish) -> None:
        life.wait(48).cancel("bo", "ordered twice").claim(self.worker(life)).start().tell(ms=30.0).finish()

    def is_cancelled_at_work(self, life: Life, wish: Wish) -> None:
        worker = self.begin(life)
        stop = life.wait(self.seconds(wish) * 0.4).cancel("bo", "wrong prompt").wait(1.5).job
        worker.free_at = self.clock.at
        life.write(*decisions.cancelled(stop)).start().tell(ms=30.0).finish()

    def waits(self, life: Life, wish: Wish) -> None:
        """Nobody has taken it up yet."""

    def is_being_drawn(self, life: Life, wish: Wish) -> None:
        worker = self.begin(life)
        life.checkpoint(self.seconds(wish) * 0.5, 25)
        worker.free_at = self.clock.at + timedelta(hours=1)


START_FRAME: Final = {"first_frame": "https://images.example/start.png"}
NIGHT: Final = (
    Wish(0.0, ADA, "sdxl_image_fast", 1, 0.9, Night.well, seed=7),
    Wish(0.1, ADA, "sdxl_image_fast", 3, 1.0, Night.well),
    Wish(0.2, BO, "sdxl_image_high", 1, 1.3, Night.needs_memory),
    Wish(0.5, CY, "video_fast", 1, 1.0, Night.well),
    Wish(1.0, CY, "video_fast", 1, 1.2, Night.crashes, START_FRAME),
    Wish(4.0, ADA, "sdxl_image_fast", 6, 0.8, Night.meets_a_storage_that_is_away),
    Wish(6.0, BO, "sdxl_image_fast", 4, 1.0, Night.is_refused),
    Wish(11.0, BO, "image_fast", 1, 1.1, Night.well),
    Wish(12.0, ADA, "sdxl_image_high", 3, 0.9, Night.meets_a_slow_receiver),
    Wish(14.0, CY, "video7b_fast_enhanced", 1, 1.0, Night.well),
    Wish(14.2, CY, "video_fast", 1, 0.9, Night.well),
    Wish(14.4, CY, "video_fast", 1, 1.0, Night.well),
    Wish(20.0, BO, "sdxl_image_fast", 1, 1.0, Night.offends),
    Wish(21.0, BO, "video_high", 1, 1.0, Night.is_cancelled_in_line),
    Wish(25.0, ADA, "sdxl_image_fast", 1, 1.7, Night.well),
    Wish(31.0, CY, "video_high", 1, 1.05, Night.falls_silent),
    Wish(40.0, BO, "sdxl_image_high", 6, 1.0, Night.well),
    Wish(40.1, BO, "sdxl_image_high", 6, 1.1, Night.well),
    Wish(40.2, BO, "sdxl_image_high", 6, 1.5, Night.well),
    Wish(40.3, ADA, "sdxl_image_fast", 1, 1.0, Night.well),
    Wish(47.0, ADA, "image_high", 1, 1.6, Night.well),
    Wish(55.0, BO, "image7b_fast_enhanced", 1, 1.0, Night.well, START_FRAME),
    Wish(62.0, BO, "sdxl_image_high", 6, 0.7, Night.is_asked_for_again),
    Wish(63.0, CY, "video_fast", 1, 1.0, Night.is_cancelled_at_work),
    Wish(70.0, ADA, "sdxl_image_fast", 3, 1.1, Night.is_never_taken),
    Wish(75.0, BO, "image_fast", 1, 1.0, Night.is_told_in_vain),
    Wish(88.0, CY, "video7b_high_enhanced", 1, 1.2, Night.well),
    Wish(110.0, ADA, "sdxl_image_fast", 1, 1.0, Night.well, seed=7),
    Wish(118.0, ADA, "sdxl_image_high", 1, 1.0, Night.is_told_twice),
    Wish(124.0, CY, "video_fast", 1, 1.0, Night.well),
    Wish(125.0, ADA, "sdxl_image_fast", 1, 1.0, Night.is_poison),
    Wish(140.0, BO, "sdxl_image_fast", 6, 1.0, Night.well),
    Wish(151.0, CY, "video_high", 1, 1.0, Night.is_being_drawn),
    Wish(152.0, CY, "video_high", 1, 1.0, Night.waits),
    Wish(154.5, BO, "video_fast", 1, 1.0, Night.waits),
)
LETTERS: Final = (
    (8.0, b"not a payload"),
    (9.5, b"{}"),
    (130.0, b'{"type": "video_fast"}'),
)


def live(store: EventStore, clock: SetClock) -> None:
    """Write the night into an empty store whose clock is `clock`."""
    night = Night(store, clock)
    for number, wish in enumerate(NIGHT):
        clock.at = BEGIN + timedelta(minutes=wish.minute)
        wish.fate(night, Life(store, clock, _arrival(number, wish, clock.at)), wish)
    for minute, raw in LETTERS:
        clock.at = BEGIN + timedelta(minutes=minute)
        store.admit([read(raw, queue="sdxl_queue", source="redis", now=clock.at, draw_seed=lambda: 0)])
    clock.at = BEGIN + timedelta(minutes=160)
    for worker in night.workers:
        models = {model: f"/models/{model}" for model in worker.models}
        store.see_worker(
            {
                "worker_id": worker.worker_id,
                "host": worker.host,
                "pid": 4711,
                "device": worker.device,
                "engine": "diffusers",
                "engine_pid": 4712,
                "job_types": "[]",
                "models": canonical(models),
                "state": "active",
                "note": None,
                "version": "0.1.0",
                "started_at": BEGIN - timedelta(hours=2),
                "last_seen_at": clock.at,
                "resident": canonical([worker.resident]),
                "spool": worker.host,
            }
        )


def _arrival(number: int, wish: Wish, at: datetime) -> NewJob:
    payload = build_payload(
        wish.job_type,
        "a heron at dawn, mist over the reeds",
        num_images=wish.number,
        seed=1000 + number if wish.seed is None else wish.seed,
        user_id=wish.user,
        job_id=named(f"job {number}"),
        config=wish.config,
        created_at=at - timedelta(seconds=1.5),
    )
    queue = str(payload["metadata"]["queue"])
    new = read(canonical(payload).encode(), queue=queue, source="redis", now=at, draw_seed=lambda: 0)
    assert isinstance(new, NewJob)
    return new
