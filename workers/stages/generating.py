"""Generating: have the engine make what is missing of the job's assets."""

from typing import Final

from statemachine import decisions
from statemachine.events import (
    AssetGenerated,
    CheckpointDiscarded,
    Checkpointed,
    Event,
    MediaGenerated,
    ReferencesLost,
)
from statemachine.job import Checkpoint, Job
from statemachine.states import State
from workers.callback import callback_id
from workers.engines import messages
from workers.engines.messages import (
    AssetWritten,
    CheckpointWritten,
    Failed,
    FromEngine,
    Generate,
    Generated,
    ReferenceFile,
)
from workers.enhancement import enhanced_prompt
from workers.errors import GiveUp, Misconfigured, StageEnds, TryAgain
from workers.policy import enforce
from workers.request import DEFAULT_STRENGTH, DEFAULT_TYPE, Request
from workers.stages.callback import tell
from workers.stages.on_device import follow, request_id, request_of
from workers.tools import Tools

NO_MEMORY: Final = "Insufficient VRAM for generation"
WORDS: Final = (NO_MEMORY, "Invalid parameters: ", "Generation failed: ")
"""How the receiver's error messages begin, by the specification."""

LOSSES: Final = 3
"""A host's spool that has lost a run's references so often will lose them again."""


def run(job: Job, tools: Tools) -> list[Event]:
    """Make every asset that the spool does not hold yet. Safe to run twice: nothing finished is drawn again.

    Where all are there and only the last word is missing, the engine is still asked: it draws nothing, and it alone
    knows the model's digest and render scale, which belong into the history.
    """
    request = request_of(job, tools)
    enforce(tools.policy, request.prompt, enhanced_prompt(job, tools.content))
    lost = _lost_references(job, tools, request)
    if lost:
        return lost
    _tell_processing(tools)
    if tools.job.cancel_by is not None:
        return decisions.cancelled(tools.job)
    done = [asset.index for asset in tools.finished()]  # one that is lost is made again, from its seed
    resume = _resume(job, tools)
    # The engine counts one request; what went before stands in the history as far as a checkpoint kept it.
    before = resume.device_seconds if resume is not None else 0.0
    made = set(done)

    def hear(said: FromEngine) -> None:
        nonlocal before
        match said:
            case CheckpointWritten():
                stood = tools.job.checkpoints
                tools.record(
                    Checkpointed(
                        step=said.step,
                        of=said.of,
                        name=said.name,
                        digest=said.digest,
                        device_seconds=before + said.device_seconds,
                    )
                )
                # Only now: until its event was committed, the older one was what the job would have gone on from.
                kept = {checkpoint.name for checkpoint in tools.job.checkpoints}
                for older in stood:
                    if older.name not in kept:
                        tools.spool.discard(job.id, older.name)
            case messages.CheckpointDiscarded():
                before = 0.0
                tools.record(CheckpointDiscarded(name=said.name, reason=said.why))
            case AssetWritten():
                tools.record(_asset(said))
                made.add(said.index)
            case _:
                raise TypeError(f"the engine answered a generation with {type(said).__name__}")

    end = follow(_order(job, tools, request, done, resume), tools, hear)
    match end:
        case Generated():
            missing = set(range(request.num_images)) - made
            if missing:
                raise TryAgain(
                    f"Generation failed: the engine has ended, but the assets {sorted(missing)} were not made",
                    error_type="AssetsMissing",
                )
            return [_media(end, before)]
        case Failed():
            raise _trouble(end)
        case list():
            return end
        case _:
            raise TypeError(f"a generation ended in {type(end).__name__}")


def _lost_references(job: Job, tools: Tools, request: Request) -> list[Event]:
    """The way back to fetching them, if one is not in the spool. Raises GiveUp when that has not helped on this host.

    One that was never fetched counts, unless this run has said that it goes on without: a run may begin here.
    """
    known = {reference["role"]: reference for reference in job.references}
    missing = []
    for role in (reference.role for reference in request.references):
        if role not in known:
            if not any(what == "references" for what, _ in job.degraded):
                missing.append(role)
            continue
        if not tools.in_spool(known[role]["name"], known[role]["digest"]):
            missing.append(role)
    if not missing:
        return []
    reason = f"not in the spool: {', '.join(missing)}"
    lost = [a for a in job.tries(State.GENERATING) if a.outcome == "refs lost" and a.host == job.host]
    if len(lost) + 1 >= LOSSES:
        raise GiveUp(f"Generation failed: references were lost {LOSSES} times: {reason}", error_type="ReferencesLost")
    return [*decisions.start(job, device=job.device), ReferencesLost(missing=missing, reason=reason)]


def _tell_processing(tools: Tools) -> None:
    """Once a run, before the device starts, and never tried again: the outcome is what has to arrive."""
    if not tools.settings.callback_configured or tools.job.told("processing"):
        return
    sent, _ = tell(tools, "processing", callback_id(tools.job, "processing"), tools.settings.processing_seconds)
    tools.record(sent)


def _resume(job: Job, tools: Tools) -> Checkpoint | None:
    """The last checkpoint whose file is what the history says; those behind it are discarded. None: begin anew."""
    for checkpoint in reversed(job.checkpoints):
        if tools.in_spool(checkpoint.name, checkpoint.digest):
            return checkpoint
        tools.record(CheckpointDiscarded(name=checkpoint.name, reason=f"it is not in the spool of {job.host}"))
    return None


def _order(job: Job, tools: Tools, request: Request, done: list[int], resume: Checkpoint | None) -> Generate:
    try:
        folder = tools.spool.folder(job.id)
    except OSError as error:
        raise Misconfigured(f"the spool cannot be written: {error.strerror}", error_type="SpoolUnwritable") from error
    return Generate(
        request_id=request_id(job),
        job_id=job.id,
        job_type=request.job_type,
        model=request.model,
        prompt=enhanced_prompt(job, tools.content) or request.prompt,
        negative_prompt=request.negative_prompt or "",
        width=request.width,
        height=request.height,
        steps=request.steps,
        guidance_scale=request.guidance_scale,
        seed=request.seed,
        num_images=request.num_images,
        frames=request.frames,
        spool=folder,
        done=done,
        solver=request.solver,
        shift=request.shift,
        references=[
            ReferenceFile(role=known["role"], name=known["name"], digest=known["digest"]) for known in job.references
        ],
        reference_strength=request.reference_strength or DEFAULT_STRENGTH,
        reference_type=request.reference_type or DEFAULT_TYPE,
        reference_fit=tools.settings.reference_fit,
        embed_prompt=tools.settings.embed_prompt,
        checkpoint_seconds=tools.settings.checkpoint_seconds,
        resume_from=None if resume is None else resume.name,
    )


def _asset(said: AssetWritten) -> AssetGenerated:
    return AssetGenerated(
        index=said.index,
        seed=said.seed,
        name=said.name,
        digest=said.digest,
        bytes=said.bytes,
        width=said.width,
        height=said.height,
        frames=said.frames,
        seconds=said.seconds,
        content_type=said.content_type,
    )


def _media(end: Generated, before: float) -> MediaGenerated:
    return MediaGenerated(
        device_seconds=before + end.device_seconds,
        engine=end.engine,
        model_digest=end.model_digest,
        memory=end.memory,
        versions=end.versions,
        render_scale=end.render_scale,
        threads=end.threads,
        batches=end.batches,
        reference_way=end.reference_way,
    )


def _trouble(end: Failed) -> StageEnds:
    """The engine's class of error as the way in which the stage ends, in the specification's words."""
    words = end.message if end.message.startswith(WORDS) else f"Generation failed: {end.message}"
    match end.error_class:
        case "device_memory":
            said = end.message if end.message.startswith(NO_MEMORY) else f"{NO_MEMORY}: {end.message}"
            return TryAgain(said, error_type=end.error_type, error_class="device_memory")
        case "misconfiguration":
            return Misconfigured(end.message, error_type=end.error_type)
        case "transient":
            return TryAgain(words, error_type=end.error_type, budget=end.budget)
        case _:
            return GiveUp(words, error_type=end.error_type)
