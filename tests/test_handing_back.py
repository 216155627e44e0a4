"""A worker that stops hands its leases back, whatever happens meanwhile, and no job pays for it."""

from pathlib import Path

from statemachine import decisions
from statemachine.job import Job
from statemachine.store import open_store
from tests.world.house import World
from tests.world.kinds import KINDS


def _holding(world: World) -> Job:
    """One job, claimed and not begun."""
    world.push(*KINDS["one image"])
    world.processes.boot()
    now = world.clock.now()
    for ingress in world.processes.ingresses:
        ingress.tick(now)
    assert world.processes.worker.claim_tick(now) == 1
    (job,) = world.processes.worker.held.jobs()
    return job


def test_who_writes_while_a_lease_is_handed_back_does_not_keep_it(tmp_path: Path, empty_sqlite: Path) -> None:
    """The version has moved on under the same token: the lease is given up behind what was written."""
    world = World(tmp_path, empty_sqlite)
    job = _holding(world)
    other = open_store(f"sqlite:///{world.path}", clock=world.clock)
    interfered: list[str] = []

    def interfere(_number: int, name: str) -> None:
        if name == "db.begin" and not interfered:
            interfered.append(name)
            fresh = other.load(job.id)
            other.append(fresh, decisions.cancel(fresh, by="cli", reason="changed my mind"))

    world.plan = interfere
    world.processes.worker.draining = True
    assert world.processes.worker.hand_back("worker stopped") == 1
    assert interfered
    given = world.store.load(job.id)
    assert (given.worker_id, given.cancel_by) == (None, "cli")
    assert world.processes.worker.held.jobs() == []
    assert [attempt for attempt in given.attempts if attempt.counts] == []
    other.close()
    world.processes.die()


def test_a_drain_hands_back_at_once_what_waits_for_the_device(tmp_path: Path, empty_sqlite: Path) -> None:
    world = World(tmp_path, empty_sqlite)
    job = _holding(world)
    worker = world.processes.worker
    worker.drain()
    assert not worker.drain_tick(30.0), "nothing is left to wait for"
    given = world.store.load(job.id)
    assert (given.worker_id, given.attempts) == (None, ())
    world.processes.die()


def test_a_drain_waits_for_the_step_on_the_device_and_for_no_model(tmp_path: Path, empty_sqlite: Path) -> None:
    world = World(tmp_path, empty_sqlite)
    job = _holding(world)
    worker = world.processes.worker
    assert worker.lanes["engine"].take(0) == job
    begun = world.store.append(job, decisions.start(job), worker_id=job.worker_id)
    worker.held.keep(begun, monotonic=0.0)
    worker.drain()
    assert worker.drain_tick(30.0), "it may end"
    worker.held.progress(job.id, {"step": 5, "of": 25, "seconds": 0.5})
    assert worker.drain_tick(10.0), "its last step ends just in time"
    assert worker.drain_tick(0.0), "its step is waited for"
    worker.held.progress(job.id, {"doing": "loading lustify_sdxl"})
    assert not worker.drain_tick(0.0)
    assert worker.hand_back("drained") == 1
    world.processes.die()


def test_what_an_attempt_was_begun_for_costs_nothing(tmp_path: Path, empty_sqlite: Path) -> None:
    world = World(tmp_path, empty_sqlite)
    job = _holding(world)
    world.store.append(job, decisions.start(job), worker_id=job.worker_id)
    world.processes.worker.draining = True
    assert world.processes.worker.hand_back("worker stopped") == 1
    (attempt,) = world.store.load(job.id).attempts
    assert (attempt.outcome, attempt.error_type, attempt.counts) == ("interrupted", "worker stopped", False)
    assert world.processes.worker.claim_tick(world.clock.now()) == 0, "a worker that drains claims nothing"
    world.processes.die()
