"""Kill the service at every effect of a job's life, and at each it ends as if nothing had happened."""

from collections.abc import Iterator
from itertools import islice

import pytest

from tests.world.campaign import DEEP, draw
from tests.world.faults import FAULTS, ONCE
from tests.world.ground import Drawn, Ground, Violated, ground
from tests.world.kinds import NAMED

SEED = 20250716
WORLDS = 48
"""Of two or three faults at once; `make world` runs thousands of them."""
SPREAD = 12
"""At so many effects each other fault is met than a crash; `make world` meets it at all."""


@pytest.fixture(scope="module")
def here() -> Iterator[Ground]:
    with ground() as prepared:
        yield prepared


def live(here: Ground, drawn: Drawn) -> None:
    try:
        here.live(drawn)
    except Violated as violated:
        ((fault, point),) = drawn.faults
        name = here.calm(drawn.kind).trace[point - 1]
        raise AssertionError(f"{drawn.kind}, {fault} at effect {point} ({name}): {violated}") from violated


@pytest.mark.parametrize(
    ("kind", "scenario"),
    [(kind, "crash") for kind in NAMED]
    + [(kind, name) for kind in DEEP for name in FAULTS if name != "crash"]
    + [("three images", "operator heard")],
)
def test_whatever_happens_at_any_effect_the_job_ends_as_it_should(here: Ground, kind: str, scenario: str) -> None:
    """Effects happen at least once, facts exactly once, one outcome is told, and the bytes are the same."""
    points = here.calm(kind).points(FAULTS[scenario].at)
    most = len(points) if scenario == "crash" else 1 if scenario in ONCE else SPREAD
    for point in points[:: -(-len(points) // most) or 1]:
        live(here, Drawn(0, kind, ((scenario, point),)))


def test_whatever_happens_together_the_job_ends_as_it_should(here: Ground) -> None:
    """`python -m tests.world.campaign --replay` shows the world whose words stand in the failure."""
    for drawn in islice(draw(here, SEED), WORLDS):
        try:
            here.live(drawn)
        except Violated as violated:
            raise AssertionError(f"--replay '{drawn}': {violated}") from violated
