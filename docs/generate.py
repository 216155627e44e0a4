"""The parts of the documentation that follow from the code: `python -m docs.generate` writes them, a test compares.

They stand between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec
from sqlalchemy import Table, create_mock_engine

from docs import answers
from docs.columns import COLUMNS, TABLES
from statemachine.events import KINDS, Event
from statemachine.states import LIVE, State
from statemachine.store.schema import metadata
from statemachine.store.views import declared
from statemachine.table import TABLE, diagram

ROOT: Final = Path(__file__).parent.parent
WORDS: Final[dict[Any, str]] = {str: "text", int: "integer", float: "number", bool: "true or false"}
DIALECTS: Final = [create_mock_engine(url, None).dialect for url in ("sqlite://", "postgresql+psycopg://")]
PAGES: Final = ("README.md", "docs/architecture.md", "docs/events.md")


def state_diagram() -> str:
    """The transition table as a diagram that GitHub and others draw."""
    return f"```mermaid\n{diagram()}\n```"


def events() -> str:
    """Every kind: what it says, where it may happen, its fields."""
    return "\n\n".join(_event(KINDS[kind]) for kind in dict.fromkeys(event.kind for event, _, _ in TABLE))


def tables() -> str:
    """Every table or view and its columns. Raises KeyError for one that `docs/columns.py` does not explain."""
    known = {**metadata.tables, **declared.tables}
    return "\n\n".join(_table(known[name]) for name in TABLES)


def fill(text: str) -> str:
    """The text with every generated part made anew. Raises KeyError for a name that is none."""
    makers: dict[str, Callable[[], str]] = {"state diagram": state_diagram, "events": events, "tables": tables}

    def part(found: re.Match[str]) -> str:
        return f"<!-- generated: {found[1]} -->\n{makers[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- generated: ([a-z ]+) -->\n.*?<!-- end -->", part, text, flags=re.DOTALL)


def _event(event: type[Event]) -> str:
    hints = get_type_hints(event)
    lines = [f"### `{event.kind}`", "", " ".join((event.__doc__ or "").split()), "", _where(event), ""]
    fields = msgspec.structs.fields(event)
    if not fields:
        return "\n".join([*lines, "No fields."])
    lines += ["| Field | Type | When absent |", "|---|---|---|"]
    for field in fields:
        lines.append(f"| `{field.encode_name}` | {_type(hints[field.name])} | {_default(field, hints[field.name])} |")
    return "\n".join(lines)


def _where(event: type[Event]) -> str:
    """In which states it may happen, and where it leads."""
    moves: dict[State, list[State]] = {}
    for kind, source, target in TABLE:
        if kind is event:
            moves.setdefault(source, []).append(target)
    by_targets: dict[tuple[State, ...] | None, list[State]] = {}
    for source, targets in moves.items():
        by_targets.setdefault(None if targets == [source] else tuple(targets), []).append(source)
    said = []
    for leads_to, sources in by_targets.items():
        here = "every live state" if set(sources) == set(LIVE) else _names(sources)
        there = "stays there" if leads_to is None else f"leads to {_names(leads_to)}"
        said.append(f"In {here}: {there}.")
    return " ".join(said)


def _names(states: Any) -> str:
    *most, last = [f"`{state}`" for state in states]
    return f"{', '.join(most)} or {last}" if most else last


def _type(hint: Any) -> str:
    """The JSON type, as people say it."""
    inside = [part for part in get_args(hint) if part is not type(None)]
    match get_origin(hint):
        case None:
            return WORDS[hint]
        case kind if kind is list:
            return f"list of {_type(inside[0])}s"
        case kind if kind is dict:
            return "object" if inside[1] is Any else f"object of {_type(inside[1])}s"
        case _:
            return _type(inside[0])  # or null, which stands in the next column


def _default(field: msgspec.structs.FieldInfo, hint: Any) -> str:
    if field.required:
        return "always there, may be null" if type(None) in get_args(hint) else "always there"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return "unknown, or does not apply" if value is None else f"`{msgspec.json.encode(value).decode()}`"


def _table(table: Table) -> str:
    lines = [
        f"### `{table.name}`",
        "",
        TABLES[table.name],
        "",
        "| Column | SQLite | PostgreSQL | Meaning |",
        "|---|---|---|---|",
    ]
    for column in table.columns:
        types = [column.type.compile(dialect=dialect) for dialect in DIALECTS]
        types = [
            re.sub(r" COLLATE \S+", "", kind).lower().replace("timestamp with time zone", "timestamptz")
            for kind in types
        ]
        null = "" if column.nullable or column.primary_key else " not null"
        key = ", key" if column.primary_key else ""
        lines.append(
            f"| `{column.name}`{key} | {types[0]}{null} | {types[1]}{null} | {COLUMNS[table.name][column.name]} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write the generated parts anew."""
    for name in PAGES:
        page = ROOT / name
        page.write_text(fill(page.read_text("utf-8")), "utf-8")
    answers.main()


if __name__ == "__main__":
    main()
