"""`jobs verify`."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ourvidz.cli.choosing import Json
from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import face_of, say, say_json
from ourvidz.cli.progress import bar
from ourvidz.cli.times import parse_time
from ourvidz.wording import duration, listed, plural, stamp

if TYPE_CHECKING:
    from ourvidz.verifying import Looked, Verifying
    from statemachine.finding import Finding
    from statemachine.store import EventStore
    from statemachine.store.against_anchors import Tail


def verify(
    ctx: typer.Context,
    job_id: Annotated[
        str | None,
        typer.Argument(help="A job's id, or its first characters; everything when none.", metavar="[ID]"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only what was queued or has changed since: 2h, 3d, or an ISO time (UTC).", metavar="T"),
    ] = None,
    no_assets: Annotated[
        bool, typer.Option("--no-assets", help="Leave the files alone, which are all read otherwise.")
    ] = False,
    anchors: Annotated[
        Path | None,
        typer.Option(help="A log of supervisors: the anchors must be those that it tells of.", metavar="FILE"),
    ] = None,
    keyed_from: Annotated[
        int,
        typer.Option(help="The first anchor made with the key, where others were before.", min=1, metavar="N"),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Say whether the history is what was written: each event, each table, each anchor, each file.

    What is wrong is named by job and version, and ends it with code 1. Nothing is changed.

    \b
    Example:
        ourvidz jobs verify
        ourvidz jobs verify 7f3a
        ourvidz jobs verify --since 1d --no-assets --json | jq .wrong
    """
    from ourvidz import wiring
    from ourvidz.verifying import Verifying, finding_document, roots_in, sentence

    if job_id is not None and (since is not None or anchors is not None):
        raise typer.BadParameter("an id stands alone: the anchors that cover one job are looked at with it")
    face = face_of(ctx)
    settings = face.settings()
    logged = None
    if anchors is not None:
        with anchors.open(encoding="utf-8", errors="replace") as lines:
            logged = roots_in(lines)
        if not logged:
            raise CommandError(f"{anchors} tells of no anchor: wanted the log of a supervisor, at level info")
    began = time.monotonic()
    wrong: list[Finding] = []
    with face.store() as store:
        bucket = None if no_assets else wiring.storage(settings)
        verifying = Verifying(
            store,
            bucket=bucket,
            keys=wiring.anchor_keys(settings),
            keyed_from=keyed_from,
            logged=logged,
            anchor_seconds=settings.anchor_seconds,
        )
        for finding in _found(store, verifying, job_id, since):
            wrong.append(finding)
            if not as_json:
                say(sentence(finding))
        looked, rest, seconds = verifying.looked, verifying.tail(), time.monotonic() - began
    if as_json:
        say_json(_document(looked, rest, seconds, [finding_document(finding) for finding in wrong]))
    else:
        say(_summary(looked, rest, seconds))
    if wrong:
        said = plural(len(wrong), "thing is", "things are")
        raise CommandError(f"{said} wrong, in {plural(len({one.job_id for one in wrong if one.job_id}), 'job')}")


def _found(store: "EventStore", verifying: "Verifying", job_id: str | None, since: str | None) -> "Iterator[Finding]":
    """What is wrong, one after the other, while a bar tells how far it is."""
    from statemachine.store.anchors import newest
    from statemachine.store.reading import counts
    from statemachine.store.verify import whose

    total = None
    with store.read() as connection:
        if job_id is not None:
            batches = verifying.one(whose(connection, job_id))
        elif moment := parse_time(since, store.now()):
            batches = verifying.since(moment)
        else:
            last = newest(connection)
            total = sum(counts(connection).values()) + (0 if last is None else last.sequence)
            batches = verifying.everything()
    with bar("jobs and anchors", total) as show:
        for batch in batches:
            yield from batch
            show(verifying.looked.jobs + verifying.looked.anchors)


def _document(looked: "Looked", rest: "Tail", seconds: float, wrong: list[dict[str, object]]) -> dict[str, object]:
    from msgspec.structs import asdict

    return {
        "schema": 1,
        "looked_at": {**asdict(looked), "seconds": round(seconds, 3)},
        "unanchored": {"events": rest.events, "since": None if rest.since is None else rest.since.isoformat()},
        "wrong": wrong,
    }


def _summary(looked: "Looked", rest: "Tail", seconds: float) -> str:
    """What was looked at, and what could not be."""
    parts = [
        f"{plural(looked.jobs, 'job')} with {plural(looked.events, 'event')}",
        plural(looked.anchors, "anchor"),
        plural(looked.files, "file"),
    ]
    lines = [f"looked at {listed(parts)} in {duration(seconds)}"]
    if looked.archived:
        lines.append(f"archived, so that their events are not here: {plural(looked.archived, 'job')}")
    if looked.late:
        lines.append(f"anchored late, so that nothing vouches for the time before: {plural(looked.late, 'event')}")
    if looked.unproven:
        lines.append(f"made with a key that is not set here, so not proven: {plural(looked.unproven, 'anchor')}")
    if looked.not_asked:
        lines.append(f"not looked at, as the storage gave no answer: {plural(looked.not_asked, 'file')}")
    if rest.since is not None:
        lines.append(f"not anchored yet: {plural(rest.events, 'event')}, the first of {stamp(rest.since)}")
    return "\n".join(lines)
