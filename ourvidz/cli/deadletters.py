"""`deadletters list`, `show` and `requeue`."""

import getpass
from typing import Annotated, Any

import typer

from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import face_of, note, say, say_json
from ourvidz.exit_codes import ExitCode

LetterId = Annotated[int, typer.Argument(help="A dead letter's number.", metavar="NUMBER", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="A document for programs.")]


def list_(
    ctx: typer.Context,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that were not requeued.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.", min=1, max=100_000)] = 50,
    as_json: Json = False,
) -> None:
    """List payloads that could not become jobs, the newest first.

    \b
    Example:
        ourvidz deadletters list --waiting
    """
    face = face_of(ctx)
    with face.store() as store:
        from ourvidz.cli.tables import letters_table
        from ourvidz.documents import row_document
        from statemachine.store.reading import list_dead_letters

        with store.read() as connection:
            rows = list_dead_letters(connection, limit=limit, waiting_only=waiting)
    if as_json:
        say_json({"schema": 1, "dead_letters": [row_document(row) for row in rows]})
    elif rows:
        face.show(letters_table(rows))
    else:
        note("there are no dead letters")


def show(ctx: typer.Context, letter_id: LetterId, as_json: Json = False) -> None:
    """Show one dead letter: why it is one, where it came from, and its bytes.

    \b
    Example:
        ourvidz deadletters show 12
    """
    face = face_of(ctx)
    with face.store() as store:
        row = _letter(store, letter_id)
    from ourvidz.documents import row_document
    from ourvidz.masking import mask
    from ourvidz.wording import printable

    raw = bytes(row["raw"]).decode("utf-8", "replace")
    if as_json:
        say_json({"schema": 1, **row_document(row), "raw": mask(raw)})
        return
    for name, value in row_document(row).items():
        if value is not None:
            say(f"{name:<13} {printable(str(value))}")
    say("")
    say(mask(printable(raw)))


def requeue(
    ctx: typer.Context,
    letter_id: LetterId,
    by: Annotated[str | None, typer.Option(help="Who does it; your login name when not given.", metavar="NAME")] = None,
    as_json: Json = False,
) -> None:
    """Put a dead letter through the door again. Refused, with the reason, while it is still bad.

    \b
    Example:
        ourvidz deadletters requeue 12 --by ada
    """
    face = face_of(ctx)
    settings = face.settings()
    with face.store() as store:
        from ourvidz.cli.submit import read_arrival, refusal_of
        from statemachine.admission import DeadLetter
        from statemachine.store.letters import mark_requeued

        row = _letter(store, letter_id)
        if row["requeued_at"] is not None:
            raise CommandError(
                f"dead letter {letter_id} was requeued by {row['requeued_by']} already", ExitCode.REFUSED
            )
        if not row["raw"] and row["job_id"] is not None:
            raise CommandError(f"dead letter {letter_id} was erased with job {row['job_id']}", ExitCode.REFUSED)
        arrival = read_arrival(
            bytes(row["raw"]),
            queue=row["queue"],
            source=row["source"],
            now=store.now(),
            max_bytes=settings.max_payload_bytes,
        )
        reason = refusal_of(arrival) or _conflict(store, arrival)
        if reason is not None or isinstance(arrival, DeadLetter):
            raise CommandError(f"dead letter {letter_id} is still refused: {reason}", ExitCode.REFUSED)
        # Admitted first: a crash in between leaves a letter that can be requeued again and is then a duplicate.
        admission = store.admit([arrival])[0]
        if admission.verdict == "dead":
            raise CommandError(f"dead letter {letter_id} is still refused: {admission.reason}", ExitCode.REFUSED)
        with store.write() as connection:
            mark_requeued(connection, letter_id, by=by or getpass.getuser(), at=store.now())
    if as_json:
        say_json({"schema": 1, "id": admission.job_id, "verdict": admission.verdict})
    else:
        say(admission.job_id or "")


def _letter(store: Any, letter_id: int) -> dict[str, Any]:
    from statemachine.store.reading import dead_letter

    with store.read() as connection:
        row = dead_letter(connection, letter_id)
    if row is None:
        raise CommandError(f"there is no dead letter {letter_id}", ExitCode.UNKNOWN_JOB)
    return row


def _conflict(store: Any, arrival: Any) -> str | None:
    """Asked before, since the store would keep a second dead letter of the same bytes."""
    from statemachine.store.reading import jobs_by_id

    with store.read() as connection:
        known = jobs_by_id(connection, [arrival.job_id])
    if known and known[0]["payload_digest"] != arrival.events[0].payload_digest:
        return f"job {arrival.job_id} is known with another content (it is {known[0]['state']})"
    return None
