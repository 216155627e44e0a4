"""Fetching references. This version draws without them, and says so."""

from typing import Final

from statemachine.events import Degraded, Event, RefsFetched
from statemachine.job import Job
from workers.errors import GiveUp
from workers.tools import Tools

UNSUPPORTED: Final = "reference images are not supported by this version of the worker"


def run(job: Job, tools: Tools) -> list[Event]:
    """Fail a job that asks for references, or go on without them where the operator allows it. Safe to run twice."""
    roles = [str(reference.get("role")) for reference in tools.content.get("references") or []]
    if not roles and job.request.get("reference_mode", "none") == "none":
        return [RefsFetched(references=[])]
    if tools.settings.on_missing_reference != "generate_without":
        raise GiveUp(f"Generation failed: {UNSUPPORTED} ({', '.join(roles)})", error_type="ReferenceUnsupported")
    return [Degraded(what="references", why=f"{UNSUPPORTED}: generated without"), RefsFetched(references=[])]
