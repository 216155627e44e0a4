"""What befalls a job beside its work: errors, interruptions, people. The state machine's own decisions judge them."""

import random
from collections import deque
from typing import Final

import msgspec

from ourvidz.bench.dice import Lottery
from ourvidz.bench.errands import Errand
from statemachine.decisions import CALLBACK_DELAYS, CRASH_BUDGET
from statemachine.states import State
from workers.presets import PRESETS


class Stumble(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt fails. `http_code` of a receiver that answered."""

    error_class: str
    error_type: str
    message: str
    http_code: int | None = None


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """The lease ends without a result, and another worker goes on. `silent` seconds pass before anybody notices."""

    reason: str
    detail: str | None = None
    counts: bool = True
    silent: float = 0.0


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody does not want it any more."""

    by: str
    reason: str


Mishap = Stumble | Break | Withdrawal
Mishaps = dict[State, deque[Mishap]]
"""Stage → what its attempts meet, in this order. `queued`: before anybody has claimed it."""

RECEIVER_DOWN: Final = Stumble(
    error_class="transient", error_type="CallbackDelayed", message="the receiver answered 503", http_code=503
)
NO_ANSWER: Final = Stumble(
    error_class="transient",
    error_type="NoAnswer",
    message="the callback got no answer: no complete answer within 30 s",
)
STORAGE_DOWN: Final = Stumble(
    error_class="transient", error_type="StorageAway", message="the storage answered 503: SlowDown"
)
SLOW_REFERENCE: Final = Stumble(
    error_class="transient",
    error_type="ReferenceAway",
    message="Generation failed: the reference cannot be used: no complete answer within 30 s",
)
NO_REFERENCE: Final = Stumble(
    error_class="permanent",
    error_type="ReferenceRefused",
    message="Generation failed: the reference cannot be used: its host answered 404",
)
NO_MEMORY: Final = Stumble(
    error_class="device_memory",
    error_type="OutOfMemoryError",
    message="Insufficient VRAM for generation: tried to allocate 2.25 GiB",
)
BLANK: Final = Stumble(
    error_class="transient", error_type="BlankOutput", message="Generation failed: the picture is of one colour"
)
POLICY: Final = Stumble(
    error_class="permanent", error_type="ContentPolicy", message="Invalid parameters: the prompt is not allowed"
)
DRAINED: Final = Break(reason="drained", counts=False)
CRASHED: Final = Break(reason="engine crashed", detail="exit code -9")
SILENT: Final = Break(reason="lease expired", detail="no renewal for 30 s", silent=34.0)
UNWANTED: Final = Withdrawal(by="support@ops-1", reason="the user asked for it")

REFUSED: Final = 0.004
"""The share of payloads that ask for what cannot be."""
_FATAL: Final = 0.016
"""The share of jobs that fail otherwise."""
_WITHDRAWN: Final = 0.01
_STUMBLING: Final = 0.068
_BROKEN: Final = 0.02
REQUEUED: Final = 0.004
"""The share of jobs that an operator starts again after their end."""

_RETRIES: Final = Lottery([(1, 70.0), (2, 20.0), (3, 10.0)])
_STUMBLES: Final[Lottery[tuple[State, Mishap]]] = Lottery(
    [
        ((State.CALLBACK, RECEIVER_DOWN), 36.0),
        ((State.CALLBACK, NO_ANSWER), 9.0),
        ((State.UPLOADING, STORAGE_DOWN), 25.0),
        ((State.FETCHING_REFS, SLOW_REFERENCE), 12.0),
        ((State.GENERATING, NO_MEMORY), 9.0),
        ((State.GENERATING, BLANK), 9.0),
    ]
)
_FATES: Final[Lottery[tuple[State, Mishap, int]]] = Lottery(
    [
        ((State.GENERATING, POLICY, 1), 25.0),
        ((State.FETCHING_REFS, NO_REFERENCE, 1), 25.0),
        ((State.GENERATING, NO_MEMORY, 2), 25.0),
        ((State.GENERATING, CRASHED, CRASH_BUDGET), 6.0),
        ((State.CALLBACK, RECEIVER_DOWN, len(CALLBACK_DELAYS) + 1), 19.0),
    ]
)
_BREAKS: Final[Lottery[tuple[State, Mishap]]] = Lottery(
    [
        ((State.GENERATING, DRAINED), 50.0),
        ((State.GENERATING, CRASHED), 25.0),
        ((State.GENERATING, SILENT), 12.0),
        ((State.UPLOADING, SILENT), 8.0),
        ((State.ENHANCING, DRAINED), 5.0),
    ]
)


def mishaps(errand: Errand, stages: list[str], dice: random.Random) -> Mishaps:
    """What this job meets. What would befall a stage that it has not befalls its generating instead."""
    met: Mishaps = {}

    def befalls(stage: State, mishap: Mishap, times: int) -> None:
        if stage is State.FETCHING_REFS and stage not in stages:
            stage, mishap = State.GENERATING, POLICY if mishap is NO_REFERENCE else BLANK
        if stage is State.ENHANCING and not PRESETS[errand.job_type].enhance:
            stage = State.GENERATING
        met.setdefault(stage, deque()).extend([mishap] * times)

    lot = dice.random()
    if lot < _FATAL:
        befalls(*_FATES.draw(dice))
    elif lot < _FATAL + _WITHDRAWN:
        met[State.QUEUED if dice.random() < 0.5 else State.GENERATING] = deque([UNWANTED])
    elif lot < _FATAL + _WITHDRAWN + _STUMBLING:
        stage, stumble = _STUMBLES.draw(dice)
        befalls(stage, stumble, 1 if stage is State.GENERATING else _RETRIES.draw(dice))
    if dice.random() < _BROKEN:
        stage, broken = _BREAKS.draw(dice)
        befalls(stage, broken, 1)
    return met
