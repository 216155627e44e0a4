"""`workers`: who is there to work."""

from typing import Annotated

import typer

from ourvidz.cli.face import face_of, note, say_json


def workers(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those that are gone, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A document for programs.")] = False,
) -> None:
    """List the workers: state, host, device, models, when last heard, engine.

    \b
    Example:
        ourvidz workers --all
    """
    face = face_of(ctx)
    with face.store() as store:
        from ourvidz.cli.tables import workers_table
        from ourvidz.documents import row_document
        from ourvidz.inspect.situation import is_alive
        from statemachine.store.reading import list_workers

        now = store.now()
        with store.read() as connection:
            rows = list_workers(connection)
    shown = [row for row in rows if every or is_alive(row, now)]
    if as_json:
        told = [row_document({"alive": is_alive(row, now), **row}) for row in shown]
        say_json({"schema": 1, "now": now.isoformat(), "workers": told})
    elif shown:
        face.show(workers_table(shown, now))
    else:
        gone = f"; {len(rows)} were seen before (--all)" if rows else ""
        note(f"no worker is running: `ourvidz up` or `ourvidz worker` starts one{gone}")
