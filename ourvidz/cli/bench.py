"""`bench history`."""

import os
from typing import Annotated

import typer

from ourvidz.cli.choosing import Json
from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import explaining_url, face_of, note, say, say_json
from ourvidz.cli.progress import bar
from ourvidz.exit_codes import ExitCode


def history(
    ctx: typer.Context,
    jobs: Annotated[int, typer.Option(help="Finished jobs of the year.", min=1, max=10_000_000)] = 20_000,
    days: Annotated[int, typer.Option(help="Days that it lasts.", min=3, max=3650)] = 365,
    queued: Annotated[int, typer.Option(help="Jobs that wait, beside them.", min=0, max=1_000_000)] = 0,
    users: Annotated[int, typer.Option(help="Users whose jobs wait.", min=1, max=100_000)] = 1_000,
    samples: Annotated[
        int, typer.Option(help="How often what is asked most is asked. 0 measures nothing.", min=0, max=100_000)
    ] = 300,
    seed: Annotated[int, typer.Option(help="The same seed makes the same year.", min=0)] = 1,
    processes: Annotated[
        int | None, typer.Option(help="Processes that make it; by default one a core.", min=1, show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a year of false jobs in a database of its own, and measure what looking into it takes.

    The database must be empty, or hold nothing but such jobs; what is there already is not made again. The jobs come
    from `bench`, and their chains and projections are what workers would have left.

    \b
    Example:
        ourvidz --database-url sqlite:///year.sqlite bench history --jobs 1000 --days 10
    """
    face = face_of(ctx)
    url = face.database_url()
    with explaining_url(url):
        from ourvidz.bench.ground import NotOurs, prepare

        try:
            prepare(url)
        except NotOurs as refused:
            raise CommandError(str(refused), ExitCode.REFUSED) from refused
    from ourvidz.bench import history as bench
    from ourvidz.bench import telling

    wanted = bench.Wanted(
        jobs=jobs,
        days=days,
        queued=queued,
        users=users,
        seed=seed,
        processes=processes or os.cpu_count() or 1,
        samples=samples,
    )
    with face.store() as store:
        with bar("loading", jobs + queued) as done:
            made = bench.make(store, url, wanted, tell=done)
        told = telling.document(made, bench.measure(store, url, wanted, tell=note))
    if as_json:
        say_json(told)
        return
    for sentence in telling.sentences(told):
        say(sentence)
    if told["questions"]:
        face.show(telling.table(told))
