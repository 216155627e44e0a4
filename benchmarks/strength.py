"""How close a picture comes to its reference, over strength, in every mode and every way: a table and a plot.

    python -m benchmarks.strength --output strength.png

Closeness is told as the mean difference of two pictures' colours, 0 to 255, after both were reduced to 16 x 16: what is
measured is where which colour is, not the grain. Tiny models, a few steps, all of it on the engine that is shipped.
"""

import argparse
import io
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from matplotlib import pyplot
from PIL import Image, ImageChops, ImageStat

from ourvidz import loopback_pictures
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig
from workers.engines.messages import AssetWritten, Failed, Generate, Generated, ReferenceFile
from workers.models import make_tiny
from workers.presets import LUSTIFY, PRESETS, WAN_1_3B
from workers.references.decoding import fit
from workers.spool import sha256
from workers.videos import frames_of

STRENGTHS: Final = tuple(round(0.1 * tenth, 1) for tenth in range(1, 11))
SEEDS: Final = (1, 2, 3)
FRAMES: Final = 17
STEPS: Final = 15
PICTURES: Final = {
    "single": loopback_pictures.dawn(),
    "start": loopback_pictures.dawn(),
    "end": loopback_pictures.night(),
}


@dataclass(frozen=True)
class Curve:
    """One way in one mode. `kind` is the type of an SDXL reference."""

    title: str
    job_type: str
    roles: tuple[str, ...]
    kind: str = "style"
    guided: bool = False
    """By the model that is made for references: the IP-Adapter, or VACE."""


CURVES: Final = (
    *(
        Curve(f"SDXL img2img, {kind}", "sdxl_image_fast", ("single",), kind)
        for kind in ("style", "composition", "character")
    ),
    *(
        Curve(f"SDXL IP-Adapter, {kind}", "sdxl_image_fast", ("single",), kind, guided=True)
        for kind in ("style", "composition", "character")
    ),
    *(
        Curve(f"WAN {'VACE' if guided else 'latents held'}, {name}", "video_fast", roles, guided=guided)
        for guided in (True, False)
        for name, roles in (
            ("single", ("single",)),
            ("start", ("start",)),
            ("end", ("end",)),
            ("both", ("start", "end")),
        )
    ),
)


@dataclass
class Points:
    """Frame → its distance from the reference, for each strength. `free` is that of a job without reference."""

    way: str = ""
    by_frame: dict[str, list[float]] = field(default_factory=dict)
    free: dict[str, float] = field(default_factory=dict)


class Bench:
    """An engine and a folder."""

    def __init__(self, models: Path, folder: Path, *, guided: bool) -> None:
        self._folder = folder
        self._number = 0
        self._engine = EngineProcess(
            EngineConfig(
                engine="diffusers",
                device="cpu",
                lock_dir=folder / "locks",
                models={LUSTIFY: models / "tiny-sdxl", WAN_1_3B: models / "tiny-wan"},
                wan_vace=models / "tiny-wan-vace" if guided else None,
                sdxl_ip_adapter=models / "tiny-ip-adapter" if guided else None,
            )
        )

    def close(self) -> None:
        """End the engine."""
        self._engine.close()

    def draw(self, curve: Curve, seed: int, strength: float | None) -> tuple[str, dict[str, Image.Image]]:
        """The way that was used, and the first, middle and last frame. Without strength there is no reference."""
        self._number += 1
        spool = self._folder / str(self._number)
        spool.mkdir()
        preset = PRESETS[curve.job_type]
        video = preset.media == "video"
        request = Generate(
            request_id=str(self._number),
            job_id=str(self._number),
            job_type=curve.job_type,
            model=preset.model,
            prompt="a quiet landscape",
            negative_prompt="",
            width=preset.width,
            height=preset.height,
            steps=STEPS,
            guidance_scale=5.0,
            seed=seed,
            num_images=1,
            frames=FRAMES if video else 1,
            spool=str(spool),
            references=[] if strength is None else list(_files(curve, spool)),
            reference_strength=strength or 0.5,
            reference_type=curve.kind,
            reference_fit="crop",
        )
        data, way = b"", ""
        for said in self._engine.run(request):
            match said:
                case AssetWritten(name=name):
                    data = (spool / name).read_bytes()
                case Generated():
                    way = said.reference_way or ""
                case Failed():
                    raise SystemExit(f"{curve.title}: {said.message}")
        if not video:
            return way, {"picture": Image.open(next(spool.glob("asset_0.png"))).convert("RGB")}
        places = {"first": 0, "middle": FRAMES // 2, "last": FRAMES - 1}
        frames = frames_of(data, set(places.values()))
        return way, {name: frames[index] for name, index in places.items()}


def _files(curve: Curve, spool: Path) -> Iterator[ReferenceFile]:
    for role in curve.roles:
        data = PICTURES[role]
        name = f"reference_{role}.png"
        (spool / name).write_bytes(data)
        yield ReferenceFile(role, name, sha256(data))


def distance(frame: Image.Image, reference: Image.Image) -> float:
    """0 (the same) to 255."""
    near = [
        fit(picture.convert("RGB"), *frame.size, "crop").resize((16, 16), Image.Resampling.BOX)
        for picture in (frame, reference)
    ]
    return statistics.fmean(ImageStat.Stat(ImageChops.difference(*near)).mean)


def _compared(curve: Curve, frames: Mapping[str, Image.Image]) -> dict[str, float]:
    """Each frame with the reference that it is to hold to: the last one with the end's, all others with the first."""
    found = {}
    for name, frame in frames.items():
        role = "end" if "end" in curve.roles and (name == "last" or len(curve.roles) == 1) else curve.roles[0]
        found[name] = distance(frame, Image.open(io.BytesIO(PICTURES[role])))
    return found


def measure(bench: Bench, curve: Curve) -> Points:
    """Averages over the seeds."""
    points = Points()
    free = [_compared(curve, bench.draw(curve, seed, None)[1]) for seed in SEEDS]
    points.free = {name: statistics.fmean(one[name] for one in free) for name in free[0]}
    for strength in STRENGTHS:
        drawn = [bench.draw(curve, seed, strength) for seed in SEEDS]
        points.way = drawn[0][0]
        found = [_compared(curve, frames) for _, frames in drawn]
        for name in found[0]:
            points.by_frame.setdefault(name, []).append(statistics.fmean(one[name] for one in found))
    return points


def plot(measured: Mapping[Curve, Points], path: Path) -> None:
    """One small diagram for each curve."""
    columns = 4
    rows = -(-len(measured) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(13, 2.7 * rows), sharex=True, layout="constrained")
    colours = {"picture": "#c0562f", "first": "#c0562f", "middle": "#8a8f98", "last": "#2f6690"}
    places: list[Any] = list(axes.flat)
    for axis in places:
        axis.set_visible(False)
    for axis, (curve, points) in zip(places, measured.items(), strict=False):
        axis.set_visible(True)
        for name, values in points.by_frame.items():
            axis.plot(STRENGTHS, values, marker="o", markersize=3, color=colours[name], label=name)
            axis.axhline(points.free[name], color=colours[name], linestyle=":", linewidth=0.8)
        axis.set_title(curve.title, fontsize=9)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.2)
        axis.legend(fontsize=7, frameon=False)
    figure.supxlabel("reference strength (dotted: without a reference)", fontsize=9)
    figure.supylabel("difference from the reference, of 255", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> int:
    """Measure all curves, print the table, draw the plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strength", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--output", type=Path, default=Path("strength.png"), help="the plot")
    options = parser.parse_args()
    measured: dict[Curve, Points] = {}
    with tempfile.TemporaryDirectory(prefix="strength-") as name:
        models = Path(name) / "models"
        make_tiny(models)
        for guided in (False, True):
            folder = Path(name) / f"guided-{guided}"
            folder.mkdir()
            bench = Bench(models, folder, guided=guided)
            measured |= {curve: measure(bench, curve) for curve in CURVES if curve.guided == guided}
            bench.close()
    measured = {curve: measured[curve] for curve in CURVES}
    print("| reference | way | frame | none | " + " | ".join(f"{strength:g}" for strength in STRENGTHS) + " |")
    print("|---" * (4 + len(STRENGTHS)) + "|")
    for curve, points in measured.items():
        for name, values in points.by_frame.items():
            cells = [curve.title, points.way, name, f"{points.free[name]:.1f}", *(f"{value:.1f}" for value in values)]
            print("| " + " | ".join(cells) + " |")
    plot(measured, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
