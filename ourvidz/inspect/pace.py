"""How far the running attempt is, how fast it goes, and how long it still takes."""

from typing import Any

import msgspec

from ourvidz.inspect.situation import Situation
from statemachine import events as e


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker last said of its attempt. Speed and time left only where two steps were made to reckon from."""

    step: int | None = None
    of: int | None = None
    per_second: float | None = None
    left_seconds: float | None = None
    doing: str | None = None


def pace(s: Situation) -> Pace:
    """The pace of the attempt that is running; nothing is known of one that told nothing."""
    told: dict[str, Any] = s.progress
    step, of, doing = told.get("step"), told.get("of"), told.get("doing")
    attempt = s.job.open_attempt
    if attempt is None or not isinstance(step, int) or not isinstance(of, int) or of <= 0:
        return Pace(doing=None if doing is None else str(doing))
    begun, base = attempt.started_at, 0
    loaded = s.last(e.ModelLoaded)
    if loaded is not None and loaded.at > begun:
        begun = loaded.at
    before = [row.event for row in s.history if isinstance(row.event, e.Checkpointed) and row.at < attempt.started_at]
    if before and s.job.checkpoint is not None:
        base = min(before[-1].step, step)
    told_at = (s.lease or {}).get("progress_at") or s.now
    passed = (told_at - begun).total_seconds()
    if step - base < 2 or step >= of or passed <= 0:
        return Pace(step=step, of=of)
    per_second = (step - base) / passed
    left = (of - step) / per_second - (s.now - told_at).total_seconds()
    return Pace(step=step, of=of, per_second=round(per_second, 3), left_seconds=max(1.0, round(left)))
