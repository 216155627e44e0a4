"""What every command shares: the global options, the settings, the store, and how to print."""

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ourvidz import layers
from ourvidz.layers import SettingsError
from ourvidz.masking import mask
from ourvidz.wording import escaped
from statemachine.errors import SchemaMismatch

if TYPE_CHECKING:  # each of these costs 0.1 to 0.3 s, and `--help` needs none of them
    from rich.console import Console, RenderableType

    from ourvidz.settings import Settings
    from statemachine.store import EventStore

_SQLITE = b"SQLite format 3\0"
PIPED_WIDTH = 140
"""Columns where there is no terminal and COLUMNS says nothing."""


@dataclass
class Face:
    """One run of the program, as its global options describe it."""

    verbose: bool = False
    config: Path | None = None
    flags: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> "Settings":
        """All settings, checked. Raises SettingsError."""
        from ourvidz.settings import load

        return load(self.flags, config=self.config)

    def database_url(self) -> str:
        """The one setting that most commands need, without the cost of checking the others."""
        return layers.database_url(layers.gather(self.flags, config=self.config))

    def spool_grace(self) -> float:
        """What workers with these settings wait for the host that has a job's files. Raises SettingsError."""
        return layers.spool_grace(layers.gather(self.flags, config=self.config))

    @contextmanager
    def store(self) -> Iterator["EventStore"]:
        """The event store, its schema checked. Raises SettingsError, StoreAway, SchemaMismatch."""
        url = self.database_url()
        file = sqlite_file(url)
        if file is not None and not file.exists():
            raise SchemaMismatch(f"there is no database at {file} yet: run `ourvidz db upgrade`, or `ourvidz up`")
        from statemachine.store import open_store

        with explaining_url(url):
            store = open_store(url)
        try:
            store.check_schema()
            yield store
        finally:
            store.close()

    def console(self) -> "Console":
        """Stdout with colours on a terminal, unless NO_COLOR is set."""
        from rich.console import Console

        width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
        return Console(highlight=False, markup=False, emoji=False, soft_wrap=False, width=width)

    def show(self, *parts: "RenderableType") -> None:
        """Print for people."""
        console = self.console()
        for part in parts:
            console.print(part)


@contextmanager
def explaining_url(url: str) -> Iterator[None]:
    """Turn what a wrong database URL provokes into one sentence."""
    file = sqlite_file(url)
    if file is not None and file.exists() and not _is_database(file):
        raise SettingsError(f"database_url: {file} is no SQLite database")
    try:
        yield
    except ValueError as error:
        raise SettingsError(mask(str(error))) from error
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"database_url: {mask(url)} needs the package {error.name}: pip install 'ourvidz[postgres]'"
        ) from error


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for other databases."""
    scheme, _, path = url.partition(":///")
    return Path(path.partition("?")[0]) if scheme.split("+")[0] == "sqlite" and path else None


def _is_database(file: Path) -> bool:
    """An empty file is one without tables."""
    with file.open("rb") as opened:
        return opened.read(len(_SQLITE)) in (b"", _SQLITE)


def face_of(ctx: typer.Context) -> Face:
    """The face that `main` made for this run."""
    face: Face = ctx.find_root().obj
    return face


def say(text: str) -> None:
    """One plain line on stdout."""
    print(text)  # noqa: T201  # this is the command line


def note(text: str) -> None:
    """One plain line on stderr, for people who watch."""
    print(text, file=sys.stderr)  # noqa: T201  # this is the command line


def say_json(document: Any, *, indent: int | None = 2) -> None:
    """A document for programs; nothing foreign in it steers the terminal of a person who looks at it."""
    say(escaped(json.dumps(document, ensure_ascii=False, indent=indent)))


def _verbose(ctx: typer.Context, value: bool) -> None:
    if value:
        face_of(ctx).verbose = True


Verbose = Annotated[bool, typer.Option("--verbose", "-v", callback=_verbose, help="With an error, show its traceback.")]


def with_verbose(command: Callable[..., None]) -> Callable[..., None]:
    """The command with `-v`, so that it is understood wherever it stands and not only before the command's name."""

    @functools.wraps(command)
    def run(*args: Any, verbose: bool, **kwargs: Any) -> None:
        command(*args, **kwargs)

    signature = inspect.signature(command)
    parameter = inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Verbose)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), parameter])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "verbose": Verbose}
    return run
