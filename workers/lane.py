"""A lane: take a leased job, run its stage, append what came of it, hand it on."""

import queue
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from statemachine import decisions
from statemachine.errors import FencedOut, IllegalEvent, StoreAway
from statemachine.events import Event
from statemachine.job import Job
from statemachine.states import DEVICE_STAGES, State
from workers.errors import Misconfigured, StageEnds, TryAgain
from workers.ports import EngineDied
from workers.tools import Tools

Handler = Callable[[Job, Tools], list[Event]]

BEGIN_THEMSELVES: Final = DEVICE_STAGES
"""Their handlers record `stage_started` when the device takes the job up, not when it is put before it."""

PAUSE_SECONDS: Final = 15.0
REASONS: Final = 100
"""More different reasons to pause than this are not told apart."""

log = structlog.get_logger()


class Lane:
    """The states it serves, the handlers of their stages, and what waits. `slots` threads may call `tick` at once.

    `ended` is told of each attempt that came into the history: the job before and after it.
    """

    def __init__(
        self,
        name: str,
        handlers: Mapping[State, Handler],
        *,
        slots: int,
        tools_for: Callable[[Job], Tools],
        hand_on: Callable[[Job], None],
        let_go: Callable[[Job], None],
        worker_id: str,
        ended: Callable[[Job, Job], None] = lambda before, after: None,
    ) -> None:
        self.name = name
        self.handlers = handlers
        self.slots = slots
        self._tools_for = tools_for
        self._hand_on = hand_on
        self._let_go = let_go
        self._worker_id = worker_id
        self._ended = ended
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.paused_until: datetime | None = None
        self.pause_reason: str | None = None
        self._well_since: dict[str, bool] = {}  # reason of a pause → whether a job has gone well after it

    def put(self, job: Job) -> None:
        """Give the lane a job that this worker holds."""
        self._waiting.put(job)

    def take(self, timeout: float) -> Job | None:
        """The next job, or None when none came within `timeout` seconds (0: do not wait)."""
        try:
            return self._waiting.get(block=timeout > 0, timeout=timeout or None)
        except queue.Empty:
            return None

    def tick(self, now: datetime) -> bool:
        """Run one waiting job's stage, if one waits and the lane is not paused. True when it did."""
        if self.paused(now):
            return False
        job = self.take(0)
        if job is None:
            return False
        self.run(job)
        return True

    def paused(self, now: datetime) -> bool:
        """A misconfiguration holds the lane for a while: no job is burnt on it.

        A pause that would be longer than any is over: the clock was set back meanwhile.
        """
        return self.paused_until is not None and now < self.paused_until <= now + timedelta(seconds=PAUSE_SECONDS)

    def run(self, job: Job) -> None:
        """Run the stage that is due. Whatever happens, the job ends in the history, at the next lane, or let go."""
        tools = self._tools_for(job)
        bound = log.bind(job=job.id, token=job.token, stage=str(job.state), lane=self.name)
        try:
            again = self._attempt(job, tools, bound)
        except FencedOut as error:
            bound.warning("fenced out", reason=str(error))
            self._let_go(tools.job)
            return
        except StoreAway as error:
            bound.warning("stopping with the database away", reason=str(error))
            self._let_go(tools.job)
            return
        except IllegalEvent as error:
            # A bug of ours that even "it failed" cannot be written about. The lease runs out, the supervisor counts.
            bound.error("history refused", reason=str(error), frames=_frames(error))
            self._let_go(tools.job)
            return
        except Exception as error:  # noqa: BLE001  # even writing that it failed has failed: the lease runs out
            bound.error("attempt lost", error=type(error).__name__, frames=_frames(error))
            self._let_go(tools.job)
            return
        after = tools.job
        if again:
            self.put(after)
        elif after.worker_id != self._worker_id or after.token != job.token:
            self._let_go(after)
        else:
            self._hand_on(after)
        self._ended(job, after)

    def _attempt(self, job: Job, tools: Tools, bound: Any) -> bool:
        """One attempt, into the history. True: nothing was begun, the job waits in this lane again."""
        try:
            if job.state not in BEGIN_THEMSELVES and not job.cancel_pending:
                tools.record(*decisions.start(job))
            if tools.job.cancel_pending:
                tools.record(*decisions.cancelled(tools.job))
                return False
            events = self.handlers[job.state](tools.job, tools)
            if events:
                tools.record(*events)
            self._well_since = dict.fromkeys(self._well_since, True)
        except StageEnds as end:
            self._record_trouble(end, tools, bound)
        except EngineDied as death:
            if not death.started and tools.job.open_attempt is None:
                return self._not_begun(death, tools, bound)
            bound.warning("engine lost", reason=death.reason, detail=death.detail)
            tools.record(
                *decisions.interrupt(
                    tools.job,
                    reason=death.reason,
                    by=self._worker_id,
                    now=tools.now(),
                    detail=death.detail,
                    counts=not death.blameless,
                )
            )
        except (FencedOut, StoreAway):
            raise
        except Exception as error:  # noqa: BLE001  # a bug of ours must not lose the job
            kind = type(error).__name__  # and no more of it: its text may hold what is personal
            bound.error("unexpected", error=kind, frames=_frames(error))
            wrong = TryAgain(f"Generation failed: unexpected {kind}", error_type=kind, budget=3)
            self._record_trouble(wrong, tools, bound)
        return False

    def _record_trouble(self, end: StageEnds, tools: Tools, bound: Any) -> None:
        """Another attempt later, or the end of the run."""
        now = tools.now()
        bound.warning("stage failed", error_class=end.error_class, error_type=end.error_type, message=end.message)
        if isinstance(end, Misconfigured):
            self._pause(now, end.message, bound)
        if tools.job.open_attempt is None:
            tools.record(*decisions.start(tools.job))  # what failed before the device took it up was an attempt too
        tools.record(
            *decisions.trouble(
                tools.job,
                error_class=end.error_class,
                error_type=end.error_type,
                message=end.message,
                now=now,
                jitter=tools.draw(),
                retry_after=end.retry_after if isinstance(end, TryAgain) else None,
                budget=end.budget if isinstance(end, TryAgain) else None,
            )
        )

    def _not_begun(self, death: EngineDied, tools: Tools, bound: Any) -> bool:
        """The engine went before it took this job up. With a new one there it waits here; otherwise others may."""
        try:
            tools.engine.ready()
        except EngineDied as still:
            self._pause(tools.now(), f"the engine does not start: {still}", bound)
            tools.record(
                *decisions.interrupt(
                    tools.job, reason=death.reason, by=self._worker_id, now=tools.now(), detail=str(still), counts=False
                )
            )
            return False
        bound.info("the engine went before it took this job up", reason=death.reason)
        return True

    def _pause(self, now: datetime, reason: str, bound: Any) -> None:
        """Pause, unless others have done well since this very reason was last met: it is then some jobs' own trouble.

        Those wait by their own backoff; forty jobs of one missing bucket must not stop all others.
        """
        if self._well_since.get(reason, False):
            self._well_since[reason] = False
            return
        if len(self._well_since) >= REASONS:
            self._well_since.clear()
        self._well_since[reason] = False
        self.paused_until = now + timedelta(seconds=PAUSE_SECONDS)
        self.pause_reason = reason
        bound.error("lane paused: somebody has to mend the set-up", reason=reason, seconds=PAUSE_SECONDS)


def _frames(error: BaseException) -> str:
    """Where it was raised, without its text."""
    return "".join(traceback.format_tb(error.__traceback__))
