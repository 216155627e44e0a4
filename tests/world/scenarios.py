"""What is done to a world: a crash, with or without a rotten disk, a stall, a takeover, an operator in between."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from ourvidz.acts import cancel, perform
from statemachine.errors import StoreAway
from statemachine.store.schema import jobs
from tests.fakes import Crash, nothing
from tests.world.house import LEASE, HookedStore, Processes, World
from tests.world.invariants import check
from tests.world.kinds import KINDS

IN_TRANSACTION = "db.commit:before"
GOES_ON = 2
"""Events that may still be written when the end of a job was asked for: those that were on their way."""


def build(folder: Path, empty_sqlite: Path, kind: str) -> World:
    """A world with one payload of `kind` pushed."""
    folder.mkdir(parents=True)
    world = World(folder, empty_sqlite)
    world.push(*KINDS[kind])
    return world


def undisturbed(folder: Path, empty_sqlite: Path, kind: str) -> World:
    """Run it as it should be: its effects are the points at which others are disturbed."""
    world = build(folder, empty_sqlite, kind)
    world.run()
    check(world, pushes=1)
    return world


def crash(world: World, point: int, *, rot: bool = False) -> None:
    """Everything dies at effect `point`, before it happens; with `rot`, the spool loses half of every file."""

    def plan(number: int, _name: str) -> None:
        if number == point:
            if rot:
                for file in (world.folder / "spool").rglob("*"):
                    if file.is_file():
                        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            raise Crash

    world.plan = plan
    world.run()
    check(world, pushes=1)


def stall(world: World, point: int) -> None:
    """All processes stand still at effect `point`; others take over and finish; then the first ones go on.

    Not between the last look at the lease and the first byte of a request: nothing can fence what is already on
    its way, which is why outcomes carry the same id and the same body every time.
    """

    def plan(number: int, name: str) -> None:
        if number != point or name in (IN_TRANSACTION, "receiver.post:before"):
            return
        with world.undisturbed():
            others = Processes(world, nothing)
            others.boot()
            for _ in range(int(4 * LEASE)):  # past the leases of the dead, and of whoever they were for
                others.round()
                if world.settled():
                    break
            others.die()

    world.plan = plan
    world.run()
    check(world, pushes=1)


def takeover(world: World, point: int) -> None:
    """As `stall`, but the first ones go on while the others have just claimed the job and done nothing yet."""

    def plan(number: int, name: str) -> None:
        if number != point or name in (IN_TRANSACTION, "receiver.post:before"):
            return
        with world.undisturbed():
            others = Processes(world, nothing)
            others.boot()
            world.others.append(others)
            for _ in range(int(2 * LEASE)):
                others.supervisor.tick()
                if others.worker.claim_tick(world.clock.now()):
                    break
                world.clock.advance(1.0)

    world.plan = plan
    world.run()
    check(world, pushes=1)


def operator(world: World, point: int, *, heard: bool = False, crashes: bool = False) -> None:
    """Somebody cancels the job at effect `point`, with a connection of their own.

    `heard`: its worker looks at once, as its heart does when the bell rings; `crashes`: it dies at the next effect.
    """
    accepted: dict[str, bool] = {}

    def plan(number: int, name: str) -> None:
        if crashes and accepted and number == point + 1:
            raise Crash
        if number != point or name == IN_TRANSACTION:
            return
        with world.undisturbed():
            store = HookedStore(world.path, world.clock, nothing)
            with store.read() as connection:
                ids = list(connection.scalars(select(jobs.c.id)))
            for done in perform(store, cancel("operator", "not wanted"), ids):
                accepted[done.job_id] = done.done
            store.engine.dispose()
            if heard and world.processes.booted:
                world.processes.worker.cancel_tick()

    world.plan = plan
    world.run()
    check(world, pushes=1)
    for job_id, was in accepted.items():
        _check_cancelled(world, job_id, accepted=was)


def _check_cancelled(world: World, job_id: str, *, accepted: bool) -> None:
    """Who was told that it is asked for finds it ended soon, and nobody finds a word of it where it was refused."""
    with world.undisturbed():
        history = world.store.history(job_id)
    kinds = [row.kind for row in history]
    assert kinds.count("cancel_requested") == (1 if accepted else 0), kinds
    if accepted:
        after = kinds[kinds.index("cancel_requested") + 1 :]
        decided = next(number for number, kind in enumerate(after) if kind in ("outcome_decided", "media_uploaded"))
        assert decided <= GOES_ON, f"it went on for {decided} events: {after}"
        assert "claimed" not in after[:decided], f"it had to wait for another turn: {after}"


def away(world: World, point: int) -> None:
    """The database is gone at effect `point`, if it is one of its own, and for some more; acknowledgements get lost."""
    left = [4]

    def plan(number: int, name: str) -> None:
        if number >= point and name.startswith("db.") and left[0] > 0:
            left[0] -= 1
            raise StoreAway(f"gone at {name}")

    world.plan = plan
    world.run()
    check(world, pushes=1)


SCENARIOS: dict[str, Callable[[World, int], None]] = {
    "crash": crash,
    "crash and rot": lambda world, point: crash(world, point, rot=True),
    "stall": stall,
    "takeover": takeover,
    "operator": operator,
    "operator heard": lambda world, point: operator(world, point, heard=True),
    "operator and crash": lambda world, point: operator(world, point, crashes=True),
    "database away": away,
}
