"""The generated parts of the documentation: `python -m ourvidz.reference` writes them, a test compares.

They stand between `<!-- generated: NAME -->` and `<!-- end -->` in the pages of docs/ that `PAGES` names.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import typer

from ourvidz.cli.app import app
from ourvidz.exit_codes import MEANINGS
from ourvidz.inspect.anomalies import KINDS
from ourvidz.inspect.why import REASONS
from ourvidz.layers import FROM_FILES, NAMES, variable
from ourvidz.settings import Settings, wanted

PAGES: Final = ("configuration.md", "cli.md", "inspecting.md")

_DERIVED: Final = {
    "database_url": "`ourvidz.sqlite` in `data_dir`",
    "storage_url": "`storage` in `data_dir`",
    "spool_dir": "`spool` in `data_dir`",
    "callback_url": "from `SUPABASE_URL`, else nobody is told",
    "redis_url": "from `UPSTASH_REDIS_REST_URL` and `_TOKEN`; else `ourvidz up` starts its own",
}


def settings_table() -> str:
    """Every setting: its variable, what it is for, what it allows, its default."""
    lines = ["| Variable | In the file | What for | Allowed | Default |", "|---|---|---|---|---|"]
    for name in NAMES:
        field = Settings.model_fields[name]
        value = field.default
        plain = (
            str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
        )
        default = _DERIVED.get(name) or ("–" if value is None or value == "" else f"`{plain}`")
        also = ", `_FILE`" if name in FROM_FILES else ""
        cells = [f"`{variable(name)}`{also}", f"`{name}`", field.description or "", wanted(field), default]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def exit_codes_table() -> str:
    """Every exit code and what it says."""
    return "\n".join(
        ["| Code | Means |", "|---|---|", *(f"| {int(code)} | {said} |" for code, said in MEANINGS.items())]
    )


def commands() -> Iterator[tuple[str, Callable[..., Any], Any]]:
    """Path, function and click command of every command, in the order of the help."""
    yield from _walk("ourvidz", typer.main.get_command(app))


def commands_text() -> str:
    """Every command with its arguments, options and example."""
    return "\n\n".join(_command(path, command) for path, _, command in commands())


def fill(text: str) -> str:
    """The text with every generated part made anew. Raises KeyError for a name that is none."""
    makers: dict[str, Callable[[], str]] = {
        "settings": settings_table,
        "exit codes": exit_codes_table,
        "commands": commands_text,
        "reasons": partial(_meanings, "Reason", REASONS),
        "anomalies": partial(_meanings, "Anomaly", KINDS),
    }

    def part(found: re.Match[str]) -> str:
        return f"<!-- generated: {found[1]} -->\n{makers[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- generated: ([a-z ]+) -->\n.*?<!-- end -->", part, text, flags=re.DOTALL)


def _meanings(name: str, meanings: Mapping[str, str]) -> str:
    """Names on which programs rely, and what each says."""
    return "\n".join([f"| {name} | Means |", "|---|---|", *(f"| `{one}` | {said} |" for one, said in meanings.items())])


def _walk(path: str, command: Any) -> Iterator[tuple[str, Callable[..., Any], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command.callback, command
        return
    for name, child in children.items():
        yield from _walk(f"{path} {name}", child)


def _command(path: str, command: Any) -> str:
    about, _, example = inspect.cleandoc(command.callback.__doc__ or "").partition("\b\nExample:\n")
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    usage = " ".join([path, *(param.metavar or param.name for param in arguments)])
    lines = [f"### `{usage}`", "", about.strip(), "", "```sh", inspect.cleandoc("\n" + example), "```", ""]
    lines += [f"- `{param.metavar or param.name}`: {getattr(param, 'help', '') or ''}" for param in arguments]
    for param in command.params:
        if param.param_type_name == "option" and param.name not in ("verbose", "help"):
            metavar = "" if getattr(param, "is_flag", False) else f" {param.metavar or param.name.upper()}"
            lines.append(f"- `{', '.join(param.opts)}{metavar}`: {param.help}")
    return "\n".join(lines).strip()


def main() -> None:
    """Write the generated parts of docs/ anew."""
    for name in PAGES:
        file = Path(__file__).parent.parent / "docs" / name
        file.write_text(fill(file.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
