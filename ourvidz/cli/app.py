"""The tree of commands. Modules of commands import nothing slow; what they need they import when they run."""

from pathlib import Path
from typing import Annotated

import typer

from ourvidz._version import __version__
from ourvidz.cli import (
    acts,
    bench,
    config,
    database,
    deadletters,
    erase,
    export,
    history,
    inspect,
    jobs,
    models,
    processes,
    queues,
    report,
    search,
    submit,
    verify,
    watch,
    workers,
)
from ourvidz.cli.face import Verbose, face_of, say, with_verbose


def _version(wanted: bool) -> None:
    if wanted:
        say(f"ourvidz {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="ourvidz",
    help="Durable execution for generative media: queued requests become pictures, and none is ever lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(
    epilog="Examples: `ourvidz up` runs everything on this machine; `ourvidz jobs inspect 7f3a` tells one job's story."
)
def options(
    ctx: typer.Context,
    config_file: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file instead of ./ourvidz.toml.", metavar="FILE")
    ] = None,
    database_url: Annotated[
        str | None, typer.Option("--database-url", help="Short for --set database_url=URL.", metavar="URL")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="A setting for this run, before environment and file.", metavar="NAME=VALUE"),
    ] = None,
    verbose: Verbose = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Durable execution for generative media: queued requests become pictures, and none is ever lost."""
    face = face_of(ctx)
    face.config = config_file
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set wants NAME=VALUE, got {setting!r}")
        face.flags[name.strip().lower().replace("-", "_")] = value
    if database_url is not None:
        face.flags["database_url"] = database_url


jobs_app = typer.Typer(
    help="Submit jobs, look into them, cancel and retry them.", no_args_is_help=True, rich_markup_mode=None
)
for name, command in (
    ("submit", submit.submit),
    ("list", jobs.list_),
    ("search", search.search),
    ("inspect", inspect.inspect),
    ("why", inspect.why),
    ("watch", watch.watch),
    ("verify", verify.verify),
    ("rebuild", jobs.rebuild),
    ("cancel", acts.cancel),
    ("retry", acts.retry),
    ("export", export.export),
    ("erase", erase.erase),
):
    jobs_app.command(name)(with_verbose(command))
app.add_typer(jobs_app, name="jobs")

callbacks_app = typer.Typer(help="What receivers are told.", no_args_is_help=True, rich_markup_mode=None)
callbacks_app.command("resend")(with_verbose(acts.resend))
app.add_typer(callbacks_app, name="callbacks")

queues_app = typer.Typer(help="The queues, and pausing them.", no_args_is_help=True, rich_markup_mode=None)
for name, queue_command in (("list", queues.list_), ("pause", queues.pause), ("resume", queues.resume)):
    queues_app.command(name)(with_verbose(queue_command))
app.add_typer(queues_app, name="queues")

deadletters_app = typer.Typer(help="Payloads that could not become jobs.", no_args_is_help=True, rich_markup_mode=None)
for name, letter_command in (
    ("list", deadletters.list_),
    ("show", deadletters.show),
    ("requeue", deadletters.requeue),
):
    deadletters_app.command(name)(with_verbose(letter_command))
app.add_typer(deadletters_app, name="deadletters")

app.command("workers")(with_verbose(workers.workers))
app.command("report")(with_verbose(report.report))

models_app = typer.Typer(help="The models that workers load.", no_args_is_help=True, rich_markup_mode=None)
for name, model_command in (("list", models.list_), ("check", models.check), ("make-tiny", models.make_tiny)):
    models_app.command(name)(with_verbose(model_command))
app.add_typer(models_app, name="models")

db_app = typer.Typer(help="The database's tables.", no_args_is_help=True, rich_markup_mode=None)
for name, db_command in (("upgrade", database.upgrade), ("current", database.current), ("backup", database.backup)):
    db_app.command(name)(with_verbose(db_command))
app.add_typer(db_app, name="db")

history_app = typer.Typer(help="Old jobs, and their archives.", no_args_is_help=True, rich_markup_mode=None)
for name, history_command in (
    ("archive", history.archive),
    ("list", history.list_),
    ("inspect", history.inspect),
    ("check", history.check),
    ("views", history.views),
):
    history_app.command(name)(with_verbose(history_command))
app.add_typer(history_app, name="history")

config_app = typer.Typer(help="The settings.", no_args_is_help=True, rich_markup_mode=None)
for name, config_command in (("show", config.show), ("check", config.check)):
    config_app.command(name)(with_verbose(config_command))
app.add_typer(config_app, name="config")

bench_app = typer.Typer(help="Measurements.", no_args_is_help=True, rich_markup_mode=None)
bench_app.command("history")(with_verbose(bench.history))
app.add_typer(bench_app, name="bench")

for name, process_command in (
    ("up", processes.up),
    ("ingress", processes.ingress),
    ("worker", processes.worker),
    ("supervisor", processes.supervisor),
    ("demo", processes.demo),
):
    app.command(name)(with_verbose(process_command))
