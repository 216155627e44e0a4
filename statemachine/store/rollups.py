"""The tables of the daily rollups, and the views `daily_*` that are always right.

A day (in UTC) is rolled up when it is over. `rollup_state` says where the days begin that are not; a row in
`rollup_marks` says that something of a rolled-up day has changed since. What both name is counted anew by the views,
everything else is read from the rollups.
"""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Column, Connection, Integer, Table, Text, event

from statemachine.store.facts import FACTS, Fact, summed
from statemachine.store.schema import Serial, Utc, metadata
from statemachine.store.views import view

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 12, 31, tzinfo=UTC)

rollup_state: Final = Table(
    "rollup_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("open_from", Utc, nullable=False),
    Column("open_until", Utc, nullable=False),
    Column("sealed_until", Utc, nullable=False),
)
"""One row. Days before `open_from` are rolled up; those before `sealed_until` never change again."""

rollup_marks: Final = Table(
    "rollup_marks",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("begins", Utc, nullable=False),
    Column("ends", Utc, nullable=False),
)
"""A row of its own for each write, so that who rolls a day again takes away no more than what he has seen."""


@event.listens_for(rollup_state, "after_create")
def _nothing_is_rolled_up(_table: Table, connection: Connection, **_: Any) -> None:
    state = {"id": 1, "open_from": BEGINNING, "open_until": END, "sealed_until": BEGINNING}
    connection.execute(rollup_state.insert(), state)


rollup_spans: Final = view(
    "rollup_spans",
    {"begins": Utc, "ends": Utc},
    """SELECT open_from AS begins, open_until AS ends FROM rollup_state
UNION ALL
SELECT DISTINCT rollup_marks.begins, rollup_marks.ends FROM rollup_marks JOIN rollup_state
  ON rollup_marks.begins >= rollup_state.sealed_until AND rollup_marks.begins < rollup_state.open_from""",
)


def _rollup(fact: Fact) -> Table:
    columns = {**fact.keys, **fact.sums}
    table = Table(
        f"rollup_{fact.name}",
        metadata,
        Column("day", Text, nullable=False, index=True),
        *(Column(name, kind, nullable=name in fact.keys) for name, kind in columns.items()),
    )
    names = ", ".join(["day", *columns])
    view(
        f"daily_{fact.name}",
        {"day": Text, **columns},
        f"SELECT {names}\nFROM rollup_{fact.name}\n"  # noqa: S608  # our names
        "WHERE day NOT IN (SELECT DAY(rollup_spans.begins) FROM rollup_spans)\nUNION ALL\n"
        + summed(fact, "rollup_spans", keys=list(fact.keys), moment="DAY(facts.at) AS day"),
    )
    return table


ROLLUPS: Final[dict[Fact, Table]] = {fact: _rollup(fact) for fact in FACTS}
