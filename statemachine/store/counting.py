"""Sums of facts over any span: whole days by the `daily_*` views, the rest by counting."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, select, text

from statemachine.store.facts import Fact, added, summed
from statemachine.store.rolling import DAY, midnight
from statemachine.store.rollups import rollup_state
from statemachine.store.schema import Row, Utc
from statemachine.store.views import worded

_MOMENTS: Final = {"day": "DAY(facts.at) AS day", "hour": "HOUR(facts.at) AS hour"}


def kept(fact: Fact, keys: Sequence[str], moment: str | None) -> bool:
    """Whether rollups answer this, and so over any number of days; else it is counted job by job."""
    return moment != "hour" and set(keys) <= fact.keys.keys()


def sealed_until(connection: Connection) -> datetime:
    """Jobs that ended before this may have been archived: only whole days of then are known."""
    sealed: datetime = connection.execute(select(rollup_state.c.sealed_until)).scalar_one()
    return sealed


def counted(
    connection: Connection, fact: Fact, begins: datetime, ends: datetime, *, keys: Sequence[str], moment: str | None
) -> list[Row]:
    """The sums of `fact` from `begins` until before `ends`, by `moment` (day, hour or none) and `keys`.

    Days and hours are UTC, as text: `2026-07-05`, `2026-07-05 14:00`. What there is nothing of has no row.
    """
    first, last = midnight(begins + DAY - timedelta(microseconds=1)), midnight(ends)
    groups = [*([moment] if moment else []), *keys]
    if kept(fact, keys, moment) and first < last:
        edges = [(begin, end) for begin, end in ((begins, first), (last, ends)) if begin < end]
        days = f"SELECT {', '.join([*groups, *added(fact, f'daily_{fact.name}')])} FROM daily_{fact.name}\n"  # noqa: S608
        parts = [days + "WHERE day >= :first AND day < :last" + _by(groups)]
    else:
        edges, parts = [(begins, ends)], []
    if edges:
        spans = " UNION ALL ".join(f"SELECT :begins_{n} AS begins, :ends_{n} AS ends" for n in range(len(edges)))
        parts.append(summed(fact, f"({spans})", keys=keys, moment=_MOMENTS[moment] if moment else None))
    both = "\nUNION ALL\n".join(parts)
    told = f"SELECT {', '.join([*groups, *added(fact, 'parts')])} FROM (\n{both}\n) AS parts{_by(groups)}"  # noqa: S608
    times = {f"begins_{n}": begin for n, (begin, _) in enumerate(edges)}
    times |= {f"ends_{n}": end for n, (_, end) in enumerate(edges)}
    said = worded(told, connection.dialect.name).replace("':00'", r"'\:00'")  # which is no parameter
    statement = text(said).bindparams(*(bindparam(name, type_=Utc) for name in times))
    whole = {"first": f"{first:%Y-%m-%d}", "last": f"{last:%Y-%m-%d}"} if len(parts) > bool(edges) else {}
    rows = [dict(row) for row in connection.execute(statement, times | whole).mappings()]
    return [row for row in rows if row[next(iter(fact.sums))] is not None]


def _by(groups: Sequence[str]) -> str:
    return f" GROUP BY {', '.join(groups)}" if groups else ""
