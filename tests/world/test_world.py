"""Kill the service at every effect of a job's life, and at each it ends as if nothing had happened."""

import shutil
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.world.kinds import KINDS
from tests.world.scenarios import SCENARIOS, build, undisturbed

RAM = Path("/dev/shm")
DEEP = ("one image", "video from start to end", "refused")
"""Every kind is crashed at every point; these are disturbed in all ways."""


UNEXPECTED = {"unexpected", "attempt lost", "history refused", "lease not ended", "ingress.refused_by_store"}
"""What the service logs when it meets what nobody has thought of. It lives on; the world does not forgive it."""


@pytest.fixture(autouse=True)
def mishaps() -> Iterator[list[str]]:
    """What the service says while it dies a thousand times is nobody's to read, but for its surprises."""
    before, found = structlog.get_config(), []

    def listen(_logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        if event["event"] in UNEXPECTED and (method != "info"):
            found.append(f"{event['event']}: {event.get('error') or event.get('reason')}")
        raise structlog.DropEvent

    structlog.configure(processors=[listen])
    yield found
    structlog.configure(**before)


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    """A folder that forgets at once: the world's fsyncs protect nobody."""
    if not RAM.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="ourvidz-world-", dir=RAM))  # others may run the same test now
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("kind", "scenario"),
    [(kind, "crash") for kind in KINDS]
    + [(kind, name) for kind in DEEP for name in SCENARIOS if name != "crash"]
    + [("three images", "operator heard")],
)
def test_whatever_happens_at_any_effect_the_job_ends_as_it_should(
    ram: Path, empty_sqlite: Path, mishaps: list[str], kind: str, scenario: str
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
            assert not mishaps, f"the service was surprised: {mishaps}"
        except Exception as error:  # whatever it is, say where
            name = world.trace[point - 1] if len(world.trace) >= point else "?"
            raise AssertionError(f"{kind}, {scenario} at effect {point} ({name}): {error!r}") from error
        if scenario.startswith("crash"):
            assert world.bucket.contents == calm.bucket.contents, f"{kind}, {scenario} at effect {point}: other bytes"
        world.processes.die()
        shutil.rmtree(world.folder)
