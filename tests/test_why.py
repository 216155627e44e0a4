"""`jobs why`: for every reason that there is, one sentence and its name."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import pytest

from ourvidz.inspect.document import reason_document
from ourvidz.inspect.situation import Situation
from ourvidz.inspect.why import REASONS
from statemachine import decisions
from tests.fates import FATES, Life, worker


def paused() -> Situation:
    """Somebody paused the queue."""
    life = Life().wait(60)
    row = {"name": "sdxl_queue", "paused_by": "ada", "paused_at": life.now - timedelta(seconds=30), "reason": "move"}
    return life.seen(worker(life.now, "sdxl_image_fast"), paused=row)


def elsewhere() -> Situation:
    """Its checkpoint is on a host that was heard a moment ago."""
    life = Life().wait(1).claim().wait(5).checkpoint(7).wait(1).interrupt().wait(4)
    there = worker(life.now, worker_id="gpu-2-1111", spool="gpu-2")
    here = worker(life.now, "sdxl_image_fast", spool="gpu-1")
    return life.seen(there, here, spool="gpu-2", spool_grace=30.0)


def silent() -> Situation:
    """The lease ran out."""
    life = Life().wait(1).claim().wait(45)
    return life.seen(worker(life.now, "sdxl_image_fast", seen=45.0))


def set_up() -> Situation:
    """The storage's folder is full."""
    life = Life().wait(1).claim().generate().start()
    life.trouble("the folder is full", "StorageUnwritable", "misconfiguration").wait(5)
    return life.seen(worker(life.now, "sdxl_image_fast"))


def cancelled() -> Situation:
    """An operator ended it."""
    life = Life().wait(1)
    life.write(*decisions.cancel(life.job, by="ada", reason="wrong prompt")).claim().tell().finish()
    return life.seen()


CASES: Final[list[tuple[Callable[[], Situation], str, str]]] = [
    (FATES["completed"], "completed", "It did what was asked."),
    (FATES["refused_payload"], "failed", "It failed: config.num_images must be 1, 3 or 6, got 4 (InvalidPayload)."),
    (FATES["undeliverable"], "failed", "Its receiver could not be told: HTTP 500."),
    (cancelled, "cancelled", "It was cancelled by ada: wrong prompt."),
    (
        FATES["running_at_step_7"],
        "in_work",
        "It is in hand: generating for 7.5 s on gpu-1-3f9c (cuda:0), step 7 of 15, about 8 s left.",
    ),
    (
        silent,
        "stalled",
        "Its worker is silent: gpu-1-3f9c (cuda:0) was last heard 45 s ago and its lease ended 15 s ago; "
        "a supervisor hands the job on.",
    ),
    (
        FATES["waiting_for_a_retry"],
        "backoff",
        "It failed 0.4 s ago (StorageAway: file storage at https://files.example/?… connection refused); next try "
        "in 1.6 s, at 12:00:12 UTC (third of 10 tries).",
    ),
    (
        set_up,
        "set_up",
        "It waits for the set-up to be mended (the folder is full); next try in 10 s, at 12:00:24 UTC "
        "(it costs the job no attempt).",
    ),
    (
        paused,
        "paused",
        "Its queue is paused: ada paused sdxl_queue 30 s ago (move); it starts when that is resumed.",
    ),
    (lambda: Life().wait(2).seen(), "no_worker", "No worker is running; it starts as soon as one does."),
    (
        FATES["no_worker_for_its_model"],
        "no_worker_for_model",
        "The only running worker does not take sdxl_image_fast, which needs the model lustify_sdxl; "
        "it starts as soon as one does.",
    ),
    (
        elsewhere,
        "files_elsewhere",
        "Its files are on gpu-2, which was heard 2 s ago; it goes on there, or without them on another host in 26 s.",
    ),
    (
        FATES["requeued"],
        "others_turn",
        "It is behind 2 other jobs (1 whose turn comes first); it starts as soon as gpu-1-3f9c is free.",
    ),
    (FATES["interrupted"], "next_in_line", "It is next in line; it goes on as soon as gpu-1-3f9c is free."),
    (
        lambda: Life().wait(2).seen(past=True),
        "not_recorded",
        "Which workers ran then, and which jobs were before it, is not in the history; "
        "it starts as soon as a worker takes it.",
    ),
]


@pytest.mark.parametrize(("make", "reason", "said"), CASES)
def test_why_it_is_where_it_is(make: Callable[[], Situation], reason: str, said: str) -> None:
    told = reason_document(make())
    assert told["why"] == {"reason": reason, "said": said}


def test_every_reason_is_tried() -> None:
    assert {reason for _, reason, _ in CASES} == set(REASONS)
