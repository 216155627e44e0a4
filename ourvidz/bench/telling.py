"""What was measured, for people and for programs."""

from collections.abc import Iterator
from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from ourvidz.bench.claiming import Claims
from ourvidz.bench.history import Made, Measured
from ourvidz.bench.timing import Times, percentile


def document(made: Made, measured: Measured) -> dict[str, Any]:
    """Schema 1."""
    found, claims, caught_up = measured.condition, measured.claims, made.caught_up
    return {
        "schema": 1,
        "loaded": {
            "jobs": made.loaded.jobs,
            "events": made.loaded.events,
            "there_before": made.loaded.there,
            "seconds": round(made.seconds, 1),
        },
        "caught_up": None
        if caught_up is None
        else {
            "days_rolled_up": caught_up.days,
            "rolling_seconds": round(caught_up.rolling_seconds, 1),
            "anchors": caught_up.anchors,
            "anchoring_seconds": round(caught_up.anchoring_seconds, 1),
        },
        "there": {
            "jobs": found.jobs,
            "waiting": found.waiting,
            "events": found.events,
            "bytes": found.bytes,
            "bytes_per_job": _each(found.bytes, found.jobs),
        },
        "sample": {"jobs": found.sampled, "findings": found.findings, "unequal": found.unequal},
        "questions": [{"question": asked.question, **_figures(asked.times)} for asked in measured.asked],
        "claims": None if claims is None else _claims(claims),
    }


def sentences(told: dict[str, Any]) -> Iterator[str]:
    """What is there and how it came there."""
    loaded, caught_up, there, sample = told["loaded"], told["caught_up"], told["there"], told["sample"]
    if loaded["jobs"]:
        before = f"; {loaded['there_before']:,} were there" if loaded["there_before"] else ""
        yield f"{loaded['jobs']:,} jobs with {loaded['events']:,} events loaded in {loaded['seconds']:,.0f} s{before}"
    if caught_up is not None:
        yield (
            f"{caught_up['days_rolled_up']} days rolled up in {caught_up['rolling_seconds']:,.0f} s, "
            f"{caught_up['anchors']:,} anchors written in {caught_up['anchoring_seconds']:,.0f} s"
        )
    yield (
        f"{there['jobs']:,} jobs are there, {there['waiting']:,} of them wait; {there['events']:,} events; "
        f"{there['bytes'] / 1e6:,.0f} MB, {there['bytes_per_job']:,} bytes a job"
    )
    yield (
        f"{sample['jobs']:,} of them were verified, with {len(sample['findings'])} findings, and rebuilt, with "
        f"{len(sample['unequal'])} that were not equal"
    )
    if told["claims"] is not None:
        yield _claimed(told["claims"])


def table(told: dict[str, Any]) -> Table:
    """The questions, one a line."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("question")
    for name in ("asked", "median", "p99", "database p99"):
        shown.add_column(name, justify="right")
    for row in told["questions"]:
        times = (row["median_ms"], row["p99_ms"], row["database_p99_ms"])
        shown.add_row(Text(row["question"]), str(row["asked"]), *(f"{ms:,.1f} ms" for ms in times))
    return shown


def _claimed(claims: dict[str, Any]) -> str:
    return (
        f"a claim takes {claims['median_ms']:.2f} ms, in an empty database {claims['median_empty_ms']:.2f} ms: "
        f"{claims['ratio']:.2f} times ({claims['rounds']} by turns, medians; p99 {claims['p99_ms']:.1f} and "
        f"{claims['p99_empty_ms']:.1f} ms)"
    )


def _claims(claims: Claims) -> dict[str, Any]:
    return {
        "rounds": len(claims.full),
        "median_ms": _ms(median(claims.full)),
        "median_empty_ms": _ms(median(claims.empty)),
        "p99_ms": _ms(percentile(claims.full, 0.99)),
        "p99_empty_ms": _ms(percentile(claims.empty, 0.99)),
        "ratio": round(median(claims.full) / median(claims.empty), 2),
    }


def _figures(times: Times) -> dict[str, Any]:
    return {
        "asked": len(times.whole),
        "median_ms": _ms(median(times.whole)),
        "p99_ms": _ms(percentile(times.whole, 0.99)),
        "database_median_ms": _ms(median(times.database)),
        "database_p99_ms": _ms(percentile(times.database, 0.99)),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _each(total: int, count: int) -> int:
    return round(total / count) if count else 0
