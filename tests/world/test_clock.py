"""Somebody sets the wall clock back: nobody waits for the hour to come round again."""

from collections.abc import Iterator

import pytest

from tests.world.ground import Drawn, Ground, ground
from tests.world.house import World
from workers.errors import Misconfigured

HOUR = 3600.0


@pytest.fixture
def here() -> Iterator[Ground]:
    with ground() as prepared:
        yield prepared


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ("left behind@1,clock back@20", "the dead one's processing list would not be cleared"),
        ("database away for long@3,clock back@6", "the ingress would go on backing off"),
    ],
)
def test_what_an_ingress_waits_for_comes(here: Ground, faults: str, why: str) -> None:
    here.live(Drawn.parse(f"0:one image:{faults}"))


def test_a_paused_lane_goes_on(here: Ground) -> None:
    paused: list[bool] = []

    def plan(world: World, name: str) -> None:
        lane = world.processes.worker.lanes["deliver"] if world.processes.booted else None
        if name == "bucket.put:before" and not paused:
            paused.append(False)
            raise Misconfigured("the storage refuses our credentials (403)", error_type="StorageForbidden")
        if lane is not None and paused == [False] and lane.paused(world.clock.now()):
            world.clock.set_wall(-HOUR)
            paused.append(lane.paused(world.clock.now()))

    with here.world("one image", 0) as world:
        world.plan = lambda _number, name: plan(world, name)
        world.run()
    assert paused == [False, False]


def test_another_host_need_not_wait_for_the_hour_before_it_takes_a_job_up(here: Ground) -> None:
    here.live(Drawn.parse("0:one image:another host@60,clock back@70"))
