"""The chaos campaign: processes, servers, connections and disks are broken by a seeded plan, under load.

    python -m tests.campaigns.chaos --database postgresql --jobs 500 --minutes 5 --seed 7

Prints its seed first and its verdict last; exits with 1 where an invariant does not hold. With --real, a second
service with tiny models stands beside the one with the null engine, on the same servers.
"""

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.campaigns.chaos.campaign import Campaign
from tests.campaigns.chaos.faults import Kind, catalogue
from tests.campaigns.chaos.judge import judged
from tests.campaigns.chaos.load import NULL, REAL, Load
from tests.campaigns.chaos.report import report, show, write
from tests.campaigns.chaos.town import Database, Plot, built
from workers.models import make_tiny

NULL_SETTINGS: Final = {"OURVIDZ_NULL_STEP_SECONDS": "0.004"}
IN_FLIGHT: Final = {"null": 200, "diffusers": 12}
"""Engine → jobs that are on their way, at most."""
PUSHED_WITHIN: Final = 0.9
"""Of the time of the faults."""


def run(
    folder: Path,
    dice: Random,
    *,
    database: Database,
    jobs: int,
    real: int,
    workers: int,
    seconds: float,
    facts: dict[str, Any],
    only: tuple[str, ...] = (),
) -> dict[str, Any]:
    """One campaign, from an empty folder to its verdict. `only` are names of faults; without it, all of them."""
    plots = [Plot(name="many", engine="null", workers=workers, settings=NULL_SETTINGS)]
    wanted = [(NULL, jobs, IN_FLIGHT["null"])]
    if real:
        plots.append(Plot(name="tiny", engine="diffusers", workers=1, settings=_models(folder / "models")))
        wanted.append((REAL, real, IN_FLIGHT["diffusers"]))
    with built(folder, database, plots, dice, slowest=0.05) as town:
        kinds: list[Kind] = [
            kind
            for kind in catalogue(database, small_disks=len(town.disks) == len(plots))
            if not only or kind.name in only
        ]
        loads = [
            Load(
                house.service,
                f"redis://127.0.0.1:{town.proxies['valkey'].port}/{number}",
                what,
                Random(dice.random()),
                count=count,
                seconds=PUSHED_WITHIN * seconds,
                in_flight=most,
            )
            for number, (house, (what, count, most)) in enumerate(zip(town.houses, wanted, strict=True))
        ]
        campaign = Campaign(town, loads, kinds, Random(dice.random()), seconds=seconds, tell=partial(print, flush=True))
        story = campaign.run()
        counts, violations = judged(town, loads)
        story.violations += violations
        found = report(story, counts, town, loads, facts=facts)
        found["violations"] += [wrong for house in town.houses for wrong in house.stop()]
        return found


def _models(folder: Path) -> dict[str, str]:
    make_tiny(folder)
    return {
        "OURVIDZ_SDXL_MODEL": str(folder / "tiny-sdxl"),
        "OURVIDZ_WAN_MODEL": str(folder / "tiny-wan"),
        "OURVIDZ_CHECKPOINT_SECONDS": "0.5",
        "OMP_NUM_THREADS": "1",
    }


def main() -> int:
    """Run one campaign and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--jobs", type=int, default=500, help="of the null engine")
    parser.add_argument("--real", type=int, default=0, help="jobs of real engines with tiny models")
    parser.add_argument("--workers", type=int, default=3, help="of the null engine")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults happen, at least")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--json", type=Path, help="write the report there as well")
    parser.add_argument("--keep", action="store_true", help="keep the folder with database and logs")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are ours to end
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="ovz-chaos-"))
    print(f"folder {folder}", flush=True)
    facts = {name: getattr(options, name) for name in ("seed", "database", "jobs", "real", "workers", "minutes")}
    found = run(
        folder,
        Random(options.seed),
        database=options.database,
        jobs=options.jobs,
        real=options.real,
        workers=options.workers,
        seconds=60 * options.minutes,
        facts=facts,
    )
    replay = " ".join(f"--{name} {value}" for name, value in facts.items())
    show(found, replay=f"python -m tests.campaigns.chaos {replay}")
    if options.json is not None:
        write(found, options.json)
    if not options.keep and not found["violations"]:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
