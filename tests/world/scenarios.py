"""What is done to a world: a crash, with or without a rotten disk, a stall, a takeover, an operator in between."""

from collections.abc import Callable
from pathlib import Path

from statemachine import decisions
from statemachine.errors import StoreAway
from tests.fakes import Crash, nothing
from tests.world.house import LEASE, HookedStore, Processes, World
from tests.world.invariants import check
from tests.world.kinds import KINDS

IN_TRANSACTION = "db.commit:before"


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


def operator(world: World, point: int) -> None:
    """Somebody cancels the job at effect `point`, with a connection of their own."""

    def plan(number: int, name: str) -> None:
        if number != point or name == IN_TRANSACTION:
            return
        with world.undisturbed():
            store = HookedStore(world.path, world.clock, nothing)
            with store.read() as connection:
                ids = [row[0] for row in connection.exec_driver_sql("SELECT id FROM jobs")]
            for job_id in ids:
                job = store.load(job_id)
                events = decisions.cancel(job, by="operator", reason="not wanted")
                if events:
                    store.append(job, events)
            store.engine.dispose()

    world.plan = plan
    world.run()
    check(world, pushes=1)


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
    "database away": away,
}
