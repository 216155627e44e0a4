"""`report`."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import face_of, note, say, say_json
from ourvidz.cli.progress import bar
from ourvidz.cli.targets import check_target
from ourvidz.cli.times import parse_time
from ourvidz.exit_codes import ExitCode
from ourvidz.reports.names import By, Report, Theme

if TYPE_CHECKING:
    from ourvidz.reports.span import Span
    from statemachine.store import EventStore


class Format(StrEnum):
    """How it is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def report(
    ctx: typer.Context,
    which: Annotated[
        Report, typer.Argument(help=", ".join(one.value for one in Report), metavar="REPORT", show_default=False)
    ],
    since: Annotated[
        str, typer.Option(help="From then on: 30d, 4w (from midnight UTC), 12h, or an ISO time (UTC).", metavar="T")
    ] = "30d",
    until: Annotated[
        str | None, typer.Option(help="Until before then, in the same forms; until now when not given.", metavar="T")
    ] = None,
    by: Annotated[
        By | None,
        typer.Option(help="What to have a line for each of; each report has its own else.", metavar="|".join(By)),
    ] = None,
    output: Annotated[
        Format, typer.Option("--format", help="For people, or for programs.", metavar="|".join(Format))
    ] = Format.TABLE,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it as well, into this file: .png or .svg.", metavar="FILE")
    ] = None,
    theme: Annotated[
        Theme | None,
        typer.Option(help="The ground that it is drawn for.", metavar="|".join(Theme), show_default="light"),
    ] = None,
) -> None:
    """Tell what all jobs together did: throughput, latency, failures, retries, workers, users, models, callbacks, cost.

    Days are those of UTC. Any span is answered from daily rollups, which are brought up to date first; by hour, and
    where rollups do not know what is asked, jobs are counted one by one, over at most 31 days at once.

    \b
    Example:
        ourvidz report throughput
        ourvidz report latency --since 7d --by type --plot latency.png
        ourvidz report failures --since 2026-07-01 --until 2026-08-01 --by day --format csv
    """
    face = face_of(ctx)
    if plot is not None and plot.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"--plot wants a file that ends in .png or .svg, got {plot}")
    if plot is not None:
        check_target(plot)
    elif theme is not None:
        raise typer.BadParameter("--theme says how --plot draws: give both")
    with face.store() as store:
        from ourvidz.reports.catalogue import ask
        from ourvidz.reports.span import Unanswerable

        now = store.now()
        span = _span(since, until, now)
        if by is not By.HOUR and span.whole_days:
            _bring_up_to_date(store, now)
        try:
            with store.read() as connection:
                answer = ask(connection, which, span, by)
        except Unanswerable as no:
            raise CommandError(str(no), ExitCode.USAGE) from no
    match output:
        case Format.JSON:
            from ourvidz.reports.data import document

            say_json(document(answer))
        case Format.CSV:
            from ourvidz.reports.data import as_csv

            say(as_csv(answer).rstrip("\n"))
        case Format.TABLE:
            from ourvidz.reports.table import render

            face.show(*render(answer, width=face.console().width))
    if plot is not None:
        from ourvidz.reports.plots.drawing import draw

        try:
            draw(answer, plot, theme or Theme.LIGHT)
        except ModuleNotFoundError as error:
            raise CommandError(f"--plot needs the package {error.name}: pip install 'ourvidz[reports]'") from error
        note(f"drawn into {plot}")


def _span(since: str, until: str | None, now: datetime) -> "Span":
    from ourvidz.reports.span import Span

    begins, ends = _moment(since, now), now if until is None else _moment(until, now)
    if begins >= ends:
        raise typer.BadParameter(f"--since {since} is not before {'now' if until is None else f'--until {until}'}")
    return Span(begins, ends)


def _moment(text: str, now: datetime) -> datetime:
    """As elsewhere, but days and weeks ago begin at midnight: what is told by day is told of whole ones."""
    moment = parse_time(text, now)
    assert moment is not None
    if re.fullmatch(r"\d+\s*[dw](\s*ago)?", text.strip()):
        moment = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return moment


def _bring_up_to_date(store: "EventStore", now: datetime) -> None:
    from statemachine.errors import NotAllowed, StoreAway
    from statemachine.store.rolling import due, roll

    with store.read() as connection:
        days = len(due(connection, now))
    if days == 0:
        return
    try:
        with bar("rolling up days", days) as done:
            for number, _ in enumerate(roll(store.engine, now), start=1):
                done(number)
    except (NotAllowed, StoreAway) as error:  # a user or a server for reading only: what is not rolled up is counted
        note(f"not rolled up: {error}")
