"""A worker claims with what its engine has loaded, and with what the jobs in its hands will leave loaded."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from statemachine.store.schema import workers
from tests.world.house import World
from workers.arrivals import build_payload
from workers.presets import LUSTIFY, PRESETS, WAN_1_3B
from workers.stages import HANDLERS
from workers.worker import Worker

SDXL, WAN = "sdxl_image_fast", "video_fast"


@pytest.fixture
def world(tmp_path: Path, empty_sqlite: Path) -> Iterator[World]:
    made = World(tmp_path, empty_sqlite)
    made.processes.boot()
    yield made
    made.processes.die()


def worker(world: World, *resident: str, window: float = 30.0) -> Worker:
    """A worker whose engine has these models."""
    booted = world.processes.worker
    return Worker(
        booted.identity,
        world.store,
        booted.ports,
        HANDLERS,
        booted.settings,
        pause=lambda failures: None,
        resident=lambda: frozenset(resident),
        affinity_seconds=window,
    )


def push(world: World, *types: str) -> None:
    """In this order, a second apart."""
    for job_type in types:
        payload = build_payload(job_type, "a heron at dawn", created_at=world.clock.now())
        world.push(PRESETS[job_type].queue, json.dumps(payload).encode())
        for ingress in world.processes.ingresses:
            ingress.tick(world.clock.now())
        world.clock.advance(1.0)


def claim(world: World, claiming: Worker) -> list[str | None]:
    """Claim once; the types of all that is then in hand, in the order in which it was claimed."""
    claiming.claim_tick(world.clock.now())
    return [job.job_type for job in claiming.held.jobs()]


def test_jobs_of_the_loaded_model_are_claimed_first(world: World) -> None:
    push(world, WAN, SDXL, WAN, SDXL)
    assert claim(world, worker(world, LUSTIFY)) == [SDXL, SDXL, WAN]


def test_without_a_window_the_order_is_kept(world: World) -> None:
    push(world, WAN, SDXL, WAN, SDXL)
    assert claim(world, worker(world, LUSTIFY, window=0.0)) == [WAN, SDXL, WAN]


def test_what_is_in_hand_decides_what_will_be_loaded(world: World) -> None:
    """SDXL is loaded still, but the last job in hand will have WAN loaded: the next one is to be WAN's as well."""
    push(world, WAN)
    claiming = worker(world, LUSTIFY)
    assert claim(world, claiming) == [WAN]
    push(world, SDXL, WAN, WAN)
    assert claim(world, claiming) == [WAN, WAN, WAN]


def test_with_room_for_both_models_nothing_is_preferred(world: World) -> None:
    push(world, WAN, SDXL, WAN, SDXL)
    assert claim(world, worker(world, LUSTIFY, WAN_1_3B)) == [WAN, SDXL, WAN]


def test_the_workers_row_tells_what_is_loaded(world: World) -> None:
    worker(world, WAN_1_3B, LUSTIFY).see(world.clock.now(), state="active")
    with world.store.read() as connection:
        assert json.loads(connection.scalar(select(workers.c.resident)) or "") == [LUSTIFY, WAN_1_3B]


def test_whoever_was_passed_over_for_the_window_is_claimed_next(world: World) -> None:
    """However long he had waited before that; and the worker remembers it from one claim to the next."""
    push(world, WAN, SDXL, SDXL, SDXL, SDXL, SDXL)
    world.clock.advance(3600.0)
    claiming = worker(world, LUSTIFY)
    assert claim(world, claiming) == [SDXL, SDXL, SDXL]
    world.clock.advance(29.0)
    claiming.held.release(claiming.held.jobs()[0])
    assert claim(world, claiming) == [SDXL, SDXL, SDXL]
    world.clock.advance(1.0)
    claiming.held.release(claiming.held.jobs()[0])
    assert claim(world, claiming) == [SDXL, SDXL, WAN]
