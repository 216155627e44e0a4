"""What the demo orders: all ten job types, all five reference modes, all three types of SDXL's references."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from workers.arrivals import build_payload
from workers.presets import PRESETS

USER: Final = "7f3c2a52-8c1b-4b7e-9a55-2f6d1c0e9b11"
FIELDS: Final = {"single": "image", "start": "first_frame", "end": "last_frame"}
"""A reference's role → the field of `config` in which the producer names it."""


@dataclass(frozen=True)
class Wish:
    """One job to be ordered. `references` maps roles to the names of pictures."""

    job_type: str
    prompt: str
    seed: int
    images: int = 1
    references: Mapping[str, str] = field(default_factory=dict)
    reference_type: str | None = None
    strength: float = 0.7

    @property
    def mode(self) -> str:
        """none, single, start, end or both."""
        return "both" if len(self.references) == 2 else next(iter(self.references), "none")


@dataclass(frozen=True)
class Order:
    """A wish with an id, as it is pushed."""

    job_id: str
    wish: Wish
    payload: bytes

    @property
    def queue(self) -> str:
        """The list that its producer pushes it onto."""
        return PRESETS[self.wish.job_type].queue


_HELD: Final = {"start": "dawn.png", "end": "night.png"}

WISHES: Final = (
    Wish("sdxl_image_fast", "a red lighthouse on a cliff at dawn, oil painting", 42),
    Wish("sdxl_image_high", "two sisters and a man hiking in the alps, telephoto", 123456789, 3),
    Wish("sdxl_image_high", "café in Lisbon, rainy evening — (bokeh lights:1.3)", 7, 6),
    Wish("sdxl_image_fast", "a harbour in the style of the reference", 11, 1, {"single": "dawn.png"}, "style"),
    Wish("sdxl_image_high", "a market square, laid out alike", 12, 1, {"single": "night.png"}, "composition"),
    Wish("sdxl_image_high", "the same woman reading in a library", 13, 1, {"single": "dawn.png"}, "character"),
    Wish("image_fast", "a heron over a misty lake", 21),
    Wish("image_high", "a heron over a misty lake, like the reference", 22, 1, {"single": "night.png"}),
    Wish("image7b_fast_enhanced", "a fox in the snow", 23),
    Wish("image7b_high_enhanced", "a fox in the snow, from this frame on", 24, 1, {"start": "dawn.png"}),
    Wish("video_fast", "waves on a black beach", 31),
    Wish("video_fast", "the day begins over the sea", 32, 1, {"start": "dawn.png"}),
    Wish("video_high", "clouds over the old town", 33, 1, {"single": "dawn.png"}),
    Wish("video7b_fast_enhanced", "from day to night over the old town", 34, 1, _HELD),
    Wish("video7b_high_enhanced", "the day ends over the sea", 35, 1, {"end": "night.png"}),
)


def orders(url_of: Mapping[str, str]) -> list[Order]:
    """The wishes as payloads in the producer's form. `url_of` maps a picture's name to where it can be fetched."""
    made = []
    for wish in WISHES:
        config: dict[str, Any] = {FIELDS[role]: url_of[name] for role, name in wish.references.items()}
        if wish.references:
            config["reference_strength"] = wish.strength
        if wish.reference_type is not None:
            config["reference_type"] = wish.reference_type
        payload = build_payload(
            wish.job_type, wish.prompt, num_images=wish.images, seed=wish.seed, user_id=USER, config=config
        )
        made.append(Order(payload["id"], wish, json.dumps(payload, ensure_ascii=False).encode()))
    return made
