"""What a callback says. Pure: of the same job it is the same body each time, since it may be sent more than once."""

import json
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Literal

from statemachine.job import Asset, Job
from statemachine.states import Outcome
from workers.enhancement import enhanced_prompt
from workers.presets import PRESETS, WAN, WAN_TASK

Status = Literal["processing", "completed", "failed"]

_FIRST_REFERENCE = ("single", "start", "end")


def outcome_status(job: Job) -> Status:
    """How the receiver is told of the outcome: a cancelled job is a failed one to it."""
    return "failed" if job.outcome in (Outcome.FAILED, Outcome.CANCELLED) else "completed"


def callback_id(job: Job, status: Status) -> str:
    """The `webhook-id`: the same whenever the same outcome is told, another for the outcome of another run."""
    run = job.run if job.verdict is None or status == "processing" else job.verdict.run
    return f"{job.id}:{run}:{status}"


def body(
    job: Job,
    content: Mapping[str, Any],
    status: Status,
    *,
    url_of: Callable[[Asset], str | None] = attrgetter("key"),
) -> bytes:
    """The JSON, in ASCII. `content` is the job's personal part; what was erased from it is left out.

    It needs no resolvable request: refused payloads are told of, too. Assets are told as what `url_of` says of each,
    which is asked only where they are told.
    """
    told: dict[str, Any] = {
        "job_id": job.id,
        "status": status,
        "assets": [url_of(asset) for asset in _uploaded(job)] if status == "completed" else [],
        "error_message": _error(job)[1] if status == "failed" else None,
    }
    enhanced = enhanced_prompt(job, content)
    if enhanced is not None:
        told["enhancedPrompt"] = enhanced
    told["metadata"] = _known(
        {
            **_every(job),
            **_reference(job, content, status),
            **(_failure(job) if status == "failed" else _making(job)),
            **(_result(job) if status == "completed" else {}),
        }
    )
    return json.dumps(told, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def _every(job: Job) -> dict[str, Any]:
    """What each status tells."""
    preset = PRESETS.get(job.job_type or "")
    return {
        "job_type": job.job_type,
        "wan_task": WAN_TASK if preset is not None and preset.family == WAN else None,
        "reference_mode": job.request.get("reference_mode", "none"),
        "degraded": [{"what": what, "why": why} for what, why in dict.fromkeys(job.degraded)] or None,
    }


def _reference(job: Job, content: Mapping[str, Any], status: Status) -> dict[str, Any]:
    """Told only of references that were really fetched and used: an engine that left them out names no way."""
    used = {reference.get("role") for reference in job.references}
    if not used or (status == "completed" and (job.media is None or job.media.reference_way is None)):
        return {}
    by_role = {reference.get("role"): reference.get("url") for reference in content.get("references") or []}
    url = next((by_role[role] for role in _FIRST_REFERENCE if role in by_role and role in used), None)
    return {
        "reference_image_url": url,
        "reference_strength": job.request.get("reference_strength"),
        "reference_type": job.request.get("reference_type"),
    }


def _making(job: Job) -> dict[str, Any]:
    """What is made, or was."""
    return {
        "seed": job.seed,
        "num_images": job.request.get("num_images"),
        "content_type": job.request.get("media"),
        "frame_num": job.request.get("frame_num"),
        "expected_time": job.request.get("expected_time"),
    }


def _result(job: Job) -> dict[str, Any]:
    """What came of it, and what it took."""
    assets, media, expected = job.current_assets, job.media, job.request.get("expected_time")
    seconds = None if media is None else round(media.device_seconds, 3)
    return {
        "frames": assets[0].frames if assets else job.request.get("frames"),
        "generation_time": seconds,
        "total_time": None if job.verdict is None else job.verdict.seconds,
        "performance_ratio": round(seconds / expected, 3) if seconds is not None and expected else None,
        "render_scale": None if media is None else media.render_scale,
        "reference_way": None if media is None else media.reference_way,
        **({} if media is None else _vram(media.memory)),
    }


def _vram(memory: Mapping[str, float]) -> dict[str, float]:
    """In GiB, and the used part of the whole; nothing without a GPU."""
    used, whole = memory.get("vram_used_gb"), memory.get("vram_total_gb")
    if used is None or not whole:
        return {}
    return {
        "vram_used_gb": round(used, 3),
        "vram_total_gb": round(whole, 3),
        "vram_utilization": round(used / whole, 4),
    }


def _failure(job: Job) -> dict[str, Any]:
    return {
        "error_type": _error(job)[0],
        "error_timestamp": None if job.verdict is None else job.verdict.at.isoformat(),
        "worker_version": None if job.verdict is None else job.verdict.worker_version,
    }


def _error(job: Job) -> tuple[str, str]:
    """Type and message. A cancelled job's `error` may be that of a callback that had to be tried again."""
    if job.outcome is Outcome.CANCELLED or job.error is None:
        return "Cancelled", job.cancel_reason or "Cancelled"
    return job.error.error_type, job.error.message


def _uploaded(job: Job) -> list[Asset]:
    return [asset for asset in job.current_assets if asset.key is not None]


def _known(metadata: dict[str, Any]) -> dict[str, Any]:
    """Without what is not known: an absent key and never a null."""
    return {name: value for name, value in metadata.items() if value is not None}
