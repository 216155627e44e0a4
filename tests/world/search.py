"""World after world until the first in which an invariant does not hold: what a planted bug is looked for with.

python -m tests.world.search KIND FAULT      the fault at each effect of that kind's life in turn
python -m tests.world.search --seeds N [--worlds M]      at most M of the campaign's pairs and triples, N times
"""

import argparse
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from tests.world.campaign import draw
from tests.world.faults import FAULTS
from tests.world.ground import Drawn, Ground, Violated, ground

WORLDS: Final = 60


def in_turn(here: Ground, kind: str, fault: str) -> Iterator[Drawn]:
    """The worlds of that kind in which that fault alone strikes, in the order of the effects."""
    for point in here.calm(kind).points(FAULTS[fault].at):
        yield Drawn(0, kind, ((fault, point),))


def search(here: Ground, worlds: Iterable[Drawn]) -> str:
    """One line: how many worlds were tried, and what was wrong with the last of them, if anything was."""
    tried = 0
    try:
        for drawn in worlds:
            tried += 1
            here.live(drawn)
    except Violated as violated:
        return f"found in {tried} worlds: '{drawn}' {violated}"
    except AssertionError as error:  # of a life to which nothing was done
        return f"found in {tried} worlds: undisturbed {error}"
    return f"nothing in {tried} worlds"


def main() -> None:
    """A line for the kind and the fault, or one for each seed."""
    parser = argparse.ArgumentParser(prog="python -m tests.world.search")
    parser.add_argument("kind", nargs="?")
    parser.add_argument("fault", nargs="?", choices=list(FAULTS), default="crash")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--worlds", type=int, default=WORLDS)
    chosen = parser.parse_args()
    with ground() as here:
        if chosen.kind is not None:
            print(search(here, in_turn(here, chosen.kind, chosen.fault)))
            return
        for seed in range(1, chosen.seeds + 1):
            print(search(here, islice(draw(here, seed), chosen.worlds)), flush=True)


if __name__ == "__main__":
    main()
