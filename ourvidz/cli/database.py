"""`db upgrade`, `db current` and `db backup`."""

from pathlib import Path
from typing import Annotated

import typer

from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import explaining_url, face_of, note, say, sqlite_file
from ourvidz.cli.targets import check_target
from ourvidz.exit_codes import ExitCode
from ourvidz.masking import mask
from ourvidz.wording import size


def upgrade(ctx: typer.Context) -> None:
    """Bring the database's tables to this version; makes them where there are none. Safe to run twice.

    \b
    Example:
        ourvidz db upgrade
    """
    url = face_of(ctx).database_url()
    with explaining_url(url):
        from ourvidz.migrate import upgrade as run

        before, after = run(url)
    if before == after:
        say(f"{mask(url)} is at {after} already")
    else:
        say(f"{mask(url)}: {before or 'nothing'} → {after}")


def current(ctx: typer.Context) -> None:
    """Show the version of the database's tables and the one that this program wants.

    \b
    Example:
        ourvidz db current
    """
    url = face_of(ctx).database_url()
    file = sqlite_file(url)
    found = oldest = None
    if file is None or file.exists():
        with explaining_url(url):
            from ourvidz.migrate import current as ask

            found, oldest = ask(url)
    from statemachine.store.schema_version import REQUIRED, refuse

    say(found or "none")
    refuse(found, oldest)
    note("that is what this program wants" if found == REQUIRED else f"this program wants {REQUIRED}, and this will do")


def backup(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="The copy; it must not be there yet.", metavar="FILE", show_default=False)
    ],
) -> None:
    """Copy a SQLite database as it is at this moment, while the service runs. A PostgreSQL is copied by its own tools.

    \b
    Example:
        ourvidz db backup "ourvidz-$(date +%Y%m%d).sqlite"
    """
    url = face_of(ctx).database_url()
    source = sqlite_file(url)
    if source is None:
        raise CommandError("a PostgreSQL is backed up by pg_dump: see docs/backup.md", ExitCode.USAGE)
    if not source.exists():
        raise CommandError(f"there is no database at {source} yet", ExitCode.OLD_SCHEMA)
    check_target(file)
    import sqlite3

    from ourvidz.backup import CopyDamaged, back_up

    try:
        back_up(source, file)
    except (CopyDamaged, sqlite3.Error) as error:
        raise CommandError(f"{file} was not written: {error}") from error
    say(f"{file}: {size(file.stat().st_size)}")
