"""The supervisor on both databases: each lease is ended once, by whoever may end it, and with its reason."""

import threading

from statemachine import decisions
from statemachine import events as e
from statemachine.store import EventStore, open_store
from statemachine.store.claims import Lease
from statemachine.store.reading import rejected
from tests.fakes import FakeClock
from tests.statemachine.builders import claimant, claimed, new_job
from workers.supervisor import Supervisor

TOGETHER = 4


def ends(store: EventStore, job_id: str) -> list[e.Interrupted]:
    return [row.event for row in store.history(job_id) if isinstance(row.event, e.Interrupted)]


def test_of_several_supervisors_one_ends_a_lease(store: EventStore) -> None:
    """All of them see the same dead leases at the same moment; nobody's write is refused, and none is told twice."""
    for _ in range(20):
        store.admit([new_job()])
    held = store.claim(claimant(seconds=5.0), drawing=20)
    url = store.engine.url.render_as_string(hide_password=False)
    stores = [open_store(url) for _ in range(TOGETHER)]
    clocks = [FakeClock() for _ in stores]
    supervisors = [
        Supervisor(own, clock, name=f"s{number}", lease_seconds=5.0)
        for number, (own, clock) in enumerate(zip(stores, clocks, strict=True))
    ]
    for supervisor, clock in zip(supervisors, clocks, strict=True):
        assert supervisor.tick() == 0
        clock.advance(6.0)
    line, ended = threading.Barrier(TOGETHER), [0] * TOGETHER

    def tick(number: int) -> None:
        line.wait(30)
        ended[number] = supervisors[number].tick()

    threads = [threading.Thread(target=tick, args=(number,)) for number in range(TOGETHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for own in stores:
        own.close()
    assert sum(ended) == len(held) == 20
    assert [len(ends(store, job.id)) for job in held] == [1] * 20
    with store.read() as connection:
        assert [rejected(connection, job.id) for job in held] == [[]] * 20
    assert len(store.claim(claimant("w2"), drawing=20)) == 20


class Stalling(EventStore):
    """A store that answers late, once, and whoever wants to renew meanwhile waits as well."""

    def __init__(self, store: EventStore, clock: FakeClock) -> None:
        super().__init__(store.engine, clock=store.clock, wakeups=store.wakeups)
        self._clock = clock
        self.seconds = 0.0

    def leases(self) -> list[Lease]:
        """See `EventStore.leases`."""
        self._clock.advance(self.seconds)
        self.seconds = 0.0
        return super().leases()


def test_a_database_that_stalls_costs_nobody_a_lease(store: EventStore) -> None:
    """Nobody could renew while it did not answer: everybody gets a whole lease time after it."""
    job, clock = claimed(store), FakeClock()
    stalling = Stalling(store, clock)
    supervisor = Supervisor(stalling, clock, name="s", lease_seconds=30.0)
    assert supervisor.tick() == 0
    stalling.seconds = 31.0
    assert supervisor.tick() == 0, "the worker had no way to renew"
    clock.advance(29.0)
    assert supervisor.tick() == 0
    clock.advance(1.0)
    assert supervisor.tick() == 1, "it has had its whole lease time"
    assert len(ends(store, job.id)) == 1


def test_a_death_that_was_seen_ends_the_leases_of_the_dead_alone(store: EventStore) -> None:
    dead, living = claimed(store, "w1"), claimed(store, "w2")
    supervisor = Supervisor(store, FakeClock(), name="s", lease_seconds=600.0)
    assert supervisor.worker_died("w1", "killed by SIGKILL") == 1
    (told,) = ends(store, dead.id)
    assert (told.reason, told.detail, told.by) == ("worker died", "w1: killed by SIGKILL", "s")
    assert store.load(living.id).worker_id == "w2"
    (again,) = store.claim(claimant("w3"), drawing=1)
    assert again.id == dead.id
    assert supervisor.worker_died("w1", "killed by SIGKILL") == 0, "another has it by now"
    assert store.load(dead.id).worker_id == "w3"


def test_a_death_that_is_told_late_finds_what_the_worker_had_ended(store: EventStore) -> None:
    """The lease was passed on after it was looked at: the fence holds for the supervisor as for everybody."""
    job = claimed(store, "w1")
    (seen,) = store.leases()
    store.append(job, decisions.interrupt(job, reason="drained", by="w1", now=store.now(), counts=False))
    (other,) = store.claim(claimant("w2"), drawing=1)
    assert store.expire(seen, job, decisions.interrupt(job, reason="worker died", by="s", now=store.now())) is None
    assert store.load(job.id).token == other.token
