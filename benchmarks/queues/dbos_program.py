"""The same jobs as a DBOS application: a file that the interpreter of DBOS's own environment runs.

    python dbos_program.py prepare|worker|producer SETTINGS

SETTINGS is JSON: url, executor, receiver, picture, folder, steps, step_seconds, concurrency. A worker serves until
its standard input ends. A producer reads ids of jobs, a line each, and prints each one when it was accepted.
"""
# mypy: disallow-untyped-decorators=False
# DBOS is never installed beside us, so that its decorators are not known.

import json
import os
import sys
import threading
import urllib.request
from pathlib import Path
from time import sleep
from typing import Any, Final

from dbos import DBOS, DBOSClient  # type: ignore[import-not-found]
from sqlalchemy.exc import DBAPIError

QUEUE: Final = "media"
VERSION: Final = "1"

SETTINGS: Final[dict[str, Any]] = json.loads(sys.argv[2])
FOLDER: Final = Path(SETTINGS["folder"])
WITNESS: Final = os.open(FOLDER / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
DEVICE: Final = threading.Lock()
"""One device in each worker, as in ours: jobs beside the one that draws fetch, upload and tell."""


@DBOS.step(retries_allowed=True, max_attempts=10)
def fetch(job_id: str) -> str:
    """Bring the reference into the spool."""
    with urllib.request.urlopen(SETTINGS["picture"], timeout=30) as answer:
        return keep("spool", f"{job_id}.png", answer.read())


@DBOS.step()
def draw(job_id: str, step: int) -> None:
    """One step on the device."""
    sleep(SETTINGS["step_seconds"])
    os.write(WITNESS, f"{job_id} {step}\n".encode())


@DBOS.step(retries_allowed=True, max_attempts=10)
def upload(job_id: str) -> str:
    """Put the picture where its owner can reach it."""
    return keep("storage", f"{job_id}_0.png", job_id.encode() * 100)


@DBOS.step(retries_allowed=True, max_attempts=10)
def tell(job_id: str, asset: str) -> None:
    """Tell the receiver. Safe to run twice: the id stays the same."""
    body = json.dumps({"job_id": job_id, "status": "completed", "assets": [asset]}).encode()
    headers = {"Content-Type": "application/json", "webhook-id": f"{job_id}:1:completed"}
    request = urllib.request.Request(SETTINGS["receiver"], data=body, headers=headers)
    urllib.request.urlopen(request, timeout=30).close()


@DBOS.workflow()
def make(job_id: str) -> None:
    """One job from its reference to its callback."""
    fetch(job_id)
    with DEVICE:
        for step in range(1, SETTINGS["steps"] + 1):
            draw(job_id, step)
    tell(job_id, upload(job_id))


def keep(place: str, name: str, data: bytes) -> str:
    """Write a file whole and for good, as our spool does."""
    path = FOLDER / place / name
    path.parent.mkdir(exist_ok=True)
    with path.with_suffix(".new").open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.with_suffix(".new").replace(path)
    return name


def launch() -> None:
    """Make the tables, recover what this executor had begun, and listen to the queue."""
    DBOS(
        config={
            "name": "queues",
            "system_database_url": SETTINGS["url"],
            "executor_id": SETTINGS["executor"],
            "application_version": VERSION,
        }
    )
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=SETTINGS["concurrency"])


def produce() -> None:
    """Enqueue what is asked for; a returned handle is an accepted job."""
    client = DBOSClient(system_database_url=SETTINGS["url"], application_name="queues")
    for line in sys.stdin:
        while not accepted(client, line.strip()):
            sleep(0.5)
        print(line, end="", flush=True)


def accepted(client: Any, job_id: str) -> bool:
    """False where the database is away and the client has not waited for it by itself."""
    try:
        client.enqueue({"queue_name": QUEUE, "workflow_name": "make", "workflow_id": job_id}, job_id)
    except DBAPIError:
        return False
    return True


if __name__ == "__main__":
    match sys.argv[1]:
        case "prepare":
            launch()
            DBOS.destroy()
        case "worker":
            launch()
            sys.stdin.read()
            os._exit(0)
        case "producer":
            produce()
