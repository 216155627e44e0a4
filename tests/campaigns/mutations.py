"""Thousands of payloads, half of them spoilt, through a living service: jobs + dead letters = pushes.

python -m tests.campaigns.mutations --database sqlite|postgresql [--count 2000] [--seed 1]
"""

import argparse
import json
import sys
import tempfile
import uuid
from pathlib import Path
from random import Random

from sqlalchemy import func, select

from statemachine.store import EventStore
from statemachine.store.schema import dead_letters, jobs
from tests.campaigns.orders import ELSEWHERE
from tests.campaigns.service import Service, database_at, served, wait_until
from tests.invariants import check_projections
from tests.mutations import campaign, fixtures

LIMIT_SECONDS = 1200.0


def main() -> int:
    """Push, wait, count; exit code 1 when a payload was lost or the service does not live."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ovz-mut-") as name, database_at(arguments.database, Path(name)) as url:
        folder = Path(name)
        with served(folder, url, "null", Random(arguments.seed), step_seconds=0.0, slowest=0.0) as (service, receiver):
            service.start()
            problems = run(service, arguments.seed, arguments.count)
            told = {one.job_id for one in receiver.heard if one.status != "processing"}
            with service.store.read() as connection:
                missing = set(connection.scalars(select(jobs.c.id))) - told
            problems += [f"{len(missing)} jobs of which nobody was told"] if missing else []
            service.signal()
            service.wait(60)
    for problem in problems:
        print(f"VIOLATION: {problem}")
    return 1 if problems else 0


def run(service: Service, seed: int, count: int) -> list[str]:
    """Push `count` payloads and return what is wrong afterwards."""
    pushes = list(campaign(seed, count))
    for queue, raw in pushes:
        service.push(queue, raw.replace(ELSEWHERE.encode(), service.pictures.encode()))
    store, problems = service.store, []
    seconds = wait_until(lambda: not service.lists() and _live(store) == 0, LIMIT_SECONDS, look=0.5)
    if seconds is None:
        problems.append(f"not settled after {LIMIT_SECONDS:g} s: {_live(store)} live jobs, lists {service.lists()}")
    queue, last = fixtures()[0]
    service.push(queue, _new(last))
    alive = wait_until(lambda: not service.lists() and _live(store) == 0, 60)
    with store.read() as connection:
        total = connection.scalar(select(func.count()).select_from(jobs)) or 0
        refused = connection.scalar(select(func.count()).where(jobs.c.error_type == "InvalidPayload")) or 0
        dead = connection.scalar(select(func.count()).select_from(dead_letters)) or 0
    accepted = total - refused
    print(
        f"{count} pushes (+1): {accepted} accepted ({100 * accepted / (count + 1):.1f} %), "
        f"{refused} refused, {dead} dead letters; settled after {seconds or 0:.0f} s"
    )
    if total + dead != count + 1:
        problems.append(f"{count + 1} pushes, but {total} jobs and {dead} dead letters")
    if not 0.2 <= accepted / count <= 0.6:
        problems.append(f"{accepted} of {count} accepted: the campaign tells little")
    if alive is None:
        problems.append("the last, valid payload was not served")
    try:
        check_projections(store)
    except AssertionError as error:
        problems.append(str(error))
    return problems


def _live(store: EventStore) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).where(jobs.c.finished_at.is_(None))) or 0


def _new(payload: dict[str, object]) -> bytes:
    return json.dumps({**payload, "id": str(uuid.uuid4())}).encode()


if __name__ == "__main__":
    sys.exit(main())
