"""What must hold of a world that has settled, whatever was done to it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import select

from statemachine.job import Job
from statemachine.states import State
from statemachine.store.schema import dead_letters, job_leases, job_payloads
from tests.fakes import nothing
from tests.invariants import check_history, check_projections, check_told, check_verified
from tests.world.house import Processes, World

GOES_ON: Final = 2
"""Events that may still be written when the end of a job was asked for: those that were on their way."""
ENOUGH: Final = {"Poison": "crashes", "AssetsLost": "losses", "ReferencesLost": "losses"}
"""Why a job may fail to which the same thing has happened three times."""
IN_VAIN: Final = 3
WITHOUT_ENHANCER: Final = 2
"""Interruptions of its enhancement after which a job does without."""


@dataclass(frozen=True)
class Calm:
    """How a world ends to which nothing is done, and the effects that its life has."""

    trace: tuple[str, ...]
    contents: dict[str, set[str]]
    states: dict[str, State]

    @classmethod
    def of(cls, world: World) -> "Calm":
        """Of one that has settled."""
        states = {job_id: world.plain.load(job_id).state for job_id in world.ids()}
        return cls(tuple(world.trace), world.bucket.contents, states)

    def points(self, at: Callable[[str], bool]) -> list[int]:
        """The effects of which `at` says yes, by their numbers."""
        return [number for number, name in enumerate(self.trace, start=1) if at(name)]


def check(world: World) -> None:
    """Raise AssertionError for the first invariant that does not hold."""
    with world.undisturbed():
        _check_arrivals(world)
        assert not world.watch.seen, f"done again: {world.watch.seen}"
        for job_id in world.ids():
            job = world.plain.load(job_id)
            check_history(world.plain, job_id)
            _check_facts(world, job_id)
            _check_told(world, job)
            _check_assets(world, job)
            _check_durations(job)
        check_projections(world.plain)
        check_verified(world.plain)
        _check_cancelled(world)
        _check_uploads(world)
        _check_spool(world)


def check_same(world: World, calm: Calm) -> None:
    """It ended as `calm`, to which nothing was done, and with the same bytes, but for what is excused."""
    with world.undisturbed():
        for job_id in world.ids():
            job, before = world.plain.load(job_id), calm.states[job_id]
            if job.enhancement_skipped is not None and world.crashes >= WITHOUT_ENHANCER:
                continue
            for key, contents in world.bucket.contents.items():
                assert contents == calm.contents.get(key), f"other bytes under {key}"
            if job.state == "completed":
                assert world.bucket.contents.keys() == calm.contents.keys(), "not all of its files"
            if job.state is before or (job.state == "cancelled" and any(done for _, done in world.cancels)):
                continue
            kind = "" if job.error is None else job.error.error_type
            excuse = getattr(world, ENOUGH[kind]) if kind in ENOUGH else 0
            assert excuse >= IN_VAIN, f"it is {job.state} ({job.error}), undisturbed it is {before}"


def _check_arrivals(world: World) -> None:
    assert world.redis.empty(), "a payload was left in a list"
    with world.plain.read() as connection:
        letters = len(connection.execute(select(dead_letters.c.id)).all())
        leases = connection.execute(select(job_leases.c.job_id)).all()
        payloads = set(connection.scalars(select(job_payloads.c.job_id)))
    ids = world.ids()
    due = world.altered if ids else 1
    assert letters >= due, f"lost: {world.pushes} pushes, {len(ids)} jobs, {letters} dead letters"
    assert letters == due or world.altered, f"{letters} dead letters of one payload"
    assert len(ids) <= 1, "a payload became two jobs"
    assert payloads == set(ids), "a job without its payload"
    assert not leases, f"leases of finished jobs: {leases}"


def _check_facts(world: World, job_id: str) -> None:
    """What was done once is told once, as long as nothing was lost of it."""
    history = world.plain.history(job_id)
    facts: Counter[tuple[object, ...]] = Counter()
    for row in history:
        data = msgspec.json.decode(row.data)
        match row.kind:
            case "refs_fetched" | "prompt_enhanced" | "enhancement_skipped" | "media_generated":
                facts[row.run, row.kind] += 1
            case "asset_generated":
                facts[row.run, row.kind, data.get("index", 0)] += 1
            case "checkpointed":
                facts[row.run, row.kind, data["step"]] += 1
            case "stage_started":
                facts[row.run, row.kind, row.stage, row.attempt] += 1
            case "checkpoint_discarded":
                assert world.losses, "a checkpoint is missed, and no file was lost"
    twice = {fact: count for fact, count in facts.items() if count > 1}
    assert not twice or world.losses, f"told more than once: {twice}"


def _check_told(world: World, job: Job) -> None:
    told = [
        (post.told["status"], post.id, post.body) for post in world.receiver.accepted if post.told["job_id"] == job.id
    ]
    check_told(job, told, crashes=world.crashes)


def _check_assets(world: World, job: Job) -> None:
    if job.state is not State.COMPLETED:
        return
    assets = job.current_assets
    assert len(assets) == job.request["num_images"], f"{len(assets)} assets"
    for asset in assets:
        held = world.bucket.contents.get(f"{asset.bucket}/{asset.key}", set())
        assert asset.digest in held, f"asset {asset.index} differs"


def _check_uploads(world: World) -> None:
    """A file is sent once a run, and once more for each thing that came between its sending and its word."""
    for key, count in Counter(world.bucket.puts).items():
        assert count <= 1 + world.retries + len(world.struck), f"{key} was sent {count} times: {world.struck}"


def _check_durations(job: Job) -> None:
    """No clock that was set makes a time negative that somebody is told."""
    assert job.verdict is None or job.verdict.seconds >= 0.0, f"it took {job.verdict.seconds} s"


def _check_cancelled(world: World) -> None:
    """Who was told that it is asked for finds it ended soon, and nobody finds a word of it where it was refused."""
    if world.retries or len(world.cancels) != 1:
        return
    ((job_id, accepted),) = world.cancels
    kinds = [row.kind for row in world.plain.history(job_id)]
    assert kinds.count("cancel_requested") == (1 if accepted else 0), kinds
    if accepted:
        after = kinds[kinds.index("cancel_requested") + 1 :]
        decided = next(number for number, kind in enumerate(after) if kind in ("outcome_decided", "media_uploaded"))
        assert decided <= GOES_ON, f"it went on for {decided} events: {after}"
        assert "claimed" not in after[:decided], f"it had to wait for another turn: {after}"


def _check_spool(world: World) -> None:
    """What a process has left is gone after the next start, at the latest."""
    if any(world.processes.spool.jobs()):
        Processes(world, nothing).boot()
    assert list(world.processes.spool.jobs()) == [], "the spool keeps a finished job's files"
