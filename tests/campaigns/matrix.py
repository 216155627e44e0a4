"""Every job type in every reference mode, end to end: pushed as the producer pushes, drawn by the real engine.

    python -m tests.campaigns.matrix --output FOLDER [--steps N] [--full-size]

prints a table, and leaves a contact sheet and everything else in FOLDER. Each file is opened and each callback read.
Without --steps every job has the steps of its type. --full-size draws one picture of SDXL's and one of WAN's videos in
their real sizes, with the same tiny weights: a quarter of an hour.
"""

import argparse
import io
import json
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from PIL import Image

from ourvidz import loopback_pictures
from ourvidz.contact_sheet import Cell, Strip, contact_sheet
from ourvidz.loopback_pictures import LoopbackPictures
from tests.campaigns.service import Service, SlowReceiver, served, wait_until
from workers.models import make_tiny
from workers.presets import PRESETS, SDXL, Preset
from workers.videos import VideoFacts, facts_of, frames_of
from workers.weights import MANIFEST

MODES: Final = ("none", "single", "start", "end", "both")
TYPES: Final = ("style", "composition", "character")
USER: Final = "7f3c2a52-8c1b-4b7e-9a55-2f6d1c0e9b11"
SIZES: Final = {"sdxl": (128, 128), "wan": (64, 96)}
"""An eighth of 1024 x 1024; of 480 x 832 what divides by 16."""
FULL_SIZES: Final = {"sdxl": (1024, 1024), "wan": (480, 832)}
EVERY_KEY: Final = {"job_id", "status", "assets", "error_message", "metadata"}
SECONDS_PER_JOB: Final = 60.0
FULL_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class Case:
    """One row of the table. `became` is the mode that the type makes of what was asked."""

    preset: Preset
    mode: str
    reference_type: str | None = None
    images: int = 1

    @property
    def became(self) -> str:
        """One frame has both ends, so a picture that is asked to hold to its end holds to its start."""
        still = self.preset.family != SDXL and self.preset.media == "image"
        return "start" if still and self.mode in ("end", "both") else self.mode

    @property
    def made(self) -> str:
        """Type and number of images, for a table."""
        return self.preset.job_type if self.images == 1 else f"{self.preset.job_type} × {self.images}"

    @property
    def held_to(self) -> str:
        """Mode, and type of the reference, for a table."""
        return f"{self.mode} {self.reference_type}" if self.reference_type else self.mode

    @property
    def roles(self) -> list[str]:
        """Of the references that are given."""
        return {"none": [], "both": ["start", "end"]}.get(self.mode, [self.mode])


def cases() -> Iterator[Case]:
    """Every type in every mode that there is for it; SDXL's batches and reference types too."""
    for preset in PRESETS.values():
        if preset.family != SDXL:
            yield from (Case(preset, mode) for mode in MODES)
            continue
        yield from (Case(preset, "none", images=count) for count in preset.counts)
        yield from (Case(preset, "single", kind) for kind in TYPES)


def payload(case: Case, url_of: Mapping[str, str], *, steps: int | None = None) -> dict[str, Any]:
    """As the producer writes it: WAN's defaults on every type, what it knows of references said twice."""
    preset = case.preset
    fields = {"single": "image", "start": "first_frame", "end": "last_frame"}
    if preset.family == SDXL:
        fields["single"] = "reference_image_url"
    config: dict[str, Any] = {
        "size": "480*832",
        "sample_steps": 50 if preset.quality == "high" else 25,
        "sample_guide_scale": 7.5 if preset.quality == "high" else 6.5,
        "sample_solver": "unipc",
        "sample_shift": 5,
        "frame_num": preset.frame_num,
        "enhance_prompt": preset.enhance,
        "expected_time": preset.expected_time,
        "content_type": preset.media,
        "file_extension": preset.extension,
        "num_images": case.images,
        "seed": 7,
    }
    if steps is not None:  # the signature that means "not set" is broken by that, so the size is said as well
        config |= {"sample_steps": steps, "size": f"{preset.width}*{preset.height}"}
    metadata: dict[str, Any] = {"model_variant": preset.model, "queue": preset.queue, "bucket": preset.bucket}
    if case.roles:
        config |= {fields[role]: url_of[role] for role in case.roles}
        config |= {"reference_strength": 0.8, "reference_type": case.reference_type or "style"}
        metadata |= {"reference_image": True, "reference_strength": 0.8}
    return {
        "id": str(uuid.uuid4()),
        "type": preset.job_type,
        "prompt": "a heron over a misty lake at dawn",
        "config": config,
        "user_id": USER,
        "created_at": "2026-11-22T05:50:59.435Z",
        "character_id": None,
        "model_variant": preset.model,
        "bucket": preset.bucket,
        "metadata": metadata,
    }


@dataclass(frozen=True)
class Row:
    """What became of a case. `wrong` holds a sentence for each promise that was not kept."""

    case: Case
    files: list[bytes]
    callback: dict[str, Any]
    wrong: list[str]

    @property
    def cells(self) -> list[str]:
        """For the table."""
        case, told = self.case, self.callback["metadata"]
        return [
            case.made,
            case.held_to if case.mode == case.became else f"{case.held_to} → {case.became}",
            str(told.get("reference_way", "-")),
            _described(self.files[0]) if self.files else "nothing",
            f"{told.get('generation_time', 0):.1f}",
            "; ".join(self.wrong) or "holds",
        ]


def settings(models: Path, host: str) -> dict[str, str]:
    """The service with every tiny model that there is."""
    return {
        "OURVIDZ_SDXL_MODEL": str(models / "tiny-sdxl"),
        "OURVIDZ_SDXL_IP_ADAPTER": str(models / "tiny-ip-adapter"),
        "OURVIDZ_WAN_MODEL": str(models / "tiny-wan"),
        "OURVIDZ_WAN_VACE_MODEL": str(models / "tiny-wan-vace"),
        "OURVIDZ_QWEN_MODEL": str(models / "tiny-qwen"),
        "OURVIDZ_ALLOWED_REFERENCE_HOSTS": host,
        "OURVIDZ_ON_MISSING_REFERENCE": "fail",
        "OURVIDZ_LEASE_SECONDS": "30",
    }


def run(
    folder: Path,
    models: Path,
    *,
    chosen: list[Case],
    steps: int | None = None,
    sizes: Mapping[str, tuple[int, int]] = SIZES,
    seconds: float = SECONDS_PER_JOB,
) -> list[Row]:
    """Push all cases, wait `seconds` for each one's outcome, look at what came. `sizes` is family → what is drawn."""
    pictures = {"single": loopback_pictures.dawn(), "start": loopback_pictures.dawn(), "end": loopback_pictures.night()}
    url = f"sqlite:///{folder / 'matrix.sqlite'}"
    with LoopbackPictures(pictures) as server:
        url_of = {role: server.url(role) for role in pictures}
        own = settings(models, server.host)
        with served(folder, url, "diffusers", Random(1), settings=own, slowest=0.0) as (service, receiver):
            service.start()
            pushed = {body["id"]: (case, body) for case in chosen if (body := payload(case, url_of, steps=steps))}
            for case, body in pushed.values():
                service.push(case.preset.queue, json.dumps(body).encode())
            told = _outcomes(receiver, len(pushed), len(pushed) * seconds)
            rows = [
                _judged(service, case, body, told.get(job_id), sizes[case.preset.family])
                for job_id, (case, body) in pushed.items()
            ]
            service.signal()
            service.wait(60)
    return rows


def _outcomes(receiver: SlowReceiver, count: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Job id → its callback, of as many as came in time."""

    def outcomes() -> dict[str, dict[str, Any]]:
        return {told.job_id: json.loads(told.body) for told in receiver.heard if told.status != "processing"}

    wait_until(lambda: len(outcomes()) == count, seconds, look=0.2)
    return outcomes()


def _judged(
    service: Service, case: Case, body: dict[str, Any], told: dict[str, Any] | None, size: tuple[int, int]
) -> Row:
    if told is None:
        return Row(case, [], {"metadata": {}}, ["no callback came"])
    if told["status"] != "completed":
        return Row(case, [], told, [f"failed: {told['error_message']}"])
    paths = [service.storage / body["bucket"] / asset for asset in told["assets"]]
    files = [path.read_bytes() for path in paths if path.is_file()]
    promises = {**_callback(case, body, told), **_files(case, files, size)}
    return Row(case, files, told, [promise for promise, kept in promises.items() if not kept])


def _callback(case: Case, body: dict[str, Any], told: dict[str, Any]) -> dict[str, bool]:
    """Promise → whether it was kept."""
    preset, metadata = case.preset, told["metadata"]
    names = [f"{USER}/{body['id']}_{index}.{preset.extension}" for index in range(case.images)]
    video = preset.media == "video"
    return {
        "every key": told.keys() >= EVERY_KEY and told["error_message"] is None,
        "assets": told["assets"] == names,
        "seed": metadata["seed"] == 7 and metadata["num_images"] == case.images,
        "mode": metadata["reference_mode"] == case.became,
        "way": ("reference_way" in metadata) == (case.mode != "none"),
        "reference": ("reference_image_url" in metadata) == (case.mode != "none"),
        "nothing degraded": "degraded" not in metadata,
        "frames": (metadata["frame_num"], metadata["frames"]) == ((83, 81) if video else (1, 1)),
        "task": metadata.get("wan_task") == (None if preset.family == SDXL else "t2v-1.3B"),
        "enhanced": bool(told.get("enhancedPrompt")) == preset.enhance,
        "times": metadata["generation_time"] > 0 and metadata["total_time"] > 0,
        "ratio": metadata["performance_ratio"] == round(metadata["generation_time"] / metadata["expected_time"], 3),
    }


def _files(case: Case, files: list[bytes], size: tuple[int, int]) -> dict[str, bool]:
    held = {"count": len(files) == case.images}
    for data in files:
        if case.preset.media == "video":
            held["video"] = facts_of(data) == VideoFacts("h264", "yuv420p", *size, rate=16.0, frames=81, faststart=True)
        else:
            picture = Image.open(io.BytesIO(data))
            picture.load()
            held["picture"] = held.get("picture", True) and (picture.format, picture.size) == ("PNG", size)
    return held


def _described(data: bytes) -> str:
    if data.startswith(b"\x89PNG"):
        return "PNG {}x{}".format(*Image.open(io.BytesIO(data)).size)
    facts = facts_of(data)
    return f"{facts.codec} {facts.pixel_format} {facts.width}x{facts.height}, {facts.frames} frames, {facts.rate:g} fps"


def sheet(rows: list[Row], path: Path) -> None:
    """The pictures of all rows, references beside them."""
    drawn = {"start": loopback_pictures.dawn(), "end": loopback_pictures.night(), "single": loopback_pictures.dawn()}
    strips = []
    for row in rows:
        cells = [Cell(Image.open(io.BytesIO(drawn[role])), role, reference=True) for role in row.case.roles]
        for data in row.files:
            if data.startswith(b"\x89PNG"):
                cells.append(Cell(Image.open(io.BytesIO(data)), "picture"))
            else:
                shown = {0: "first frame", 40: "frame 41", 80: "last frame"}
                cells += [Cell(frame, shown[index]) for index, frame in frames_of(data, shown).items()]
        strips.append(
            Strip(f"{row.cells[0]} - {row.case.mode}", f"{row.cells[2]} {row.case.reference_type or ''}", cells)
        )
    contact_sheet([strip for strip in strips if strip.cells], path)


def main() -> int:
    """Run all cases; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.matrix", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--steps", type=int, help="denoising steps of every job, instead of its type's")
    parser.add_argument("--full-size", action="store_true", help="one picture and one video in their real sizes")
    options = parser.parse_args()
    folder = options.output.absolute()
    folder.mkdir(parents=True)
    make_tiny(folder / "models")
    begun = time.monotonic()
    chosen = list(cases())
    if options.full_size:
        for manifest in (folder / "models").glob(f"*/{MANIFEST}"):
            manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "render_scale": "1"}))
        plain = [case for case in chosen if case.mode == "none" and case.images == 1]
        chosen = [case for case in plain if case.preset.job_type in ("sdxl_image_fast", "video_fast")]
        sizes, seconds = FULL_SIZES, FULL_SECONDS
    else:
        sizes, seconds = SIZES, SECONDS_PER_JOB
    rows = run(folder, folder / "models", chosen=chosen, steps=options.steps, sizes=sizes, seconds=seconds)
    head = ["type", "mode", "way", "file", "device s", "file and callback"]
    for cells in (head, ["---"] * len(head), *(row.cells for row in rows)):
        print("| " + " | ".join(cells) + " |")
    sheet(rows, folder / "contact-sheet.png")
    failed = sum(bool(row.wrong) for row in rows)
    print(f"\n{len(rows)} cases, {failed} with a broken promise, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
