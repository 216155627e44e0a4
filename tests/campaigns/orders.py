"""What a campaign's producer pushes: real payloads and built ones, each often enough to be compared with its twins."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.mutations import fixtures
from workers.arrivals import build_payload
from workers.presets import PRESETS

REFUSED: Final = "refused"
ELSEWHERE: Final = "https://storage.example.com"
"""Where the real payloads' references are."""
REFERENCE: Final = {"first_frame": f"{ELSEWHERE}/first.png"}
BUILT: Final[tuple[tuple[str, int, Mapping[str, str]], ...]] = (
    ("sdxl_image_fast", 1, {}),
    ("sdxl_image_high", 3, {}),
    ("sdxl_image_fast", 6, {}),
    ("image7b_fast_enhanced", 1, {}),
    ("video7b_fast_enhanced", 1, {}),
    ("video_fast", 1, REFERENCE),
)


@dataclass(frozen=True)
class Order:
    """One payload. Two of one `template` and one seed must end with the same bytes."""

    job_id: str
    template: str
    queue: str
    payload: bytes


class Producer:
    """Draws orders. `only_sdxl` where the engine can make nothing else; `pictures` is our own server of references."""

    def __init__(self, random: Random, *, only_sdxl: bool, pictures: str) -> None:
        self._random = random
        self._pictures = pictures
        self._templates: list[tuple[str, str, dict[str, Any]]] = []
        for job_type, images, config in BUILT:
            body = build_payload(
                job_type, "a heron at dawn, two people on a bridge", num_images=images, seed=4711, config=config
            )
            self._templates.append((f"{job_type} × {images}", PRESETS[job_type].queue, body))
        spoilt = build_payload("sdxl_image_fast", "a heron at dawn", num_images=2, seed=4711)
        self._templates.append((REFUSED, "sdxl_queue", spoilt))
        if not only_sdxl:
            self._templates += [(f"real {body['type']} {body['id'][:4]}", queue, body) for queue, body in fixtures()]
        if only_sdxl:
            self._templates = [one for one in self._templates if one[2]["type"].startswith("sdxl")]

    def next(self) -> Order:
        """Another payload, under an id of its own."""
        name, queue, body = self._random.choice(self._templates)
        job_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        payload = json.dumps({**body, "id": job_id}).replace(ELSEWHERE, self._pictures)
        return Order(job_id, name, queue, payload.encode())
