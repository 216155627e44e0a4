"""Asking the database for sums of facts, within what it can answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from ourvidz.reports.answer import Answer, Row
from ourvidz.reports.columns import Column, name, user
from ourvidz.reports.names import By, Report
from ourvidz.reports.span import COUNTED_DAYS, DAY, LISTED_DAYS, Span, Unanswerable
from statemachine.store.counting import Count, counted, sealed_until, spread
from statemachine.store.facts import Fact
from statemachine.store.rolling import midnight


@dataclass(frozen=True)
class Asking:
    """One report over one span. Everything is read on the one snapshot of `connection`."""

    connection: Connection
    report: Report
    by: By | None
    span: Span

    def or_by(self, by: By) -> "tuple[Asking, By]":
        """The same, by what was asked for; by `by` where nothing was."""
        chosen = self.by or by
        return replace(self, by=chosen), chosen

    def sums(self, fact: Fact, *keys: str, **only: str | None) -> list[Row]:
        """The sums of the fact by what the report is by, and by `keys`. Raises Unanswerable."""
        return counted(self.connection, self._count(fact, keys, only))

    def spread(self, fact: Fact, *, over: str, of: str) -> list[Row]:
        """How the sum `of` is spread over the key `over`, by what the report is by. Raises Unanswerable."""
        return spread(self.connection, self._count(fact, [over], {}), over=over, of=of)

    def in_all(self) -> "Asking":
        """The same by nothing, for the last line."""
        return replace(self, by=None)

    def answer(
        self, about: str, keys: list[Column], values: list[Column], rows: Iterable[Row], totals: Row | None = None
    ) -> Answer:
        """The rows in their order: days and hours one after the other, anything else by the first value."""
        ordered = sorted(rows, key=lambda row: tuple(str(row[key.name] or "") for key in keys))
        if not (self.by and self.by.moment):
            ordered.sort(key=lambda row: -(row[values[0].name] or 0))
        return Answer(self.report, self.by, self.span, about, keys, values, ordered, totals)

    def line(self, by: By) -> Column:
        """The column that names what there is a line for each of."""
        return user(by.value) if by is By.USER else name(by.moment or by.key or "", by.value)

    def on_every_moment(self, rows: list[Row], nothing: Row) -> list[Row]:
        """With a row for each day or hour, also where nothing happened; unchanged where lines are no moments."""
        if self.by is None or self.by.moment is None or not rows:
            return rows
        known = {row[self.by.value]: row for row in rows}
        return [known.get(at, nothing | {self.by.value: at}) for at in self.span.moments(self.by.value)]

    def _count(self, fact: Fact, keys: Sequence[str], only: Mapping[str, str | None]) -> Count:
        moment, own = (self.by.moment, self.by.key) if self.by else (None, None)
        every = list(dict.fromkeys([*([own] if own else []), *keys]))
        wanted = Count(fact, self.span.begins, self.span.ends, every, moment, only)
        if not wanted.kept and self.span.ends - self.span.begins > DAY * COUNTED_DAYS:
            raise Unanswerable(
                f"{self.report} by {self.by} is counted job by job, over at most {COUNTED_DAYS} days at once: "
                "name a shorter span with --since and --until"
            )
        if self.by is By.DAY and self.span.ends - self.span.begins > DAY * LISTED_DAYS:
            raise Unanswerable(
                f"{self.report} by day has a line for each day, of at most {LISTED_DAYS:,} days at once: "
                "name a shorter span with --since and --until"
            )
        sealed = sealed_until(self.connection)
        for edge in (self.span.begins, self.span.ends):
            if edge < sealed and not (wanted.kept and edge == midnight(edge)):
                how = "for whole days only" if wanted.kept else "by day only, and not by hour or job"
                raise Unanswerable(
                    f"jobs that ended before {sealed:%Y-%m-%d} have been archived; what they did is known {how}"
                )
        return wanted


def added_up(rows: Iterable[Row], names: Sequence[str]) -> Row:
    """The sums of these columns over the rows."""
    kept_rows = list(rows)
    return {one: sum(row[one] or 0 for row in kept_rows) for one in names}


def by_keys(rows: Iterable[Row], keys: Sequence[str]) -> dict[tuple[object, ...], list[Row]]:
    """The rows that have the same values under `keys`, together."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def part(of: float | None, whole: float | None) -> float | None:
    """The share, or the mean; None of nothing."""
    return None if of is None or not whole else of / whole
