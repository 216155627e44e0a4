"""The payload of an errand, read at the same door as a real one."""

import json
import random
from datetime import timedelta
from typing import Any, Final

from ourvidz.bench.dice import Lottery
from ourvidz.bench.errands import SOURCE, Errand
from ourvidz.bench.prompts import prompt
from ourvidz.demo.orders import FIELDS
from statemachine.admission import NewJob
from workers.arrivals import build_payload, read
from workers.presets import PRESETS, SDXL

REFERENCES: Final = "https://storage.example.com/reference_images"

_MODES: Final = {
    "sdxl": Lottery([("none", 85.0), ("single", 15.0)]),
    "image": Lottery([("none", 80.0), ("single", 12.0), ("start", 8.0)]),
    "video": Lottery([("none", 50.0), ("single", 15.0), ("start", 20.0), ("end", 5.0), ("both", 10.0)]),
}
ROLES: Final = {"none": (), "single": ("single",), "start": ("start",), "end": ("end",), "both": ("start", "end")}
"""Reference mode → the roles of its references."""
_REFERENCE_TYPES: Final = ("style", "composition", "character")


def arrival(errand: Errand, dice: random.Random, *, refused: bool) -> NewJob:
    """The job as ingress would admit it. `refused`: it asks for what cannot be."""
    payload = _payload(errand, dice, refused=refused)
    new = read(
        json.dumps(payload, ensure_ascii=False).encode(),
        queue=PRESETS[errand.job_type].queue,
        source=SOURCE,
        now=errand.at,
        draw_seed=lambda: 1 + dice.randrange(999_999_999),
    )
    if not isinstance(new, NewJob):
        raise TypeError(f"the payload of {errand.key} is no job: {new.reason}")
    return new


def _payload(errand: Errand, dice: random.Random, *, refused: bool) -> dict[str, Any]:
    preset = PRESETS[errand.job_type]
    mode = _MODES["sdxl" if preset.family == SDXL else preset.media].draw(dice)
    config: dict[str, Any] = {
        FIELDS[role]: f"{REFERENCES}/{errand.user_id}/{dice.getrandbits(48):012x}.png" for role in ROLES[mode]
    }
    if config:
        config["reference_strength"] = round(dice.uniform(0.3, 0.9), 2)
        config["reference_type"] = dice.choice(_REFERENCE_TYPES)
    if refused:
        config["sample_steps"] = 5000
    return build_payload(
        errand.job_type,
        prompt(dice),
        num_images=errand.images,
        seed=None if dice.random() < 0.6 else dice.randrange(2**31),
        user_id=errand.user_id,
        job_id=errand.job_id,
        config=config,
        created_at=errand.at - timedelta(seconds=dice.uniform(0.05, 2.0)),
    )
