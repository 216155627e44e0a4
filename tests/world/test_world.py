"""Kill the service at every effect of a job's life, and at each it ends as if nothing had happened."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.world.kinds import KINDS
from tests.world.scenarios import SCENARIOS, build, undisturbed

RAM = Path("/dev/shm")
DEEP = ("one image", "image, enhanced", "refused")
"""Every kind is crashed at every point; these are disturbed in all ways."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the service says while it dies a thousand times is nobody's to read."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    """A folder that forgets at once: the world's fsyncs protect nobody."""
    if not RAM.is_dir():
        yield tmp_path
        return
    folder = RAM / f"ourvidz-world-{tmp_path.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("kind", "scenario"),
    [(kind, "crash") for kind in KINDS] + [(kind, name) for kind in DEEP for name in SCENARIOS if name != "crash"],
)
def test_whatever_happens_at_any_effect_the_job_ends_as_it_should(
    ram: Path, empty_sqlite: Path, kind: str, scenario: str
) -> None:
    """Effects happen at least once, facts exactly once, one outcome is told, and the bytes are the same."""
    calm = undisturbed(ram / "calm", empty_sqlite, kind)
    points = calm.count
    calm.processes.die()
    assert points > 10
    for point in range(1, points + 1):
        world = build(ram / f"w{point}", empty_sqlite, kind)
        try:
            SCENARIOS[scenario](world, point)
        except Exception as error:  # whatever it is, say where
            name = world.trace[point - 1] if len(world.trace) >= point else "?"
            raise AssertionError(f"{kind}, {scenario} at effect {point} ({name}): {error!r}") from error
        if scenario.startswith("crash"):
            assert world.bucket.contents == calm.bucket.contents, f"{scenario} at {point}: other bytes"
        world.processes.die()
        shutil.rmtree(world.folder)
