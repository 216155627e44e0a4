"""A batch that does not fit is drawn in parts, and one image that does not fit fails; the engine goes on.

The real door: the kernel refuses the engine's process more address space, and torch's allocator says so. Limits are
measured from what the process has, and narrowed until the whole batch does not fit: what lies unused in its heap is
another amount each time. Six of 320 pixels want some 370 MiB more and three 140; three of 512 pixels want some 400 and
one 140; one of 768 wants 300. The decoder's tensors of such parts are larger than 32 MiB, so that glibc maps each by
itself.
"""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.engines.asking import Answer, Studio
from workers.engines.messages import Moved, Progress, Reduced

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit and /proc are Linux's")

MIB: Final = 2**20
SIZE: Final[dict[str, Any]] = {"width": 2560, "height": 2560, "steps": 1}
LARGE: Final[dict[str, Any]] = {"width": 4096, "height": 4096, "steps": 1}
HUGE: Final[dict[str, Any]] = {"width": 6144, "height": 6144, "steps": 1}


@contextmanager
def left(studio: Studio, mib: int) -> Iterator[None]:
    """Within, the engine's process may take so much more than it has."""
    pid = studio.engine.ready().pid
    status = Path(f"/proc/{pid}/status").read_text()
    (taken,) = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmSize")]
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (taken + mib * MIB, before[1]))
    try:
        yield
    finally:
        if studio.engine.pid == pid:
            resource.prlimit(pid, resource.RLIMIT_AS, before)


def squeezed(studio: Studio, **asked: Any) -> Answer:
    """The answer under the widest limit under which the batch is not drawn as it was asked."""
    for mib in range(480, 40, -80):
        studio.ask(model="single_file", steps=1)  # another model, which is to go first
        with left(studio, mib):
            answer = studio.ask(**asked)
        if answer.generated.batches != [asked["num_images"]]:
            return answer
    raise AssertionError("the batch fits under every limit")


def reductions(answer: Answer) -> list[str]:
    assert {message.what for message in answer.messages if isinstance(message, Reduced)} <= {"batch"}
    return [message.why for message in answer.messages if isinstance(message, Reduced)]


def test_a_batch_too_large_is_drawn_in_parts(studio: Studio) -> None:
    """Other models go first; seeds stay those of the images; the parts are what smaller jobs would have drawn."""
    firsts, lasts = (studio.ask(**SIZE, num_images=3, seed=seed) for seed in (7, 10))
    pid = studio.engine.pid
    answer = squeezed(studio, **SIZE, num_images=6)
    assert answer.generated.batches == [3, 3]
    assert reductions(answer) == ["no memory on cpu for 6 images at once; they are drawn 3 at a time"]
    kinds = [type(message) for message in answer.messages if isinstance(message, Moved | Reduced)]
    assert kinds[-2:] == [Moved, Reduced]
    assert "single_file" in {message.model for message in answer.messages if isinstance(message, Moved)}
    assert [asset.seed for asset in answer.assets] == [7, 8, 9, 10, 11, 12]
    assert [p.tobytes() for p in answer.pixels()] == [p.tobytes() for p in [*firsts.pixels(), *lasts.pixels()]]
    assert studio.engine.pid == pid


def test_where_three_are_too_many_each_is_drawn_alone(studio: Studio) -> None:
    alone = studio.ask(**LARGE, seed=9)
    answer = squeezed(studio, **LARGE, num_images=3)
    assert answer.generated.batches == [1, 1, 1]
    assert reductions(answer) == ["no memory on cpu for 3 images at once; they are drawn 1 at a time"]
    assert answer.pixels()[2].tobytes() == alone.pixels()[0].tobytes()


def test_where_one_does_not_fit_the_request_fails_and_the_engine_goes_on(studio: Studio) -> None:
    undisturbed = studio.ask()
    pid = studio.engine.pid
    with left(studio, 64):
        answer = studio.ask(**HUGE, num_images=3)
    assert (answer.failed.error_class, answer.failed.message) == ("device_memory", "Insufficient VRAM for generation")
    assert len(reductions(answer)) == 1
    assert not list(Path(answer.request.spool).iterdir())
    assert studio.ask().bytes() == undisturbed.bytes()
    assert studio.engine.pid == pid


def test_a_retry_draws_only_the_parts_that_miss_an_image(studio: Studio) -> None:
    answer = squeezed(studio, **SIZE, num_images=6, done=[0, 1, 2])
    assert answer.generated.batches == [3]
    assert [asset.index for asset in answer.assets] == [3, 4, 5]
    assert [message.step for message in answer.messages if isinstance(message, Progress)][-1] == 1
