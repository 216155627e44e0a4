"""`config show` and `config check`."""

from typing import Annotated

import typer

from ourvidz.cli.errors import CommandError
from ourvidz.cli.face import face_of, say_json
from ourvidz.exit_codes import ExitCode
from ourvidz.layers import NAMES

Json = Annotated[bool, typer.Option("--json", help="A document for programs.")]


def show(ctx: typer.Context, as_json: Json = False) -> None:
    """Show every setting, its value (secrets masked) and where that came from.

    \b
    Example:
        ourvidz config show
    """
    face = face_of(ctx)
    settings = face.settings()
    rows = [(name, settings.shown(name), settings.source(name)) for name in NAMES]
    if as_json:
        entries = [{"name": name, "value": value, "source": source} for name, value, source in rows]
        say_json({"schema": 1, "settings": entries})
        return
    from ourvidz.cli.tables import settings_table

    face.show(settings_table(rows))


def check(ctx: typer.Context, as_json: Json = False) -> None:
    """Try the settings: database, Redis, storage, folders, model, callback. Fails when something would not work.

    \b
    Example:
        ourvidz config check && ourvidz up
    """
    face = face_of(ctx)
    settings = face.settings()
    from ourvidz.checks import check_all

    findings = check_all(settings)
    if as_json:
        entries = [{"name": found.name, "level": found.level, "said": found.said} for found in findings]
        say_json({"schema": 1, "ok": all(found.level != "wrong" for found in findings), "checks": entries})
    else:
        from rich.text import Text

        styles = {"ok": "green", "warning": "yellow", "wrong": "red"}
        for found in findings:
            line = Text(f"{found.level:<8} ", style=styles[found.level])
            face.show(line.append(f"{found.name:<13} {found.said}", style="default"))
    wrong = [found for found in findings if found.level == "wrong"]
    if wrong:
        code = ExitCode.UNREACHABLE if all(found.unreachable for found in wrong) else ExitCode.WRONG_SETTING
        raise CommandError(f"{len(wrong)} of {len(findings)} checks found something wrong", code)
