"""WAN kept on the device against WAN as a program for each job: the same jobs by both, one after the other.

    python -m benchmarks.wan_engines [--jobs 10] [--frames 17] [--steps 15]

Both draw with the tiny model. Each side begins with an engine process that stands and has loaded nothing, so the first
resident job pays for its model; every job by the program pays for its Python, its torch and its model.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.engines.asking import Studio
from tests.engines.scripted import original_folder
from workers.engine_process import EngineProcess
from workers.engines.config import EngineConfig, WanScript
from workers.engines.messages import Failed, Generated, Loaded
from workers.models import make_tiny
from workers.presets import WAN_1_3B

SCRIPT = Path(__file__).with_name("wan_generate.py")


def main() -> int:
    """Run both sides and print seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ovz-wan-") as name:
        root = Path(name)
        make_tiny(root / "models")
        tiny = root / "models" / "tiny-wan"
        shutil.copytree(tiny, root / "original")
        original_folder(root / "original")
        resident = EngineConfig(
            engine="diffusers", device="cpu", lock_dir=root / "locks", models={WAN_1_3B: tiny}, threads=1
        )
        script = WanScript(path=SCRIPT, python=Path(sys.executable))
        program = replace(resident, models={WAN_1_3B: root / "original"}, wan_script=script)
        print(f"{arguments.jobs} jobs of {arguments.frames} frames in {arguments.steps} steps, 64*96 pixels, CPU")
        sums = [
            _draw(label, config, root / label, arguments)
            for label, config in (("resident", resident), ("program", program))
        ]
    print(f"by the program it takes {sums[1] / sums[0]:.1f} times as long")
    return 0


def _draw(label: str, config: EngineConfig, spool: Path, arguments: argparse.Namespace) -> float:
    """All jobs by one engine; the seconds that they took together."""
    spool.mkdir()
    engine = EngineProcess(config)
    jobs, loads = [], []
    try:
        engine.ready()
        studio = Studio(engine, spool)
        for seed in range(arguments.jobs):
            begun = time.perf_counter()
            answer = studio.ask(
                job_type="video_fast", model=WAN_1_3B, width=480, height=832, frames=arguments.frames,
                steps=arguments.steps, guidance_scale=6.5, seed=seed, solver="unipc", shift=5.0,
            )  # fmt: skip
            last = answer.messages[-1]
            if isinstance(last, Failed):
                raise SystemExit(f"{label}: {last.message}")
            assert isinstance(last, Generated)
            jobs.append(time.perf_counter() - begun)
            loads += [message.seconds for message in answer.messages if isinstance(message, Loaded)]
    finally:
        engine.close()
    print(
        f"{label:>8}: {sum(jobs):6.2f} s together, median {statistics.median(jobs):.2f} s, first {jobs[0]:.2f} s; "
        f"loaded {len(loads)} times in {sum(loads):.2f} s"
    )
    return sum(jobs)


if __name__ == "__main__":
    sys.exit(main())
