"""What can go wrong, or be done to the service, at any of its effects. Each can be combined with each."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from ourvidz.acts import STARTS, cancel, perform, retry
from statemachine.errors import StoreAway
from statemachine.states import State
from tests.fakes import Crash, nothing, refused
from tests.world.house import LEASE, Processes, World
from workers.errors import Misconfigured, TryAgain
from workers.lists import ListsAway
from workers.ports import EngineDied

IN_TRANSACTION: Final = ("db.commit:before", "spool.set_aside:before", "spool.set_aside:after")
FEW: Final = 4
"""Effects that fail while something is away for a moment."""
HOUR: Final = 3600.0


@dataclass(frozen=True)
class Fault:
    """`strike` is called at the first effect, from the point on that was chosen, of which `at` says yes."""

    name: str
    at: Callable[[str], bool]
    strike: Callable[[World, str], None]


class Plan:
    """What is to happen to a world: faults, each at an effect by its number, or at the next one that suits it."""

    def __init__(self, world: World, faults: Sequence[tuple[str, int]]) -> None:
        self._world = world
        self._due = [(FAULTS[name], point) for name, point in faults]

    def __call__(self, number: int, name: str) -> None:
        for due in list(self._due):
            fault, point = due
            if number >= point and fault.at(name):
                self._due.remove(due)
                self._world.struck.append(f"{fault.name} at effect {number} ({name})")
                fault.strike(self._world, name)


def _crash(world: World, _name: str) -> None:
    """The machine dies, before what it was about to do."""
    raise Crash


def _rot(world: World, _name: str) -> None:
    """It dies, and its spool loses half of every file."""
    world.lose_files()
    for file in (world.folder / f"spool of {world.host}").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    raise Crash


def _gone(world: World, _name: str) -> None:
    """It dies, and comes back with an empty disk."""
    world.lose_files()
    shutil.rmtree(world.folder / f"spool of {world.host}", ignore_errors=True)
    raise Crash


def _another_host(world: World, _name: str) -> None:
    """It dies for good; another host is started in its place. The time after, the first one again, files and all."""
    world.lose_files()
    world.host = "another" if world.host == "host" else "host"
    raise Crash


def _engine(_world: World, name: str) -> None:
    """The engine process dies; its worker lives."""
    _world.crashes += 1
    raise EngineDied("engine crashed", "SIGKILL", started=name != "engine.run")


def _stall(world: World, _name: str, *, again: bool = False) -> None:
    """All processes stand still; others take over and finish; then the first ones go on.

    `again`: before they do, an operator has the job run once more, and the others have claimed it.
    """
    others = _others(world)
    with world.undisturbed():
        for _ in range(int(4 * LEASE)):  # past the leases of the dead, and of whoever they were for
            others.round()
            if world.settled():
                break
            world.clock.advance(1.0)
        if again:
            _retry(world, None)
            _claim(world, others)


def _takeover(world: World, _name: str) -> None:
    """As a stall, but the first ones go on while the others have just claimed the job and done nothing yet."""
    others = _others(world)
    with world.undisturbed():
        _claim(world, others)


def _others(world: World) -> Processes:
    world.crashes += 1
    world.watch.blind = True  # two believe that the job is theirs
    with world.undisturbed():
        others = Processes(world, nothing)
        others.boot()
    return others


def _claim(world: World, others: Processes) -> None:
    world.others.append(others)
    for _ in range(int(2 * LEASE)):
        others.supervisor.tick()
        if others.worker.claim_tick(world.clock.now()):
            break
        world.clock.advance(1.0)


def _operator(world: World, _name: str, *, heard: bool = False, crashes: bool = False) -> None:
    """Somebody cancels the job, with a connection of their own.

    `heard`: its worker looks at once, as its heart does when the bell rings; `crashes`: it dies at the next effect.
    """
    with world.undisturbed():
        for done in perform(world.plain, cancel("operator", "not wanted"), world.ids()):
            world.cancels.append((done.job_id, done.done))
        if heard and world.processes.booted:
            world.processes.worker.cancel_tick()
    if crashes:
        here = world.count

        def next_one(_name: str) -> None:
            if world.count > here:
                world.troubles.remove(next_one)
                raise Crash

        world.troubles.append(next_one)


def _requeue(world: World, _name: str, *, stage: State) -> None:
    """When it has ended, an operator has it run again from a stage, if it has that stage."""
    world.afterwards.append(partial(_retry, world, stage))


def _retry(world: World, stage: State | None) -> None:
    world.retries += sum(done.done for done in perform(world.plain, retry("operator", "once more", stage), world.ids()))


def _drain(world: World, _name: str) -> None:
    """A deploy: told to stop, it puts off what it has in hand, and a successor is started."""
    leaving = world.processes
    if not leaving.booted:
        return
    leaving.drain()

    def puts_off(name: str) -> None:
        if world.processes is not leaving:
            world.troubles.remove(puts_off)
        elif _between(name) and not name.startswith("db."):  # its thread waits for a commit that is under way
            leaving.linger()

    world.troubles.append(puts_off)


def _away(world: World, _name: str) -> None:
    """The database is gone for its next few effects: acknowledgements get lost, too."""
    left = iter(range(FEW))
    _trouble(world, "db.", lambda: next(left, None) is not None, lambda name: StoreAway(f"gone at {name}"))


def _away_for_long(world: World, _name: str) -> None:
    """It is gone for longer than a lease."""
    back = world.clock.monotonic() + 2.5 * LEASE
    _trouble(world, "db.", lambda: world.clock.monotonic() < back, lambda name: StoreAway(f"gone at {name}"))


def _unacknowledged(_world: World, name: str) -> None:
    """The commit went through, and its writer hears that the connection is lost."""
    raise StoreAway(f"the connection was lost at {name}")


def _redis_away(world: World, _name: str) -> None:
    """Redis is gone for its next few effects; what was moved before has been moved."""
    left = iter(range(FEW))
    _trouble(world, "lists.", lambda: next(left, None) is not None, lambda name: ListsAway(f"gone at {name}"))


def _trouble(world: World, where: str, holds: Callable[[], bool], error: Callable[[str], Exception]) -> None:
    """From this effect on, as long as it `holds`."""

    def trouble(name: str) -> None:
        if not name.startswith(where):
            return
        if not holds():
            world.troubles.remove(trouble)
            return
        raise error(name)

    world.troubles.append(trouble)


def _pushed(world: World, _name: str, *, how: Callable[[bytes], bytes]) -> None:
    """The producer pushes it again."""
    queue, payload = world.first
    world.push(queue, how(payload))


def _otherwise(payload: bytes) -> bytes:
    """The same payload as other bytes, where it is one."""
    try:
        return json.dumps(json.loads(payload), indent=1, sort_keys=True).encode()
    except ValueError:
        return payload


def _altered(world: World, _name: str) -> None:
    """The producer pushes other content under the same id; it differs in nothing that is drawn."""
    queue, payload = world.first
    try:
        world.push(queue, json.dumps({**json.loads(payload), "note": f"number {world.pushes}"}).encode())
        world.altered += 1
    except ValueError:
        world.push(queue, payload)


def _left_behind(world: World, _name: str) -> None:
    """It lies in the processing list of an ingress that died long ago, too."""
    queue, payload = world.first
    world.redis.processing[queue, "long dead"].appendleft(payload)
    world.pushes += 1


def _answered(world: World, _name: str, *, code: int | None, accepted: bool) -> None:
    """The receiver says no, or nothing, whether it has accepted or not."""
    world.receiver.answers.insert(0, refused(code, accepted=accepted))


def _put(_world: World, name: str) -> None:
    """The storage answers with an error, or not at all; behind the PUT it has what was sent."""
    raise TryAgain(f"the storage did not answer at {name}", error_type="NoAnswer")


def _forbidden(_world: World, _name: str) -> None:
    """The storage does not know us for a moment: its lane pauses."""
    raise Misconfigured("the storage refuses our credentials (403)", error_type="StorageForbidden")


def _late(world: World, _name: str) -> None:
    """The references' host is down for a moment."""
    for url in ("https://host/a.png", "https://host/b.png"):
        world.references.ends.setdefault(url, []).insert(0, TryAgain("host answered 503"))


def _wall(world: World, _name: str, *, seconds: float) -> None:
    """Somebody sets the wall clock."""
    world.clock.set_wall(seconds)


def _anywhere(_name: str) -> bool:
    return True


def _between(name: str) -> bool:
    """Not inside a transaction: on SQLite nobody else could write."""
    return name not in IN_TRANSACTION


def _fenceable(name: str) -> bool:
    """Not between the last look at the lease and the first byte of a request: nothing can fence what is already on
    its way, which is why outcomes carry the same id and the same body every time."""
    return _between(name) and name != "receiver.post:before"


def _one_of(*names: str) -> Callable[[str], bool]:
    return lambda name: name.startswith(names)


_TABLE: Final = (
    Fault("crash", _anywhere, _crash),
    Fault("crash and rot", _anywhere, _rot),
    Fault("crash and empty disk", _anywhere, _gone),
    Fault("another host", _anywhere, _another_host),
    Fault("engine dies", _one_of("engine."), _engine),
    Fault("stall", _fenceable, _stall),
    Fault("stall and requeue", _fenceable, partial(_stall, again=True)),
    Fault("takeover", _fenceable, _takeover),
    Fault("drain", _between, _drain),
    Fault("operator", _between, _operator),
    Fault("operator heard", _between, partial(_operator, heard=True)),
    Fault("operator and crash", _between, partial(_operator, crashes=True)),
    *(Fault(f"requeue from {stage}", _anywhere, partial(_requeue, stage=stage)) for stage in STARTS),
    Fault("database away", _one_of("db."), _away),
    Fault("database away for long", _one_of("db."), _away_for_long),
    Fault("lost acknowledgement", _one_of("db.commit:after"), _unacknowledged),
    Fault("redis away", _one_of("lists."), _redis_away),
    Fault("pushed twice", _anywhere, partial(_pushed, how=bytes)),
    Fault("pushed otherwise", _anywhere, partial(_pushed, how=_otherwise)),
    Fault("pushed altered", _anywhere, _altered),
    Fault("left behind", _anywhere, _left_behind),
    Fault("accepted and answered 500", _one_of("receiver.post:before"), partial(_answered, code=500, accepted=True)),
    Fault("accepted without answer", _one_of("receiver.post:before"), partial(_answered, code=None, accepted=True)),
    Fault("answered 503", _one_of("receiver.post:before"), partial(_answered, code=503, accepted=False)),
    Fault("upload without answer", _one_of("bucket.put"), _put),
    Fault("storage forbidden", _one_of("bucket.put:before"), _forbidden),
    Fault("references late", _one_of("references.fetch:before"), _late),
    Fault("clock forward", _anywhere, partial(_wall, seconds=HOUR)),
    Fault("clock back", _anywhere, partial(_wall, seconds=-HOUR)),
)

FAULTS: Final = {fault.name: fault for fault in _TABLE}
"""By the names that a replay uses: no commas and no @ in them."""

ONCE: Final = tuple(name for name in FAULTS if name.startswith("requeue"))
"""Where they strike makes no difference."""
