"""How long jobs and their stages take: `latency`."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from ourvidz.reports.answer import Answer, Row
from ourvidz.reports.asking import Asking, added_up, by_keys, part
from ourvidz.reports.columns import count, name, seconds
from ourvidz.reports.names import By
from ourvidz.reports.percentiles import percentiles
from statemachine.states import STAGES, State
from statemachine.store.facts import DURATIONS

_SECONDS: Final = [
    seconds("mean_seconds", "mean"),
    seconds("p50_seconds", "p50"),
    seconds("p90_seconds", "p90"),
    seconds("p99_seconds", "p99"),
]
_WITHIN: Final = "percentiles are right within 5 %."


def latency(ask: Asking) -> Answer:
    """Percentiles of how long it took."""
    match ask.by:
        case None:
            return _parts(ask)
        case By.WORKER:
            return _lines(ask, By.WORKER, "run", State.GENERATING, "attempts")
        case by:
            return _lines(ask, by, "until_outcome", None, "jobs")


def _lines(ask: Asking, by: By, measure: str, stage: State | None, what: str) -> Answer:
    line = ask.line(by)
    counts = ask.sums(DURATIONS, "ms", measure=measure, stage=stage)
    rows = [{line.name: key, **_told(those, what)} for (key,), those in by_keys(counts, [line.name]).items()]
    of = "completed jobs took from the queue to their outcome" if stage is None else "successful attempts at it ran"
    begin = "How long" if stage is None else f"{stage}: how long"
    nothing = {what: 0, **{column.name: None for column in _SECONDS}}
    return ask.answer(
        f"{begin} {of}{'' if stage else ', in their first run'}; {_WITHIN}",
        [line],
        [count(what), *_SECONDS],
        ask.on_every_moment(rows, nothing),
        _told(counts, what),
    )


def _parts(ask: Asking) -> Answer:
    """The whole job first, then stage by stage, in the order in which a job walks them."""
    found = by_keys(ask.sums(DURATIONS, "measure", "stage", "ms"), ["measure", "stage"])
    order: list[tuple[str, str | None]] = [("until_outcome", None), ("until_started", None)]
    order += [(measure, stage.value) for stage in STAGES for measure in ("wait", "run")]
    rows = [
        {"measure": measure, "stage": stage, **_told(found[measure, stage], "number")}
        for measure, stage in order
        if (measure, stage) in found
    ]
    about = (
        "How long completed jobs took, in their first run, from the queue to their outcome and to their start, and "
        f"attempts waited and ran; {_WITHIN}"
    )
    keys = [name("stage", "stage"), name("measure", "measure")]
    return Answer(ask.report, ask.by, ask.span, about, keys, [count("number", "counted"), *_SECONDS], rows)


def _told(rows: Iterable[Row], what: str) -> Row:
    counts: Counter[int] = Counter()
    those = list(rows)
    for row in those:
        counts[row["ms"]] += row["number"]
    sums = added_up(those, ("number", "seconds"))
    p50, p90, p99 = percentiles(counts, (50, 90, 99))
    mean = part(sums["seconds"], sums["number"])
    return {what: sums["number"], "mean_seconds": mean, "p50_seconds": p50, "p90_seconds": p90, "p99_seconds": p99}
