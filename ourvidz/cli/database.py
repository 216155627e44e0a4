"""`db upgrade` and `db current`."""

import typer

from ourvidz.cli.face import explaining_url, face_of, note, say, sqlite_file
from ourvidz.masking import mask


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
