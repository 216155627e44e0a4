"""Enhancing one prompt on the device: the model's answer, and what the judge leaves of it."""

import time
from collections.abc import Callable

from workers.engines.drawing import Resident, Say
from workers.engines.messages import Alive, Enhance, Enhanced
from workers.engines.qwen import answer
from workers.enhanced_text import judged


def enhanced(resident: Resident, request: Enhance, say: Say, cancelled: Callable[[], bool]) -> Enhanced:
    """Ask the model and judge what it says. `Enhance.seconds` begin here, with the model on the device.

    An answer that its tokens or seconds cut off counts up to its last whole clause, if that passes: a paragraph that
    lacks its last words is worth more than the three of the original. Raises Cancelled, or what torch raises.
    """
    say(Alive(request_id=request.request_id, doing="enhancing"))
    resident.bring()
    started = time.monotonic()
    said = answer(
        resident.pipeline,
        request.prompt,
        seed=request.seed,
        max_tokens=request.max_tokens,
        seconds=request.seconds,
        said=lambda tokens: say(Alive(request_id=request.request_id, doing=f"enhancing, {tokens} tokens")),
        cancelled=cancelled,
    )
    text, reason = judged(request.prompt, said.text, finished=said.finished)
    if reason is not None and not said.finished:
        reason = f"{reason} (stopped after {said.tokens} tokens)"
    return Enhanced(
        request_id=request.request_id,
        text=text,
        seconds=time.monotonic() - started,
        tokens=said.tokens,
        model=f"{resident.name}@{resident.digest[:12]}",
        reason=reason,
    )
