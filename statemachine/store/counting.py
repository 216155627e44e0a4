"""Sums of facts over any span: whole days by the `daily_*` views, the rest by counting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, text

from statemachine.store.facts import Fact, added, summed
from statemachine.store.rolling import DAY, midnight
from statemachine.store.rollups import rollup_state
from statemachine.store.schema import Row, Utc
from statemachine.store.views import worded

_MOMENTS: Final = {"day": "DAY(facts.at) AS day", "hour": "HOUR(facts.at) AS hour"}


@dataclass(frozen=True)
class Count:
    """What is to be counted: a fact from `begins` until before `ends`, by `moment` (day, hour or none) and `keys`.

    `only` are the values that keys must have, null included. Days and hours are UTC, as text: `2026-07-05`,
    `2026-07-05 14:00`.
    """

    fact: Fact
    begins: datetime
    ends: datetime
    keys: Sequence[str]
    moment: str | None = None
    only: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether rollups answer it, and so over any number of days; else it is counted job by job."""
        return self.moment != "hour" and {*self.keys, *self.only} <= self.fact.keys.keys()

    @property
    def groups(self) -> list[str]:
        """The names of what it is counted by."""
        return [*([self.moment] if self.moment else []), *self.keys]


def sealed_until(connection: Connection) -> datetime:
    """Jobs that ended before this may have been archived: only whole days of then are known."""
    sealed: datetime = connection.execute(select(rollup_state.c.sealed_until)).scalar_one()
    return sealed


def whole_days(begins: datetime, ends: datetime) -> tuple[datetime, datetime]:
    """The midnights between which whole days lie, read from rollups; the second is not later where there is none."""
    return midnight(begins + DAY - timedelta(microseconds=1)), midnight(ends)


def counted(connection: Connection, wanted: Count) -> list[Row]:
    """The sums of the fact, a row for each group of which there is something."""
    statement, values = _statement(wanted)
    first_sum = next(iter(wanted.fact.sums))
    return [row for row in _run(connection, statement, values) if row[first_sum] is not None]


def spread(connection: Connection, wanted: Count, *, over: str, of: str) -> list[Row]:
    """How the sum `of` is spread over the values of the key `over`: `number` of those that have some, `most` of one."""
    inner, values = _statement(wanted)
    groups = [group for group in wanted.groups if group != over]
    told = ", ".join(
        [*groups, "COUNT(*) AS number", f"COALESCE(CAST(SUM({of}) AS BIGINT), 0) AS {of}", f"MAX({of}) AS most"]
    )
    return _run(connection, f"SELECT {told} FROM (\n{inner}\n) AS each_one WHERE {of} > 0{_by(groups)}", values)  # noqa: S608


def _statement(wanted: Count) -> tuple[str, dict[str, Any]]:
    fact, groups = wanted.fact, wanted.groups
    first, last = whole_days(wanted.begins, wanted.ends)
    values: dict[str, Any] = {f"only_{name}": value for name, value in wanted.only.items() if value is not None}
    conditions = [
        f"{name} IS NULL" if value is None else f"{name} = :only_{name}" for name, value in wanted.only.items()
    ]
    edges, parts = [(wanted.begins, wanted.ends)], []
    if wanted.kept and first < last:
        edges = [(begin, end) for begin, end in ((wanted.begins, first), (last, wanted.ends)) if begin < end]
        where = " AND ".join(["day >= :first_day", "day < :last_day", *conditions])
        days = f"SELECT {', '.join([*groups, *added(fact, f'daily_{fact.name}')])} FROM daily_{fact.name}"  # noqa: S608
        parts.append(f"{days}\nWHERE {where}{_by(groups)}")
        values |= {"first_day": f"{first:%Y-%m-%d}", "last_day": f"{last:%Y-%m-%d}"}
    if edges:
        spans = " UNION ALL ".join(f"SELECT :begins_{n} AS begins, :ends_{n} AS ends" for n in range(len(edges)))
        moment = _MOMENTS[wanted.moment] if wanted.moment else None
        parts.append(summed(fact, f"({spans})", keys=wanted.keys, moment=moment, where=conditions))
        for number, (begin, end) in enumerate(edges):
            values |= {f"begins_{number}": begin, f"ends_{number}": end}
    if len(parts) == 1:
        return parts[0], values
    both = "\nUNION ALL\n".join(parts)
    return f"SELECT {', '.join([*groups, *added(fact, 'parts')])} FROM (\n{both}\n) AS parts{_by(groups)}", values  # noqa: S608


def _run(connection: Connection, statement: str, values: dict[str, Any]) -> list[Row]:
    said = worded(statement, connection.dialect.name).replace("':00'", r"'\:00'")  # which is no parameter
    times = [bindparam(name, type_=Utc) for name, value in values.items() if isinstance(value, datetime)]
    return [dict(row) for row in connection.execute(text(said).bindparams(*times), values).mappings()]


def _by(groups: Sequence[str]) -> str:
    return f" GROUP BY {', '.join(groups)}" if groups else ""
