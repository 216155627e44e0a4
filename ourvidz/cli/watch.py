"""`jobs watch`: progress bars on a terminal, a line for each change elsewhere."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import Face, face_of, note, say, say_json
from ourvidz.exit_codes import ExitCode
from ourvidz.wording import clock

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from statemachine.store import EventStore

LOOK_SECONDS: Final = 0.4
SHOWN: Final = 30
"""So many live jobs at once, where none are named."""


def watch(
    ctx: typer.Context,
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(help="Ids, or their first characters; all live jobs when none.", metavar="[ID…]"),
    ] = None,
) -> None:
    """Watch jobs at work. Ends when the given ones are finished; Ctrl-C ends it at any time.

    \b
    Example:
        ourvidz jobs watch 7f3a 90bc
    """
    follow(face_of(ctx), job_ids or [])


def follow(face: Face, prefixes: Sequence[str], *, as_json: bool = False) -> None:
    """Watch until all of `prefixes` are finished. Raises CommandError when one of them did not complete."""
    with face.store() as store:
        from statemachine.store.reading import resolve

        with store.read() as connection:
            job_ids = [resolve(connection, prefix) for prefix in prefixes]
        rows = until_finished(face, store, job_ids, quiet=as_json)
    if as_json:
        from ourvidz.documents import row_document

        say_json({"schema": 1, "jobs": [row_document(row) for row in rows]})
    failed = [row for row in rows if row["state"] != "completed"]
    if failed:
        from ourvidz.cli.tables import what

        first = failed[0]
        ended = f"job {first['id']} {'was' if first['state'] == 'cancelled' else 'has'} {first['state']}"
        others = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise CommandError(f"{ended}: {what(first, first['finished_at'])}{others}", ExitCode.NOT_COMPLETED)


def until_finished(face: Face, store: "EventStore", job_ids: list[str], *, quiet: bool) -> list[dict[str, Any]]:
    """Watch until all of them are finished, for ever where none is named; return their rows. `quiet`: say nothing."""
    if sys.stdout.isatty() and not quiet:
        return _bars(face, store, job_ids)
    return _lines(store, job_ids, quiet=quiet)


def _lines(store: "EventStore", job_ids: list[str], *, quiet: bool) -> list[dict[str, Any]]:
    from ourvidz.cli.tables import what

    told: dict[str, tuple[Any, ...]] = {}
    if not job_ids and not quiet:
        note("watching all live jobs; Ctrl-C ends it")
    while True:
        rows, now = _look(store, job_ids, told)
        for row in rows:
            key = (row["state"], row["worker_id"], row["resume_at"], row["error_type"], row["run"])
            if told.get(row["id"]) != key and not quiet:
                say(f"{clock(row['updated_at'])} {row['id']} {row['state']} {what(row, now)}".rstrip())
                sys.stdout.flush()
            told[row["id"]] = key
        if job_ids and all(row["finished_at"] is not None for row in rows):
            return rows
        if not job_ids:
            told = {row["id"]: told[row["id"]] for row in rows if row["finished_at"] is None}
        store.wakeups.wait(LOOK_SECONDS)


def _bars(face: Face, store: "EventStore", job_ids: list[str]) -> list[dict[str, Any]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    tasks: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.fields[short]}", style="dim", markup=False),
        TextColumn("{task.fields[state]:<13}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    with Progress(*columns, console=face.console(), expand=True) as progress:
        while True:
            rows, now = _look(store, job_ids, tasks)
            for row in rows:
                _draw(progress, tasks, row, now)
            if job_ids and all(row["finished_at"] is not None for row in rows):
                return rows
            if not job_ids:
                for row in rows:
                    if row["finished_at"] is not None:
                        progress.remove_task(tasks.pop(row["id"]))
            store.wakeups.wait(LOOK_SECONDS)


def _draw(progress: "Progress", tasks: "dict[str, TaskID]", row: dict[str, Any], now: datetime) -> None:
    from ourvidz.cli.tables import what

    done, of = _share(row)
    fields = {"short": row["id"][:8], "state": row["state"], "what": what(row, now)}
    if row["id"] not in tasks:
        tasks[row["id"]] = progress.add_task("", total=of, completed=done, **fields)
    task = tasks[row["id"]]
    progress.update(task, total=of, completed=done, **fields)
    if row["finished_at"] is not None:
        progress.stop_task(task)


def _share(row: dict[str, Any]) -> tuple[int, int | None]:
    """How much of the bar is full: steps while it generates; nothing before, all of it after."""
    told = row.get("progress") or {}
    if isinstance(told.get("step"), int) and isinstance(told.get("of"), int) and told["of"] > 0:
        return told["step"], told["of"]
    after = row["state"] in ("uploading", "callback") or row["finished_at"] is not None
    return (1, 1) if after else (0, 1 if row["worker_id"] is None else None)


def _look(store: "EventStore", named: list[str], known: Iterable[str] = ()) -> tuple[list[dict[str, Any]], datetime]:
    """The named jobs; where none are, the live ones and those that were live a moment ago."""
    from statemachine.store.reading import jobs_by_id, live_jobs

    with store.read() as connection:
        if named:
            return jobs_by_id(connection, named), store.now()
        live = live_jobs(connection, SHOWN)
        ended = jobs_by_id(connection, sorted(set(known) - {row["id"] for row in live}))
        return [*ended, *live], store.now()
