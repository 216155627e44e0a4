"""`jobs inspect` and `jobs why`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ourvidz.cli.choosing import Json
from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import Face, face_of, say, say_json
from ourvidz.cli.times import parse_time
from ourvidz.exit_codes import ExitCode

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
    events: Annotated[bool, typer.Option("--events", help="Show the raw history too.")] = False,
    as_json: Json = False,
) -> None:
    """Tell one job's story: how it stands, what was asked, and what happened, attempt by attempt.

    \b
    Example:
        ourvidz jobs inspect 7f3a
        ourvidz jobs inspect 7f3a --at 3
        ourvidz jobs inspect 7f3a --json | jq .attempts
    """
    face = face_of(ctx)
    with face.store() as store:
        told = _told(face, store, job_id, at)
    if as_json:
        say_json(told)
        return
    from ourvidz.inspect.sections import page_of
    from ourvidz.inspect.terminal import render

    console = face.console()
    console.print(render(page_of(told, events=events), width=console.width))


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
        say(told["why"]["said"])


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
