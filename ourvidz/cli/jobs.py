"""`jobs list` and `jobs rebuild`."""

from typing import Annotated

import typer

from ourvidz.cli.choosing import ErrorClass, ErrorText, Json, Since, States, Type, Until, User, WorkerId, wanted
from ourvidz.cli.face import face_of, note, say, say_json
from ourvidz.cli.progress import bar


def list_(
    ctx: typer.Context,
    state: States = None,
    job_type: Type = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    error: ErrorText = None,
    error_class: ErrorClass = None,
    worker: WorkerId = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.", min=1, max=100_000)] = 50,
    as_json: Json = False,
) -> None:
    """List jobs, the newest first.

    \b
    Example:
        ourvidz jobs list --state failed --since 2h --error "out of memory"
    """
    face = face_of(ctx)
    with face.store() as store:
        from ourvidz.cli.tables import jobs_table
        from ourvidz.documents import row_document
        from statemachine.store.reading import counts, list_jobs

        now = store.now()
        fitting = wanted(
            now,
            state=state or [],
            job_type=job_type,
            user=user,
            since=since,
            until=until,
            error=error,
            error_class=error_class,
            worker=worker,
            limit=limit,
        )
        with store.read() as connection:
            rows, numbers = list_jobs(connection, fitting), counts(connection)
    if as_json:
        say_json({"schema": 1, "now": now.isoformat(), "counts": numbers, "jobs": [row_document(row) for row in rows]})
    elif rows:
        console = face.console()
        console.print(jobs_table(rows, now, width=console.width))
        if len(rows) == limit:
            note(f"the newest {limit} of them; --limit shows more")
    else:
        note("no job fits" if numbers else "there are no jobs yet; `ourvidz jobs submit` makes one")


def rebuild(
    ctx: typer.Context,
    job_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids, or their first characters; all jobs when none.", metavar="[ID…]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the projections, from jobs to job_model_changes, again from the events alone, batch by batch.

    \b
    Example:
        ourvidz jobs rebuild
    """
    face = face_of(ctx)
    compared, changed = 0, {}
    with face.store() as store:
        from statemachine.store.reading import counts, resolve

        chosen: list[str] | None = None
        with store.read() as connection:
            if job_ids:
                chosen = [resolve(connection, job_id) for job_id in job_ids]
                total = len(chosen)
            else:
                total = sum(counts(connection).values())
        with bar("jobs", total) as show:
            for rebuilt in store.rebuild(chosen):
                compared += 1
                if rebuilt.changed:
                    changed[rebuilt.job_id] = list(rebuilt.changed)
                show(compared)
    if as_json:
        say_json({"schema": 1, "compared": compared, "changed": changed})
        return
    for job_id, tables in changed.items():
        say(f"{job_id}  rewritten: {', '.join(tables)}")
    say(f"{compared} jobs compared with their events, {len(changed)} rewritten")
