"""What a campaign's producer pushes: real payloads and built ones, each often enough to be compared with its twins."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.mutations import fixtures as real
from workers.arrivals import build_payload
from workers.presets import PRESETS

REFUSED: Final = "refused"
ELSEWHERE: Final = "https://storage.example.com"
"""Where the real payloads' references are."""
REFERENCE: Final = {"first_frame": f"{ELSEWHERE}/first.png"}
Built = tuple[str, int, Mapping[str, Any]]
"""Job type, pictures, and what its config says."""
BUILT: Final[tuple[Built, ...]] = (
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
    """Draws orders from what is `built` and what is refused; `fixtures`: from the producer's real payloads as well.

    `pictures` is our own server of references. `users` is how many there are; with 0 each template has its own.
    """

    def __init__(
        self, random: Random, built: Sequence[Built], *, fixtures: bool, pictures: str, users: int = 0
    ) -> None:
        self._random = random
        self._pictures = pictures
        self._users = [_uuid(random) for _ in range(users)]
        self._templates: list[tuple[str, str, dict[str, Any]]] = []
        for number, (job_type, images, config) in enumerate(built):
            body = build_payload(
                job_type, "a heron at dawn, two people on a bridge", num_images=images, seed=4711, config=config
            )
            self._templates.append((f"{number}: {job_type} × {images}", PRESETS[job_type].queue, body))
        spoilt = build_payload("sdxl_image_fast", "a heron at dawn", num_images=2, seed=4711)
        self._templates.append((REFUSED, "sdxl_queue", spoilt))
        if fixtures:
            self._templates += [(f"real {body['type']} {body['id'][:4]}", queue, body) for queue, body in real()]

    def next(self) -> Order:
        """Another payload, under an id of its own."""
        name, queue, body = self._random.choice(self._templates)
        job_id = _uuid(self._random)
        user = {"user_id": self._random.choice(self._users)} if self._users else {}
        payload = json.dumps({**body, **user, "id": job_id}).replace(ELSEWHERE, self._pictures)
        return Order(job_id, name, queue, payload.encode())


def _uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
