"""Which prompt holds: the enhancer's text, where the last word on it was an acceptance."""

from collections.abc import Mapping
from typing import Any

from statemachine.job import Job
from statemachine.states import State
from workers.spool import sha256


def enhanced_prompt(job: Job, content: Mapping[str, Any]) -> str | None:
    """The accepted text; None when there is none, when a later run skipped it, or when it was erased.

    A job keeps what all its runs found; the last attempt that ended in a verdict decides between them.
    """
    verdicts = [a.outcome for a in job.attempts if a.stage is State.ENHANCING and a.outcome in ("succeeded", "skipped")]
    text = content.get("enhanced_prompt")
    if not verdicts or verdicts[-1] == "skipped" or not isinstance(text, str):
        return None
    return text if sha256(text.encode()) == job.enhanced_digest else None
