"""What is told of a generation that has ended, to whoever counts them."""

from typing import Final

import msgspec

from statemachine.job import Job
from statemachine.states import State

FAILURES: Final = frozenset({"retry", "failed", "interrupted"})


class Generation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt at generating. `generation_time` in seconds, `vram_used` in GiB and absent without a GPU.

    Of a success the time is the device's, summed over resumed parts; of a failure it is what the attempt took.
    """

    worker_id: str
    job_type: str | None
    generation_time: float
    reference_mode: str
    success: bool
    timestamp: str
    vram_used: float | None = None


def generation_ended(before: Job, after: Job, *, worker_id: str) -> Generation | None:
    """The attempt at generating that ended between the two, in success or in error.

    None where there was none, where it was cancelled, and where it was cut short and the job had no part in it.
    """
    tries = after.tries(State.GENERATING)
    last = tries[-1] if tries else None
    if last is None or last.ended_at is None or last.run_seconds is None or last in before.attempts:
        return None
    success = last.outcome == "succeeded" and after.media is not None
    if not success and (last.outcome not in FAILURES or not last.counts):
        return None
    media = after.media if success else None
    return Generation(
        worker_id=worker_id,
        job_type=after.job_type,
        generation_time=round(last.run_seconds if media is None else media.device_seconds, 3),
        reference_mode=after.request.get("reference_mode", "none"),
        success=success,
        timestamp=last.ended_at.isoformat(),
        vram_used=None if media is None else media.memory.get("vram_used_gb"),
    )
