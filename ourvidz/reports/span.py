"""The time that a report is about."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ourvidz.reports.names import By
from statemachine.store.counting import whole_days

DAY: Final = timedelta(days=1)
COUNTED_DAYS: Final = 31
"""What rollups do not answer is counted job by job, over no more days than this."""
LISTED_DAYS: Final = 3660
"""A report by day has a line for each, of no more days than this."""


class Unanswerable(Exception):
    """The question cannot be answered so; the sentence says how it can."""


@dataclass(frozen=True)
class Span:
    """From `begins` until before `ends`, both aware."""

    begins: datetime
    ends: datetime

    @property
    def told(self) -> str:
        """`2026-07-05 to 2026-07-11` for whole days, with the times where they are none; UTC."""
        first, last = self.begins.astimezone(UTC), self.ends.astimezone(UTC)
        if _whole(first) and _whole(last):
            until = last - DAY
            return f"{first:%Y-%m-%d}" if until == first else f"{first:%Y-%m-%d} to {until:%Y-%m-%d}"
        begun = f"{first:%Y-%m-%d}" if _whole(first) else f"{first:%Y-%m-%d %H:%M}"
        same_day = first.date() == last.date()
        return f"{begun} to {last:%H:%M}" if same_day else f"{begun} to {last:%Y-%m-%d %H:%M}"

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.ends - self.begins).total_seconds()

    @property
    def whole_days(self) -> bool:
        """Whether a day lies in it from its midnight to the next: such a day is read from rollups."""
        first, last = whole_days(self.begins, self.ends)
        return first < last

    def moments(self, unit: str) -> list[str]:
        """Every day or hour in it, as facts name them."""
        first, step = self.begins.astimezone(UTC).replace(minute=0, second=0, microsecond=0), timedelta(hours=1)
        form = "%Y-%m-%d %H:00"
        if unit == By.DAY:
            first, step, form = first.replace(hour=0), DAY, "%Y-%m-%d"
        number = -((first - self.ends) // step)
        return [f"{first + step * n:{form}}" for n in range(number)]


def _whole(moment: datetime) -> bool:
    return moment == moment.replace(hour=0, minute=0, second=0, microsecond=0)
