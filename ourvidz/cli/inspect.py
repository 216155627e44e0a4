"""`jobs inspect` and `jobs why`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ourvidz.cli.choosing import Json
from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import Face, face_of, note, say, say_json
from ourvidz.cli.targets import check_target
from ourvidz.cli.times import parse_time
from ourvidz.exit_codes import ExitCode
from ourvidz.wording import plural, printable

if TYPE_CHECKING:
    from ourvidz.inspect.situation import Situation
    from statemachine.store import EventStore

JobId = Annotated[str, typer.Argument(help="A job's id, or its first characters.", metavar="ID", show_default=False)]
At = Annotated[
    str | None,
    typer.Option(help="As it was: a version's number, 2h, 3d, or an ISO time (UTC).", metavar="VERSION|TIME"),
]


def inspect(
    ctx: typer.Context,
    job_id: JobId,
    at: At = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the job is finished; with --json a document a line.")
    ] = False,
    events: Annotated[
        bool, typer.Option("--events", help="Show the raw history too; a document always has it.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write one web page, with the job's pictures in it.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell one job's story: how it stands, what was asked, and what happened, attempt by attempt.

    \b
    Example:
        ourvidz jobs inspect 7f3a
        ourvidz jobs inspect 7f3a --at 3
        ourvidz jobs inspect 7f3a --html 7f3a.html
        ourvidz jobs inspect 7f3a --json | jq .attempts
    """
    if follow and (at is not None or html is not None):
        raise typer.BadParameter("--follow shows what goes on: it goes neither with --at nor with --html")
    if html is not None and as_json:
        raise typer.BadParameter("--html and --json are two forms of one document: choose one of them")
    if html is not None:
        check_target(html)
    face = face_of(ctx)
    with face.store() as store:
        if follow:
            from ourvidz.cli.following import follow_job

            follow_job(face, store, job_id, events=events, as_json=as_json)
            return
        told = _told(face, store, job_id, at)
    if as_json:
        say_json(told)
    elif html is not None:
        _write(face, told, html, events=events)
    else:
        from ourvidz.inspect.terminal import render

        console = face.console()
        console.print(render(told, width=console.width, events=events))


def why(ctx: typer.Context, job_id: JobId, at: At = None, as_json: Json = False) -> None:
    """Tell why a job is where it is, in one sentence: what it waits for, who has it, or what ended it.

    \b
    Example:
        ourvidz jobs why 7f3a
        ourvidz jobs why 7f3a --json | jq -r .why.reason
    """
    face = face_of(ctx)
    with face.store() as store:
        from ourvidz.inspect.document import reason_document

        told = reason_document(_situation(face, store, job_id, at))
    if as_json:
        say_json(told)
    else:
        say(printable(told["why"]["said"]))


def _write(face: Face, told: dict[str, Any], path: Path, *, events: bool) -> None:
    """The web page, whole or not at all."""
    from ourvidz.inspect.pictures import files
    from ourvidz.inspect.web_page import web_page
    from ourvidz.wiring import storage
    from workers.spool import write_durably

    found = files(told, storage(face.settings()))
    write_durably(path.absolute(), web_page(told, found, events=events).encode())
    shown = sum(file.uri is not None for file in found.values())
    note(f"{path} is written, with {shown} of {plural(len(found), 'file')} in it")


def _told(face: Face, store: "EventStore", job_id: str, at: str | None) -> dict[str, Any]:
    from ourvidz.inspect.document import document

    return document(_situation(face, store, job_id, at))


def _situation(face: Face, store: "EventStore", job_id: str, at: str | None) -> "Situation":
    from ourvidz.inspect.reading import situation_at, situation_of
    from statemachine.errors import Refused

    if at is None:
        return situation_of(store, job_id, spool_grace=face.spool_grace())
    moment = int(at) if at.isdecimal() else parse_time(at, store.now())
    assert moment is not None
    try:
        return situation_at(store, job_id, moment)
    except Refused as refused:
        raise CommandError(str(refused), ExitCode.REFUSED) from refused
