"""`jobs search`."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ourvidz.cli.choosing import ErrorClass, ErrorText, Json, Since, States, Type, Until, User, WorkerId, wanted
from ourvidz.cli.face import face_of, note, say_json
from ourvidz.cli.progress import bar

if TYPE_CHECKING:
    from datetime import datetime

    from ourvidz.searching import Found
    from statemachine.store.reading import Filter

WINDOW: Final = timedelta(days=30)
"""How far back it is looked where nobody says how far."""


def search(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(help="All of them must stand in the prompt, the enhanced one or the error.", metavar="[WORD…]"),
    ] = None,
    state: States = None,
    job_type: Type = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    error: ErrorText = None,
    error_class: ErrorClass = None,
    worker: WorkerId = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.", min=1, max=100_000)] = 20,
    as_json: Json = False,
) -> None:
    """Find jobs by what was asked for and by how it went, the newest first, with the words that were found.

    It looks through the jobs of 30 days, or since the time given. `jobs list` reads no prompts and knows no window.

    \b
    Example:
        ourvidz jobs search heron "at dawn"
        ourvidz jobs search --error-class device_memory --worker gpu-3 --since 7d
        ourvidz jobs search "Zoë" --since 2026-01-01 --json | jq -r '.jobs[].id'
    """
    face = face_of(ctx)
    if any(not word.strip() for word in words or []):
        raise typer.BadParameter("a word is wanted, got nothing but spaces")
    with face.store() as store:
        from msgspec.structs import replace

        from ourvidz.searching import search as find
        from statemachine.store.reading import jobs_by_id

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
        if fitting.since is None:
            fitting = replace(fitting, since=(fitting.until or now) - WINDOW)
        with store.read() as connection:
            with bar("jobs looked through", None) as show:
                found = find(connection, fitting, words or [], show)
            rows = {row["id"]: row for row in jobs_by_id(connection, list(found.jobs))}
    if as_json:
        say_json(_document(found, rows, fitting, now))
        return
    from ourvidz.cli.matches import matches
    from ourvidz.cli.tables import jobs_table

    console = face.console()
    if words and rows:
        pairs = [(rows[job_id], excerpts) for job_id, excerpts in found.jobs.items()]
        console.print(matches(pairs, now, width=console.width))
    elif rows:
        console.print(jobs_table([rows[job_id] for job_id in found.jobs], now, width=console.width))
    _account(found, rows, fitting, by_words=bool(words))


def _account(found: "Found", rows: dict[str, dict[str, Any]], wanted: "Filter", *, by_words: bool) -> None:
    """What was looked through, so that nobody takes a window for everything."""
    from ourvidz.wording import plural, stamp

    assert wanted.since is not None
    until = f" and before {stamp(wanted.until)}" if wanted.until is not None else ""
    window = f"queued since {stamp(wanted.since)}{until}"
    if found.enough:
        oldest = stamp(min(row["queued_at"] for row in rows.values()))
        note(f"the newest {len(found.jobs)}, back to {oldest}; --limit shows more of those {window}")
    else:
        of_them = f" of the {found.looked_at} that fit otherwise" if by_words else ""
        note(f"{plural(len(found.jobs), 'job')}{of_them}, {window}; --since looks further back")


def _document(found: "Found", rows: dict[str, dict[str, Any]], wanted: "Filter", now: "datetime") -> dict[str, Any]:
    """`complete`: there is no other one in the window."""
    import msgspec

    from ourvidz.documents import row_document

    return {
        "schema": 1,
        "now": now.isoformat(),
        "since": None if wanted.since is None else wanted.since.isoformat(),
        "until": None if wanted.until is None else wanted.until.isoformat(),
        "looked_at": found.looked_at,
        "complete": not found.enough,
        "jobs": [
            row_document(rows[job_id]) | {"found": msgspec.to_builtins(excerpts)}
            for job_id, excerpts in found.jobs.items()
        ],
    }
