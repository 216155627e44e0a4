"""`history archive`, `list`, `inspect`, `check` and `views`: old jobs, and the archives that they go into."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ourvidz.cli.choosing import By, Json, States
from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import face_of, note, say, say_json
from ourvidz.cli.inspect import JobId
from ourvidz.cli.progress import bar
from ourvidz.cli.times import parse_time
from ourvidz.exit_codes import ExitCode
from ourvidz.wording import listed, plural, stamp

if TYPE_CHECKING:
    from datetime import datetime

    from ourvidz.archive.ages import Ages
    from ourvidz.archive.run import Forgotten, Run
    from ourvidz.archive.telling import Step
    from ourvidz.archive.writing import Order
    from statemachine.states import State
    from statemachine.store import EventStore
    from statemachine.store.retention import Old

Folder = Annotated[Path, typer.Argument(help="The folder with the archives.", metavar="FOLDER", show_default=False)]


def archive(
    ctx: typer.Context,
    to: Annotated[Path, typer.Option("--to", help="The folder for archives.", metavar="FOLDER", show_default=False)],
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="What ended before: 90d, 52w, or an ISO time (UTC).", metavar="T"),
    ] = None,
    state: States = None,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="With prompts and payloads, which are removed for good otherwise.")
    ] = False,
    by: By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Put old jobs into an archive of Parquet files, read it back, and remove them from the database.

    Which ones says the setting retention, or else --older-than. The service may go on meanwhile. Their ids stay known;
    their files stay in the storage. Safe to kill, and to run again: that finishes what was begun.

    \b
    Example:
        ourvidz history archive --to archives --older-than 90d --state completed --state cancelled
        OURVIDZ_RETENTION="completed=365d, failed=730d, workers=30d" ourvidz history archive --to archives --dry-run
    """
    face = face_of(ctx)
    settings = face.settings()
    from ourvidz.archive.ages import parse

    ages = parse(settings.retention)
    with face.store() as store:
        now = store.now()
        ends_before = _ends_before(ages, now, older_than=older_than, state=state or [])
        if dry_run:
            from statemachine.store.retention import count

            with store.read() as connection:
                _say_old(count(connection, ends_before, now=now), as_json=as_json)
            return
        with _explaining_pyarrow():
            from ourvidz.archive.writing import Order

            order = Order(ends_before=ends_before, payloads=payloads, by=by or getpass.getuser())
            run, forgotten = _archive(store, to.absolute(), order, ages, now)
    if as_json:
        import msgspec

        done = {"place": str(to.absolute()), **msgspec.to_builtins(run), "forgotten": msgspec.to_builtins(forgotten)}
        say_json({"schema": 1, "dry_run": False, **done})
    else:
        _say_run(run, forgotten, to)


def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the archives that jobs of this database went into, the oldest first.

    \b
    Example:
        ourvidz history list
    """
    face = face_of(ctx)
    with face.store() as store:
        from sqlalchemy import select

        from statemachine.store.archive_schema import archives

        with store.read() as connection:
            query = select(archives).order_by(archives.c.made_at, archives.c.name)
            rows = [dict(row) for row in connection.execute(query).mappings()]
    if as_json:
        from ourvidz.documents import row_document

        say_json({"schema": 1, "archives": [row_document(row) for row in rows]})
    elif rows:
        from ourvidz.cli.tables import archives_table

        face.show(archives_table(rows))
    else:
        note("nothing was archived yet")


def check(ctx: typer.Context, folder: Folder, as_json: Json = False) -> None:
    """Say whether archives are what was written: each file, and each job's history. What is wrong ends it with code 1.

    \b
    Example:
        ourvidz history check archives
    """
    face = face_of(ctx)
    with face.store() as store, _explaining_pyarrow():
        from ourvidz.archive.checking import check as look

        found = []
        for one in look(store, _there(folder)):
            found.append(one)
            if not as_json:
                said = f"{plural(one.jobs, 'job')}, {plural(one.events, 'event')}"
                say("\n".join([f"{one.archive}: {said}", *(f"  {wrong}" for wrong in one.wrong)]))
    if as_json:
        import msgspec

        say_json({"schema": 1, "archives": msgspec.to_builtins(found)})
    wrong = sum(len(one.wrong) for one in found)
    if wrong:
        raise CommandError(f"{plural(wrong, 'thing is', 'things are')} wrong, in {plural(len(found), 'archive')}")


def inspect(
    ctx: typer.Context,
    folder: Folder,
    job_id: JobId,
    events: Annotated[bool, typer.Option("--events", help="Show the raw history too.")] = False,
    as_json: Json = False,
) -> None:
    """Tell the story of one job that was archived, as `jobs inspect` told it when it had ended. Needs no database.

    \b
    Example:
        ourvidz history inspect archives 1d0c
        ourvidz history inspect archives 1d0c --json | jq .attempts
    """
    face = face_of(ctx)
    with _explaining_pyarrow():
        from ourvidz.archive.one_job import situation_in
        from ourvidz.inspect.document import document

        told = document(situation_in(_there(folder), job_id))
    if as_json:
        say_json(told)
        return
    from ourvidz.inspect.terminal import render

    console = face.console()
    console.print(render(told, width=console.width, events=events))


def views(ctx: typer.Context, folder: Folder) -> None:
    """Print the SQL that opens all archives of a folder in DuckDB: tables and views of the names that they have here.

    \b
    Example:
        ourvidz history views archives > archives.sql
    """
    from ourvidz.archive.duck import statements

    for statement in statements(_there(folder)):
        say(f"{statement};\n")


def _there(folder: Path) -> Path:
    """The folder as a whole path. Raises CommandError where no archive is in it."""
    from ourvidz.archive.manifest import PREFIX

    if not any(folder.glob(f"{PREFIX}*")):
        raise CommandError(f"{folder}: there is no archive in it", ExitCode.USAGE)
    return folder.absolute()


@contextmanager
def _explaining_pyarrow() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise CommandError("archives need pyarrow: pip install 'ourvidz[archive]'", ExitCode.WRONG_SETTING) from error


def _ends_before(ages: "Ages", now: "datetime", *, older_than: str | None, state: list[str]) -> "dict[State, datetime]":
    """State → before when a job must have ended so. Raises CommandError where nothing says so."""
    from ourvidz.archive.ages import ENDS

    named = [one for one in ENDS if one.value in state]
    if len(named) < len(set(state)):
        raise typer.BadParameter(f"--state wants one of {', '.join(ENDS)}")
    before = parse_time(older_than, now)
    found = ages.ends_before(now) if before is None else dict.fromkeys(ENDS, before)
    chosen = {one: at for one, at in found.items() if not named or one in named}
    if not chosen and not (ages.workers or ages.dead_letters):
        said = "nothing says how old a job must be: --older-than, or the setting retention"
        raise CommandError(said, ExitCode.USAGE)
    return chosen


def _archive(
    store: "EventStore", folder: Path, order: "Order", ages: "Ages", now: "datetime"
) -> "tuple[Run, Forgotten]":
    from ourvidz.archive.run import archive as run
    from ourvidz.archive.run import forget
    from statemachine.store.retention import count

    with store.read() as connection:
        total = sum(old.jobs for old in count(connection, order.ends_before, now=now))
    with bar("jobs", total) as show:
        removed: dict[str, int] = {}

        def tell(step: "Step") -> None:
            if step.what == "removing":
                removed[step.archive] = step.jobs
                show(sum(removed.values()))

        done = run(store, folder, order, tell=tell)
    workers_before = None if ages.workers is None else now - ages.workers
    letters_before = None if ages.dead_letters is None else now - ages.dead_letters
    return done, forget(store, workers_before=workers_before, letters_before=letters_before)


def _say_old(old: "list[Old]", *, as_json: bool) -> None:
    if as_json:
        import msgspec

        say_json({"schema": 1, "dry_run": True, "jobs": msgspec.to_builtins(old)})
        return
    for one in old:
        say(f"{plural(one.jobs, 'job')} {one.state}, ended from {stamp(one.first)} to {stamp(one.last)}")
    note(f"nothing was done: {plural(sum(one.jobs for one in old), 'job')} would be archived")


def _say_run(run: "Run", forgotten: "Forgotten", folder: Path) -> None:
    for one in run.emptied:
        say(f"{folder / one.archive}: {plural(one.removed, 'job')}")
        for job_id in one.left:
            note(f"job {job_id} has changed since it was archived, and stays")
    for name in run.skipped:
        note(f"{folder / name}: made by another version; what is in it and still here goes into another archive")
    gone = [plural(forgotten.workers, "worker"), plural(forgotten.dead_letters, "dead letter")]
    note(f"{plural(sum(one.removed for one in run.emptied), 'job')} archived; {listed(gone)} forgotten")
