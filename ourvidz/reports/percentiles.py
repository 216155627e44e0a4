"""Percentiles from counts of rounded durations: sums over any days, and right within 5 %."""

from collections.abc import Mapping


def percentiles(counts: Mapping[int, int], wanted: tuple[int, ...]) -> list[float | None]:
    """The durations in seconds that so many percent do not exceed (nearest rank); None where nothing was counted."""
    total = sum(counts.values())
    if not total:
        return [None] * len(wanted)
    found: list[float | None] = []
    ordered = sorted(counts.items())
    for percent in wanted:
        rank, seen = -(-total * percent // 100), 0
        for ms, number in ordered:
            seen += number
            if seen >= rank:
                found.append(ms / 1000)
                break
    return found
