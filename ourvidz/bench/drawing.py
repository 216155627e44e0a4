"""What an engine would have told of one job: checkpoints, assets, and what the device took for them."""

import random
from collections.abc import Mapping
from typing import Any, Final

from ourvidz.bench.errands import Errand, Place
from ourvidz.bench.life import Life
from ourvidz.bench.wishes import ROLES
from statemachine import decisions
from statemachine import events as e
from workers.presets import LUSTIFY, PRESETS, SDXL

CHECKPOINT_SECONDS: Final = 15.0
BYTES: Final[Mapping[str, tuple[int, int]]] = {
    "sdxl": (1_100_000, 2_400_000),
    "image": (420_000, 980_000),
    "video": (700_000, 3_600_000),
}
"""What one asset takes, from and to."""
REDUCED: Final = 0.03
"""The share of batches that are drawn in parts."""
VERSIONS: Final = {"diffusers": "0.42.1", "torch": "2.13.0", "transformers": "5.23.0"}
MODEL_DIGEST: Final = "5f1d7a0c" * 8


class Drawing:
    """The engine's side of one job. Seconds are those of the device, over all attempts that went on from each other."""

    def __init__(self, life: Life, errand: Errand, dice: random.Random) -> None:
        assert errand.booking is not None
        self._life = life
        self._dice = dice
        self._seconds = errand.booking.seconds
        self._place = errand.booking.place

    def references(self) -> list[dict[str, Any]]:
        """What was fetched, as the history tells of it."""
        return [
            {
                "role": role,
                "host": "storage.example.com",
                "bytes": self._dice.randint(200_000, 4_000_000),
                "width": 1024,
                "height": 1024,
                "name": f"reference_{role}.png",
                "digest": self._digest(),
                "source_digest": self._digest(),
                "notes": [],
            }
            for role in ROLES[str(self._life.job.request["reference_mode"])]
        ]

    def begin_elsewhere(self, place: Place) -> bool:
        """On another host the spool is empty. True where references have to be fetched before anything is drawn."""
        moved, self._place = place.host != self._place.host, place
        if not moved:
            return False
        job = self._life.job
        for checkpoint in reversed(job.checkpoints):
            reason = f"it is not in the spool of {place.host}"
            self._life.record([e.CheckpointDiscarded(name=checkpoint.name, reason=reason)], by=place.worker_id)
        if not job.references:
            return False
        roles = [str(known["role"]) for known in job.references]
        lost = e.ReferencesLost(missing=roles, reason=f"not in the spool: {', '.join(roles)}")
        begun = decisions.start(self._life.job, device=place.device)
        self._life.record([*begun, lost], by=place.worker_id)
        return True

    def draw(self, place: Place, share: float) -> None:
        """The device draws `share` of what is left: a checkpoint now and then, and at the end of all the assets."""
        job = self._life.job
        steps = int(job.request["steps"])
        done = job.checkpoint.device_seconds if job.checkpoint is not None else 0.0
        step_before = job.checkpoint.step if job.checkpoint is not None else 0
        until = done + (self._seconds - done) * share
        if int(job.request["num_images"]) > 1 and self._dice.random() < REDUCED:
            self._life.record([e.Degraded(what="batch", why="the device's memory holds 3 at once")], by=place.worker_id)
        while done + CHECKPOINT_SECONDS < until:
            done += CHECKPOINT_SECONDS
            self._life.goes_on(CHECKPOINT_SECONDS)
            step = max(step_before, int(steps * done / self._seconds))
            if step in (step_before, steps):
                continue
            step_before = step
            checkpoint = e.Checkpointed(
                step=step,
                of=steps,
                name=f"checkpoint_{step:04d}.safetensors",
                digest=self._digest(),
                device_seconds=round(done, 3),
            )
            self._life.record([checkpoint], by=place.worker_id)
        self._life.goes_on(until - done)
        if share == 1.0:
            self._assets(place)

    def _assets(self, place: Place) -> None:
        job = self._life.job
        request = job.request
        preset = PRESETS[str(job.job_type)]
        count = int(request["num_images"])
        made = [
            e.AssetGenerated(
                index=index,
                seed=(job.seed or 0) + index,
                name=f"asset_{index}.{request['extension']}",
                digest=self._digest(),
                bytes=self._dice.randint(*BYTES["sdxl" if preset.family == SDXL else preset.media]),
                width=int(request["width"]),
                height=int(request["height"]),
                frames=int(request["frames"]),
                seconds=round(self._seconds / count, 3),
                content_type=preset.content_type,
            )
            for index in range(count)
        ]
        self._life.record(made, by=place.worker_id)

    def ended(self) -> e.MediaGenerated:
        """The engine's last word."""
        job = self._life.job
        return e.MediaGenerated(
            device_seconds=self._seconds,
            engine="diffusers",
            model_digest=MODEL_DIGEST,
            memory={"vram_used_gb": round(self._dice.uniform(11.0, 31.0), 3), "vram_total_gb": 47.5},
            versions=VERSIONS,
            batches=[int(job.request["num_images"])],
            reference_way=None if not job.references else "img2img" if job.model == LUSTIFY else "vace",
        )

    def _digest(self) -> str:
        return self._dice.randbytes(32).hex()
