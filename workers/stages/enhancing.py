"""Enhancing: let a language model elaborate the prompt, or go on with the original."""

from typing import Final

from statemachine import decisions
from statemachine.events import EnhancementSkipped, Event, PromptEnhanced
from statemachine.job import Job
from statemachine.states import State
from workers.engines.messages import Enhance, Enhanced, Failed, FromEngine
from workers.policy import enforce
from workers.spool import sha256
from workers.stages.on_device import follow, request_id, request_of
from workers.tools import Tools

DEATHS: Final = decisions.CRASH_BUDGET - 1
"""So often the engine or the worker may die here; once more would be the job's end, and it can do without."""


def run(job: Job, tools: Tools) -> list[Event]:
    """Enhance the prompt, by the job's own seed. Safe to run twice.

    Whatever the enhancer cannot do, an event says why and the original prompt is used. The text is recorded here,
    as personal content beside its event; then there is nothing left to return.
    """
    request = request_of(job, tools)
    enforce(tools.policy, request.prompt)
    deaths = sum(1 for each in job.tries(State.ENHANCING) if each.outcome == "interrupted" and each.counts)
    if deaths >= DEATHS:
        return [
            *decisions.start(job, device=job.device),
            EnhancementSkipped(reason=f"it was interrupted {deaths} times"),
        ]
    if not tools.engine.ready().can_enhance:
        return [*decisions.start(job, device=job.device), EnhancementSkipped(reason="no enhancer model is configured")]
    order = Enhance(
        request_id=request_id(job),
        job_id=job.id,
        prompt=request.prompt,
        seed=request.seed,
        max_tokens=tools.settings.enhance_tokens,
        seconds=tools.settings.enhance_seconds,
    )
    end = follow(order, tools, _unexpected)
    match end:
        case Enhanced(text=str(text)) if text.strip():
            tools.record(
                PromptEnhanced(digest=sha256(text.encode()), seconds=end.seconds, tokens=end.tokens, model=end.model),
                personal={"enhanced_prompt": text},
            )
            return []
        case Enhanced():
            return [EnhancementSkipped(reason=end.reason or "the enhancer gave no text")]
        case Failed():
            return [*_begun(tools), EnhancementSkipped(reason=f"the enhancer failed: {end.message}")]
        case list():
            return end
        case _:
            raise TypeError(f"an enhancement ended in {type(end).__name__}")


def _begun(tools: Tools) -> list[Event]:
    """An attempt that failed before the device took it up was one, too."""
    job = tools.job
    return [] if job.open_attempt is not None else decisions.start(job, device=job.device)


def _unexpected(said: FromEngine) -> None:
    raise TypeError(f"the engine answered an enhancement with {type(said).__name__}")
