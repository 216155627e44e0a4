"""Fetching references: have the pictures that the job is to hold to in the spool."""

from collections.abc import Sequence
from typing import Any

from statemachine.decisions import exhausted
from statemachine.events import Degraded, Event, RefsFetched
from statemachine.job import Job
from workers.errors import GiveUp, Misconfigured, StageEnds, TryAgain
from workers.ports import ReferencePicture
from workers.request import Reference
from workers.stages.on_device import request_of
from workers.tools import Tools


def run(job: Job, tools: Tools) -> list[Event]:
    """Fetch what the spool does not hold yet. Safe to run twice: the same file is written under the same name.

    A reference that was fetched before and is another picture by now is as good as missing: what is left of the job
    must be drawn with what it was begun with.
    """
    wanted = request_of(job, tools).references
    kept = {known["role"]: known for known in job.references if tools.in_spool(known["name"], known["digest"])}
    due = [reference for reference in wanted if reference.role not in kept]
    missing: dict[str, StageEnds] = {}
    if due:
        seconds = tools.renew(at_most=tools.settings.reference_seconds)
        answers = tools.references.fetch([reference.url for reference in due], seconds=seconds)
        before = {known["role"]: known.get("source_digest") for known in job.references}
        for reference, answer in zip(due, answers, strict=True):
            role = reference.role
            if isinstance(answer, StageEnds):
                missing[role] = answer
            elif before.get(role) not in (None, answer.source_digest):
                missing[role] = GiveUp(
                    "it is another picture than when it was first fetched", error_type="ReferenceChanged"
                )
            else:
                kept[role] = _kept(job, role, answer, tools)
    degraded = _without(job, wanted, missing, tools)
    return [*degraded, RefsFetched(references=[kept[reference.role] for reference in wanted if reference.role in kept])]


def _kept(job: Job, role: str, picture: ReferencePicture, tools: Tools) -> dict[str, Any]:
    """Write the picture into the spool; what the history is to know of it."""
    name = f"reference_{role}.png"
    try:
        digest = tools.spool.write(job.id, name, picture.png)
    except OSError as error:
        raise Misconfigured(f"the spool cannot be written: {error.strerror}", error_type="SpoolUnwritable") from error
    return {
        "role": role,
        "host": picture.host,
        "bytes": picture.source_bytes,
        "width": picture.width,
        "height": picture.height,
        "name": name,
        "digest": digest,
        "source_digest": picture.source_digest,
        "notes": list(picture.notes),
    }


def _without(job: Job, wanted: Sequence[Reference], missing: dict[str, StageEnds], tools: Tools) -> list[Event]:
    """What is told of going on without those that are missing. Raises what ends the attempt where that is not done.

    A set-up that has to be mended holds the lane; what will never come is decided at once; the rest is tried until
    its budget is used up. Where a picture is kept that was drawn with them, the others are not drawn without.
    """
    for end in missing.values():
        if isinstance(end, Misconfigured):
            raise end
    allowed = tools.settings.on_missing_reference == "generate_without" and not tools.finished()
    for role, end in sorted(missing.items(), key=lambda item: isinstance(item[1], TryAgain)):
        said = f"Generation failed: {_why(role, end)}"
        if isinstance(end, TryAgain):
            last = exhausted(job, error_class=end.error_class, error_type=end.error_type, budget=end.budget)
            if not (allowed and last):
                raise TryAgain(said, error_type=end.error_type, retry_after=end.retry_after, budget=end.budget)
        elif not allowed:
            raise GiveUp(said, error_type=end.error_type)
    left = [reference.role for reference in wanted if reference.role not in missing]
    then = f"generated with the {left[0]} reference alone" if left else "generated without"
    return [Degraded(what="references", why=f"{_why(role, end)}: {then}") for role, end in missing.items()]


def _why(role: str, end: StageEnds) -> str:
    which = "the reference" if role == "single" else f"the {role} reference"
    return f"{which} cannot be used: {end.message}"
