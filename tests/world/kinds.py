"""The kinds of jobs that live in the world."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from workers.arrivals import build_payload
from workers.presets import PRESETS, SDXL, Preset

USER: Final = "7f3c2a52-8c1b-4b7e-9a55-2f6d1c0e9b11"
CREATED: Final = datetime(2025, 7, 16, 11, 59, tzinfo=UTC)
LATE: Final = "https://host/late.png"
"""A reference that comes the second time it is asked for."""
GONE: Final = "https://host/gone.png"
"""A reference that never comes."""
STEPS: Final = 4
"""Enough for three checkpoints, of which one is removed while the job is drawn."""
DEADLY: Final = "a heron that no engine survives"
HUGE: Final = "a heron that no device has room for"


def _payload(number: int, job_type: str, **changes: Any) -> bytes:
    built = build_payload(
        job_type,
        changes.pop("prompt", "a heron at dawn"),
        user_id=USER,
        job_id=f"00000000-0000-4000-8000-{number:012d}",
        created_at=CREATED,
        seed=changes.pop("seed", 7),
        num_images=changes.pop("num_images", 1),
        config={"sample_steps": STEPS},
    )
    built["config"].update(changes)
    return json.dumps(built).encode()


NAMED: Final[dict[str, tuple[str, bytes]]] = {
    "one image": ("sdxl_queue", _payload(1, "sdxl_image_fast")),
    "three images": ("sdxl_queue", _payload(2, "sdxl_image_high", num_images=3)),
    "six images": ("sdxl_queue", _payload(3, "sdxl_image_fast", num_images=6)),
    "image, enhanced": ("wan_queue", _payload(4, "image7b_fast_enhanced")),
    "video from start to end": (
        "wan_queue",
        _payload(5, "video7b_high_enhanced", first_frame="https://host/a.png", last_frame="https://host/b.png"),
    ),
    "video without its end": ("wan_queue", _payload(8, "video_high", first_frame=LATE, last_frame=GONE)),
    "video, enhanced": ("wan_queue", _payload(6, "video7b_fast_enhanced")),
    "poison": ("sdxl_queue", _payload(9, "sdxl_image_fast", prompt=DEADLY)),
    "no memory": ("sdxl_queue", _payload(10, "sdxl_image_fast", prompt=HUGE)),
    "refused": ("sdxl_queue", _payload(7, "sdxl_image_fast", num_images=2)),
    "dead letter": ("sdxl_queue", b"\xff not a payload"),
}
"""Each a way of its own through the service."""

_MODES: Final[dict[str, dict[str, str]]] = {
    "none": {},
    "single": {"image": "https://host/a.png"},
    "start": {"first_frame": "https://host/a.png"},
    "end": {"last_frame": "https://host/b.png"},
    "both": {"first_frame": "https://host/a.png", "last_frame": "https://host/b.png"},
}


def _modes(preset: Preset) -> Iterator[tuple[str, dict[str, Any]]]:
    """In how many pictures, or held to which references, a job of this type can be asked for."""
    if preset.family == SDXL:
        yield from ((f"{count} in one", {"num_images": count}) for count in preset.counts)
        yield "3 in one, single", {"num_images": 3, **_MODES["single"]}
        return
    one_frame = preset.media == "image"  # it has both ends: an end is its start
    yield from ((mode, dict(_MODES[mode])) for mode in _MODES if mode not in ("end", "both") or not one_frame)


MATRIX: Final[dict[str, tuple[str, bytes]]] = {
    f"{preset.job_type}, {mode}": (preset.queue, _payload(100 * row + column, preset.job_type, **changes))
    for row, preset in enumerate(PRESETS.values(), start=1)
    for column, (mode, changes) in enumerate(_modes(preset))
}
"""Every job type in every mode that the contract allows."""

KINDS: Final = NAMED | MATRIX


def job_type(kind: str) -> str:
    """The type of a kind's job; none for a payload that has no readable one."""
    _, payload = KINDS[kind]
    try:
        return str(json.loads(payload)["type"])
    except ValueError:
        return "none"
