"""`jobs export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ourvidz.cli.choosing import Json
from ourvidz.cli.face import face_of, note, say, say_json
from ourvidz.cli.inspect import JobId
from ourvidz.cli.targets import check_target

if TYPE_CHECKING:
    from ourvidz.exporting import Exported


def export(
    ctx: typer.Context,
    job_id: JobId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Instead of ID.zip here.", metavar="FILE", show_default=False)
    ] = None,
    without_personal: Annotated[
        bool,
        typer.Option("--without-personal", help="Leave out what a person wrote and what was made of it: for support."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write one job into a ZIP file: its history, its payload, its pictures and videos, and a program to check them.

    It is a person's: only you can read the file. Files that storage does not have are named, and are no error.

    \b
    Example:
        ourvidz jobs export 7f3a --output heron.zip
        ourvidz jobs export 90bc --without-personal --output for-support.zip
    """
    from ourvidz import exporting, wiring
    from ourvidz.inspect.document import document
    from ourvidz.inspect.reading import situation_of
    from statemachine.store.reading import personal

    if output is not None:
        check_target(output)
    face = face_of(ctx)
    bucket = None if without_personal else wiring.storage(face.settings())
    with face.store() as store:
        situation = situation_of(store, job_id, spool_grace=face.spool_grace())
        with store.read() as connection:
            raw, content = personal(connection, situation.job.id)
    story = exporting.Story(
        document=document(situation),
        history=situation.history,
        assets=situation.job.assets,
        raw=raw,
        content=content,
    )
    done = exporting.export(story, bucket, (output or Path(f"{situation.job.id}.zip")).absolute())
    if as_json:
        import msgspec

        say_json({"schema": 1, "id": situation.job.id, **msgspec.to_builtins(done)})
    else:
        _tell(done)


def _tell(done: "Exported") -> None:
    from ourvidz.masking import mask
    from ourvidz.wording import plural

    say(done.file)
    note(f"{plural(done.events, 'event')}, {plural(len(done.assets), 'file')}")
    for one in done.missing:
        note(mask(f"missing: {one.key}: {one.why}"))
    if done.personal:
        note("it holds personal content; --without-personal leaves that out")
