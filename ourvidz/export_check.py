"""Check an exported job: python verify.py

Run it in the folder where the archive was unpacked. It needs Python 3.9 or later and nothing else. Each event's digest
covers the event and the digest before it, so that none can be changed, left out or moved; what the history says of the
files that were made is compared with those in `assets`.

Who rewrites all events from some point on can make digests that fit. The last one is printed, to be compared with what
the service has: `ourvidz jobs inspect ID --json`, the digest of the last of `events`.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENVELOPE = ["job_id", "version", "kind", "from_state", "to_state", "run", "stage", "attempt", "worker_id", "at", "data"]


def main(folder: Path) -> int:
    """Say what was found; 0 where all is as the history says."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text("utf-8").splitlines()]
    wrong = [*check_events(events), *check_files(events, folder / "assets")]
    for sentence in wrong:
        sys.stdout.write(sentence + "\n")
    if not wrong:
        sys.stdout.write(f"{len(events)} events and their files are whole; the last digest is {events[-1]['digest']}\n")
    return 1 if wrong else 0


def check_events(events: list[dict[str, Any]]) -> Iterator[str]:
    """One sentence for each event that is not what was written, in its place."""
    digest = ""
    for number, event in enumerate(events, start=1):
        envelope = json.dumps([event[name] for name in ENVELOPE], ensure_ascii=False, separators=(",", ":"))
        digest = hashlib.sha256((digest + envelope).encode("utf-8")).hexdigest()
        if event["version"] != number:
            yield f"version {number} is missing: version {event['version']} stands in its place"
            return
        if event["digest"] != digest:
            yield f"version {number} ({event['kind']}) is not what was written, or what stands before it is not"
            return
    if not events:
        yield "there is no event"


def check_files(events: list[dict[str, Any]], folder: Path) -> Iterator[str]:
    """One sentence for each file that is not the one that was uploaded last."""
    made = {}
    for event in events:
        if event["kind"] == "asset_uploaded":
            data = json.loads(event["data"])
            made[data["key"].rpartition("/")[2]] = data["digest"]
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if made.get(file.name) != digest:
            yield f"assets/{file.name} is not the file that was uploaded"


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent))
