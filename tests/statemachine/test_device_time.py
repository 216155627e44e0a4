"""What device time an attempt took, and what of it was for nothing."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import decisions
from statemachine import events as e
from statemachine.job import Job
from statemachine.store.codec import seal_all

START = datetime(2026, 1, 1, tzinfo=UTC)
checkpoint = partial(e.Checkpointed, of=30, digest="c" * 64)
asset = partial(e.AssetGenerated, seed=1, digest="d" * 64, bytes=1, width=1, height=1)


class Device:
    """A job that is being generated, second by second."""

    def __init__(self) -> None:
        self.now = START
        queued = e.JobQueued(
            payload_digest="d" * 64,
            job_type="sdxl_image_fast",
            user_id=None,
            queue="sdxl_queue",
            source="redis",
            stages=["generating", "uploading", "callback"],
        )
        self.job = Job(id="j")
        self.write(queued)

    def write(self, *events: e.Event, after: float = 0.0) -> "Device":
        self.now += timedelta(seconds=after)
        self.job = seal_all(self.job, list(events), worker_id="w", at=self.now)[1]
        return self

    def begin(self) -> "Device":
        self.write(*decisions.claim(self.job, worker="w", host="h", device="cuda:0", version="1"))
        return self.write(*decisions.start(self.job, device="cuda:0"))

    def die(self, after: float) -> "Device":
        self.now += timedelta(seconds=after)
        ends = decisions.interrupt(self.job, reason="engine crashed", by="w", now=self.now, detail=None)
        return self.write(*ends)

    @property
    def told(self) -> list[tuple[str | None, float | None, float | None]]:
        return [(one.outcome, one.device_seconds, one.wasted_seconds) for one in self.job.attempts]


def test_what_a_checkpoint_kept_is_not_wasted_and_the_media_counts_once() -> None:
    device = Device().begin().write(checkpoint(step=10, name="a", device_seconds=4.0), after=5.0).die(after=3.0)
    device.begin().write(e.MediaGenerated(device_seconds=10.0, engine="null"), after=6.5)
    assert device.told == [("interrupted", 8.0, 4.0), ("succeeded", 6.0, 0.0)]


def test_a_finished_asset_is_kept_as_well() -> None:
    device = Device().begin().write(asset(index=0, name="0.png"), after=5.0).die(after=3.0)
    assert device.told == [("interrupted", 8.0, 3.0)]


def test_a_discarded_checkpoint_gives_its_time_back_to_nobody() -> None:
    device = Device().begin().write(checkpoint(step=10, name="a", device_seconds=4.0), after=4.0).die(after=1.0)
    device.begin().write(e.CheckpointDiscarded(name="a", reason="another model"))
    device.write(e.MediaGenerated(device_seconds=10.0, engine="null"), after=10.0)
    assert device.told == [("interrupted", 5.0, 1.0), ("succeeded", 10.0, 0.0)]


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_what_a_run_without_a_result_drew_was_for_nothing(outcome: str) -> None:
    device = Device().begin().write(checkpoint(step=10, name="a", device_seconds=4.0), after=4.0)
    device.write(e.OutcomeDecided(outcome=outcome, error_class="permanent", error_type="X", message="m"), after=1.0)
    assert device.told == [(outcome, 5.0, 5.0)]


def test_a_stage_without_a_device_has_no_device_time() -> None:
    device = Device().begin().write(asset(index=0, name="0.png"), e.MediaGenerated(device_seconds=1.0, engine="null"))
    device.write(*decisions.start(device.job, device=None)).die(after=9.0)
    assert device.told[-1] == ("interrupted", None, None)


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["checkpoint", "asset", "die", "discard"])), max_size=12))
def test_nothing_is_wasted_that_was_not_spent(course: list[tuple[float, str]]) -> None:
    device, drawn = Device().begin(), 0.0
    for number, (seconds, what) in enumerate(course):
        drawn += seconds
        match what:
            case "checkpoint":
                device.write(checkpoint(step=number, name=f"c{number}", device_seconds=drawn), after=seconds)
            case "asset":
                device.write(asset(index=number, name=f"{number}.png"), after=seconds)
            case "discard" if device.job.checkpoint is not None:
                device.write(e.CheckpointDiscarded(name=device.job.checkpoint.name, reason="rotten"), after=seconds)
            case "die" if not device.job.state.terminal and len(device.job.attempts) < 3:
                device.die(seconds)
                drawn = device.job.checkpoint.device_seconds if device.job.checkpoint else 0.0
                if device.job.outcome is None:
                    device.begin()
        if device.job.outcome is not None:
            break
    for attempt in device.job.attempts:
        if attempt.ended_at is not None:
            assert attempt.device_seconds is not None
            assert attempt.wasted_seconds is not None
            assert 0.0 <= attempt.wasted_seconds <= attempt.device_seconds
