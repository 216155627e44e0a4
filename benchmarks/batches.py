"""Six images in one batch against six single ones, in turns, on the resident tiny SDXL: seconds and the ratio.

python -m benchmarks.batches [--rounds 5] [--threads N]
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig
from workers.engines.messages import Failed, Generate, Generated
from workers.models import make_tiny
from workers.presets import LUSTIFY, PRESETS

TOGETHER: Final = 6


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="torch's own choice when not given")
    options = parser.parse_args()
    together, single = [], []
    with tempfile.TemporaryDirectory(prefix="batches-") as name:
        folder = Path(name)
        make_tiny(folder)
        models = {LUSTIFY: folder / "tiny-sdxl"}
        engine = EngineProcess(EngineConfig("diffusers", "cpu", folder / "locks", models, threads=options.threads))
        try:
            _draw(engine, folder, "warm-up", 0, 1)
            for number in range(options.rounds):
                together.append(_draw(engine, folder, f"{number}-together", 1, TOGETHER))
                ones = [_draw(engine, folder, f"{number}-{seed}", seed, 1) for seed in range(1, TOGETHER + 1)]
                single.append(sum(ones))
        finally:
            engine.close()
    batch, one_by_one = statistics.median(together), statistics.median(single)
    print(f"device seconds, medians of {options.rounds} rounds")
    print(f"one batch of {TOGETHER}: {batch:.2f}; {TOGETHER} single ones: {one_by_one:.2f}")
    print(f"ratio {batch / one_by_one:.2f}")
    return 0


def _draw(engine: EngineProcess, folder: Path, name: str, seed: int, count: int) -> float:
    """Device seconds of one request in the type's own size and steps."""
    preset = PRESETS["sdxl_image_fast"]
    spool = folder / name
    spool.mkdir()
    request = Generate(
        request_id=name,
        job_id=name,
        job_type=preset.job_type,
        model=preset.model,
        prompt="a heron at dawn",
        negative_prompt="",
        width=preset.width,
        height=preset.height,
        steps=preset.steps,
        guidance_scale=preset.guidance_scale,
        seed=seed,
        num_images=count,
        frames=1,
        spool=str(spool),
    )
    for said in engine.run(request):
        match said:
            case Generated():
                return said.device_seconds
            case Failed():
                raise SystemExit(said.message)
    raise SystemExit("the engine said nothing")


if __name__ == "__main__":
    sys.exit(main())
