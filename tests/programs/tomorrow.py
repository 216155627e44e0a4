"""A later version of this program, as far as the history is concerned.

It writes a kind that nobody knows yet, tells more in one that is known, and writes `degraded` no longer but reads what
is stored of it as what it has in its place.

    python -m tests.programs.tomorrow URL generate JOB      the next stage of a job that waits
    python -m tests.programs.tomorrow URL work NAME         complete what can be claimed, until nothing is left
    python -m tests.programs.tomorrow URL tell JOB          what this version makes of the job, as JSON
"""

import json
import sys
from typing import Any, ClassVar

import msgspec

from statemachine import events as e
from statemachine import table
from statemachine.states import State
from statemachine.upcasts import UPCASTS


class LatentsMirrored(e.Event, frozen=True):
    kind: ClassVar[str] = "latents_mirrored"
    to: str


class Lessened(e.Event, frozen=True):
    kind: ClassVar[str] = "lessened"
    what: str
    why: str
    severity: int


class StageStarted(e.StageStarted, frozen=True):
    node: str | None = None


e.KINDS.update({cls.kind: cls for cls in (LatentsMirrored, Lessened, StageStarted)})
UPCASTS["degraded"] = lambda old: Lessened(what=old["what"], why=old["why"], severity=1)
table.TABLE.extend((kind, State.GENERATING, State.GENERATING) for kind in (LatentsMirrored, Lessened))

from statemachine import decisions  # noqa: E402  # what follows is built on the table
from statemachine.job import Job  # noqa: E402
from statemachine.store import EventStore, open_store  # noqa: E402
from tests.statemachine.builders import asset, claimant, finish, upload  # noqa: E402


def generate(store: EventStore, job: Job) -> Job:
    """Draw, and tell more of it than could be told before."""
    (begun,) = decisions.start(job)
    assert isinstance(begun, e.StageStarted)
    told = StageStarted(**msgspec.structs.asdict(begun), node="rack 7")
    mirrored, less = LatentsMirrored(to="elsewhere"), Lessened(what="batch", why="memory", severity=3)
    made = [asset(), e.MediaGenerated(device_seconds=1.5, engine="null")]
    return store.append(job, [told, mirrored, less, *made], worker_id=job.worker_id)


def main(url: str, act: str, name: str) -> Any:
    """Do it, and return what is to be told."""
    store = open_store(url)
    store.check_schema()
    match act:
        case "generate":
            (job,) = store.claim(claimant("tomorrow"), drawing=1)
            assert job.id == name
            generate(store, job)
            return None
        case "work":
            done = []
            while claimed := store.claim(claimant(name), drawing=1):
                done += [finish(store, upload(store, generate(store, job))).id for job in claimed]
            return done
        case "tell":
            changed = [one.changed for one in store.rebuild([name])]
            return {"events": [type(row.event).__name__ for row in store.history(name)], "changed": changed}
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
