"""One request to the engine, followed to its end: what enhancing and generating have in common."""

from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from statemachine import decisions
from statemachine.events import Degraded, Event, ModelLoaded, ModelMoved
from statemachine.job import Job
from workers.engines.messages import (
    PAUSED,
    Alive,
    Enhance,
    Enhanced,
    Failed,
    FromEngine,
    Generate,
    Generated,
    Loaded,
    Moved,
    Progress,
    Reduced,
    Started,
)
from workers.errors import GiveUp
from workers.ports import EngineDied
from workers.request import Request
from workers.tools import Tools

DRAINED: Final = "drained"
"""Why a job was interrupted whose worker is to stop."""

End = Generated | Enhanced | Failed

log = structlog.get_logger()


def request_id(job: Job) -> str:
    """One a claim: what an earlier holder of the lease asked for is never taken for ours."""
    return f"{job.id}:{job.token}"


def request_of(job: Job, tools: Tools) -> Request:
    """The job's request whole. Raises GiveUp when its personal half was erased."""
    try:
        return Request.from_job(job.request, tools.content)
    except msgspec.ValidationError as error:
        raise GiveUp(
            "Invalid parameters: the job's content is incomplete, or was erased", error_type="ContentMissing"
        ) from error


def follow(order: Generate | Enhance, tools: Tools, hear: Callable[[FromEngine], None]) -> End | list[Event]:
    """Hand `order` over, record what every request has in common, and return how it ended.

    `stage_started` is recorded when the device takes it up: the order may lie in the engine for a while behind
    another. What is not handled here goes to `hear`. Events are returned instead of an end when the request was
    stopped: cancelled by somebody, or handed back. Whoever leaves early, by FencedOut for one, leaves the device free.
    """
    ended = False
    try:
        for said in tools.engine.run(order):
            match said:
                case Started():
                    tools.record(*decisions.start(tools.job, device=tools.job.device))
                case Loaded():
                    tools.record(
                        ModelLoaded(model=said.model, seconds=said.seconds, bytes=said.bytes, digest=said.digest)
                    )
                case Moved():
                    tools.record(
                        ModelMoved(
                            model=said.model, parts=said.parts, to=said.to, seconds=said.seconds, bytes=said.bytes
                        )
                    )
                case Reduced():
                    tools.record(Degraded(what=said.what, why=said.why))
                case Progress():
                    log.debug("step", job=tools.job.id, token=tools.job.token, step=said.step, of=said.of)
                    tools.recorder.progress(tools.job, {"step": said.step, "of": said.of, "seconds": said.seconds})
                case Alive():
                    tools.recorder.progress(tools.job, {"doing": said.doing})
                case Generated() | Enhanced():
                    ended = True
                    return said
                case Failed():
                    ended = True
                    return _stopped(tools, said) if said.error_class == "cancelled" else said
                case _:
                    hear(said)
            if tools.job.cancel_by is not None:
                return decisions.cancelled(tools.job)
    except EngineDied:
        ended = True  # there is nobody to be told
        raise
    finally:
        if not ended:
            tools.engine.cancel(order.request_id)
    raise EngineDied("engine stopped", "it said no last word", started=tools.job.open_attempt is not None)


def _stopped(tools: Tools, said: Failed) -> list[Event]:
    """Somebody stopped our request. A cancelled job ends; any other waits its turn again and loses no attempt."""
    job = tools.job
    if job.cancel_by is not None:
        return decisions.cancelled(job)
    reason = DRAINED if said.error_type == PAUSED else "request stopped"
    return decisions.interrupt(job, reason=reason, by=job.worker_id or "", now=tools.now(), counts=False)
