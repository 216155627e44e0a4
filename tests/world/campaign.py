"""Thousands of worlds: every single crash, every fault alone, then faults in pairs and triples at random.

python -m tests.world.campaign [--seed N] [--minutes M | --worlds N] [--only NAME] [--jobs N]
python -m tests.world.campaign --replay 'SEED:KIND:FAULT@EFFECT,FAULT@EFFECT'
"""

import argparse
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from random import Random
from typing import Final

from tests.world.faults import FAULTS, ONCE
from tests.world.ground import Drawn, Ground, Violated, ground
from tests.world.kinds import KINDS, job_type

DEEP: Final = ("one image", "video from start to end", "refused")
"""Of these every fault is met alone at every effect; all kinds are crashed at every effect."""
LATER: Final = 1.3
"""Faults may strike after an undisturbed life is over: those before have made it longer."""
CHUNK: Final = 25
"""Worlds that a process is given at once."""


def singles(here: Ground, *, only: str | None = None) -> Iterator[Drawn]:
    """Every kind crashed at every effect; the deep ones with each fault at each effect, and crashed in a second run."""
    for fault in FAULTS.values():
        if only is not None and fault.name != only:
            continue
        for kind in KINDS if fault.name == "crash" or only is not None else DEEP:
            points = here.calm(kind).points(fault.at)
            if fault.name not in ONCE:
                yield from (Drawn(0, kind, ((fault.name, point),)) for point in points)
                continue
            again = (fault.name, 1)
            yield Drawn(0, kind, (again,))
            second = range(len(points) + 1, here.effects(kind, (again,)) + 1)
            yield from (Drawn(0, kind, (again, ("crash", point))) for point in second)


def draw(here: Ground, seed: int, *, only: str | None = None) -> Iterator[Drawn]:
    """Pairs and triples without end, of any kind at any effects. `only`: of which this fault is always one."""
    dice = Random(seed)
    kinds, names = list(KINDS), list(FAULTS)
    while True:
        kind = dice.choice(kinds)
        length = round(LATER * len(here.calm(kind).trace))
        chosen = [only or dice.choice(names), *(dice.choice(names) for _ in range(dice.choice((1, 1, 2))))]
        faults = sorted(((name, dice.randint(1, length)) for name in chosen), key=lambda fault: fault[1])
        yield Drawn(dice.randrange(10**6), kind, tuple(faults))


def scenario(drawn: Drawn) -> str:
    """Under which it is counted."""
    return drawn.faults[0][0] if len(drawn.faults) == 1 else ("pairs", "triples")[len(drawn.faults) - 2]


def replay(here: Ground, drawn: Drawn) -> int:
    """Show what happened, with what struck, the job's history, and the verdict; 1 where an invariant does not hold."""
    calm, why = here.calm(drawn.kind), ""
    with here.world(drawn.kind, drawn.seed) as world:
        try:
            here.live_through(world, drawn.faults, calm)
        except Violated as violated:
            why = str(violated)
        for number, name in enumerate(world.trace, start=1):
            told = [each for each in world.struck if f" at effect {number} " in each]
            print(f"{number:5}  {name}" + "".join(f"   <-- {each}" for each in told))
        for job_id in world.ids():
            print(f"\njob {job_id}")
            for row in world.plain.history(job_id):
                by = row.worker_id or "-"
                print(f"{row.version:5}  {row.at:%H:%M:%S}  {by:4} {row.to_state:14} {row.kind}  {row.data}")
    print(f"\n{drawn}: {why or 'nothing is wrong'}")
    return int(bool(why))


_stack: Final = ExitStack()
_mine: list[Ground] = []


def _live(many: list[Drawn], within: Path) -> list[tuple[Drawn, str | None]]:
    """In a process of the pool, whose ground is prepared once: each world, and what is wrong with it, in one line."""
    if not _mine:
        _mine.append(_stack.enter_context(ground(within)))
    told: list[tuple[Drawn, str | None]] = []
    for drawn in many:
        try:
            _mine[0].live(drawn)
            told.append((drawn, None))
        except Violated as violated:
            told.append((drawn, " ".join(str(violated).split())[:400]))
    return told


def campaign(seed: int, *, until: float, worlds: int | None, only: str | None, processes: int) -> int:
    """Run it and print the tables; the number of violations. `until` is a reading of the monotonic clock."""
    ran: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    begun = time.monotonic()
    with ground() as here, ProcessPoolExecutor(processes) as pool:
        wanted = chain(singles(here, only=only), draw(here, seed, only=only))
        flying: set[Future[list[tuple[Drawn, str | None]]]] = set()
        left = worlds
        while True:
            while len(flying) < 2 * processes and time.monotonic() < until and left != 0:
                some = [next(wanted) for _ in range(CHUNK if left is None else min(CHUNK, left))]
                left = None if left is None else left - len(some)
                flying.add(pool.submit(_live, some, here.folder))
            if not flying:
                break
            done, flying = wait(flying, return_when=FIRST_COMPLETED)
            for drawn, why in chain.from_iterable(future.result() for future in done):
                ran[scenario(drawn)] += 1
                if why is not None:
                    bad[scenario(drawn)] += 1
                    print(f"\r\033[K--replay '{drawn}'  {why}")
            sys.stdout.write(
                f"\r\033[K{ran.total()} worlds, {bad.total()} violations, {time.monotonic() - begun:.0f} s"
            )
            sys.stdout.flush()
        _tables(here, ran, bad)
    return bad.total()


def _tables(here: Ground, ran: Counter[str], bad: Counter[str]) -> None:
    points: Counter[str] = Counter()
    for kind in KINDS:
        points[job_type(kind)] += len(here.calm(kind).trace)
    print("\n\ncrash points      job type")
    for name, count in points.items():
        print(f"{count:12}      {name}")
    print("\n      worlds  violations  scenario")
    for name, count in [*ran.items(), ("all", ran.total())]:
        print(f"{count:12}{bad.total() if name == 'all' else bad[name]:12}  {name}")


def main() -> int:
    """0 where nothing was violated, 1 where something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.world.campaign")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the random part")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=float, default=15.0)
    limit.add_argument("--worlds", type=int, help="stop after so many")
    parser.add_argument("--only", choices=list(FAULTS), metavar="NAME", help="one fault, alone and with others")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--replay", type=Drawn.parse, metavar="WORLD", help="run one world again and show it")
    chosen = parser.parse_args()
    if chosen.replay is not None:
        with ground() as here:
            return replay(here, chosen.replay)
    print(f"seed {chosen.seed}", flush=True)
    until = float("inf") if chosen.worlds is not None else time.monotonic() + 60 * chosen.minutes
    found = campaign(chosen.seed, until=until, worlds=chosen.worlds, only=chosen.only, processes=chosen.jobs)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
