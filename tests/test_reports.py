"""What reports say is what is counted by hand, on both databases; and how they are asked, printed and drawn."""

import csv
import io
import json
import math
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import text

from docs.lives import SetClock
from ourvidz.reports.answer import Answer
from ourvidz.reports.catalogue import ask
from ourvidz.reports.columns import count, seconds, share, size_of
from ourvidz.reports.names import By, Report, Theme
from ourvidz.reports.percentiles import percentiles
from ourvidz.reports.plots.drawing import draw
from ourvidz.reports.span import Span, Unanswerable
from ourvidz.reports.table import MOST, render
from statemachine.store import EventStore, open_store
from statemachine.store.facts import ATTEMPTS, CALLBACKS, DURATIONS, FAILURES, MODELS, USE, Fact
from statemachine.store.rolling import DAY, midnight, roll, seal
from tests.servers import _run, database_url
from tests.statemachine.builders import live_through, new_job
from tests.statemachine.tallies import facts_of
from tests.statemachine.walks import START, walk

Row = dict[str, Any]
KEYS = {By.TYPE: "job_type", By.USER: "user_id", By.WORKER: "worker_id"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def walked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventStore]:
    """A store in which jobs took every turn, over some days that are rolled up but for the last ones."""
    name = f"ovz_reports_{secrets.token_hex(4)}"
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("reports") / "ourvidz.sqlite"
        shutil.copy(request.getfixturevalue("empty_sqlite"), path)
        url = f"sqlite:///{path}"
    else:
        server = request.getfixturevalue("postgres_url")
        _run(server, f"CREATE DATABASE {name} TEMPLATE {request.getfixturevalue('template_database')}")
        url = database_url(server, name)
    opened = open_store(url)
    store = walk(opened, 11, jobs=40, steps=1200, meanwhile=lambda _, clock, rng: clock.wait(rng.uniform(0, 900)))
    list(roll(store.engine, store.now() - DAY))
    yield store
    opened.close()
    if request.param == "postgresql":
        _run(server, f"DROP DATABASE {name} WITH (FORCE)")


def whole(store: EventStore) -> Span:
    return Span(midnight(START), store.now() + timedelta(seconds=1))


def answered(store: EventStore, report: Report, by: By | None = None) -> Answer:
    with store.read() as connection:
        return ask(connection, report, whole(store), by)


def by_hand(store: EventStore) -> dict[Fact, list[Row]]:
    with store.read() as connection:
        return facts_of(connection)


def of(by: By) -> Callable[[Row], Any]:
    """What names the line in which a row is counted."""
    forms = {By.DAY: "%Y-%m-%d", By.HOUR: "%Y-%m-%d %H:00"}
    return lambda row: row["at"].strftime(forms[by]) if by in forms else row[KEYS[by]]


def lines(answer: Answer) -> dict[Any, Row]:
    """The rows by their names: one value, or as many as there are keys."""
    names = [column.name for column in answer.keys]
    found = {tuple(row[name] for name in names): row for row in answer.rows}
    assert len(found) == len(answer.rows)
    return {key[0] if len(key) == 1 else key: row for key, row in found.items()}


def added(rows: list[Row], name: str) -> Any:
    return pytest.approx(sum(row.get(name) or 0 for row in rows), abs=1e-6)


def grouped(rows: list[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


@pytest.mark.parametrize("by", [By.DAY, By.HOUR, By.TYPE, By.USER])
def test_throughput(walked: EventStore, by: By) -> None:
    answer = answered(walked, Report.THROUGHPUT, by)
    found, groups = lines(answer), grouped(by_hand(walked)[USE], of(by))
    assert set(groups) <= set(found)
    assert by in (By.DAY, By.HOUR) or set(groups) == set(found)
    for line, row in [*found.items(), (None, answer.totals or {})]:
        rows = groups.get(line, []) if row is not answer.totals else by_hand(walked)[USE]
        for name in ("queued", "completed", "failed", "cancelled", "assets", "bytes"):
            assert row[name] == added(rows, name), (line, name)
        ended = sum(one.get(name, 0) for one in rows for name in ("completed", "failed", "cancelled"))
        failed = sum(one.get("failed", 0) for one in rows)
        assert row["failed_share"] == (None if not ended else pytest.approx(failed / ended))


def test_throughput_has_a_line_for_days_without_a_job(walked: EventStore) -> None:
    answer = answered(walked, Report.THROUGHPUT)
    days = [row["day"] for row in answer.rows]
    assert days == [f"{midnight(START) + DAY * number:%Y-%m-%d}" for number in range(len(days))]
    assert days[-1] == f"{walked.now():%Y-%m-%d}"


def true_percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def test_latency_of_every_part(walked: EventStore) -> None:
    groups = grouped(by_hand(walked)[DURATIONS], lambda row: (row["stage"], row["measure"]))
    answer = answered(walked, Report.LATENCY)
    assert set(lines(answer)) == set(groups)
    assert [row["measure"] for row in answer.rows[:2]] == ["until_outcome", "until_started"]
    for key, row in lines(answer).items():
        check_percentiles(row, "number", groups[key])


@pytest.mark.parametrize("by", [By.DAY, By.HOUR, By.TYPE, By.USER])
def test_latency_of_jobs(walked: EventStore, by: By) -> None:
    rows = [row for row in by_hand(walked)[DURATIONS] if row["measure"] == "until_outcome"]
    answer, groups = answered(walked, Report.LATENCY, by), grouped(rows, of(by))
    assert groups
    assert {line for line, row in lines(answer).items() if row["jobs"]} == set(groups)
    for line, those in groups.items():
        check_percentiles(lines(answer)[line], "jobs", those)
    check_percentiles(answer.totals or {}, "jobs", rows)


def test_latency_by_worker_is_that_of_generating(walked: EventStore) -> None:
    rows = [row for row in by_hand(walked)[DURATIONS] if (row["measure"], row["stage"]) == ("run", "generating")]
    groups = grouped(rows, of(By.WORKER))
    found = lines(answered(walked, Report.LATENCY, By.WORKER))
    assert set(found) == set(groups)
    for line, row in found.items():
        check_percentiles(row, "attempts", groups[line])


def check_percentiles(row: Row, what: str, rows: list[Row]) -> None:
    values = [one["seconds"] for one in rows]
    assert row[what] == len(values)
    assert row["mean_seconds"] == pytest.approx(sum(values) / len(values))
    for percent in (50, 90, 99):
        true = true_percentile(values, percent)
        assert row[f"p{percent}_seconds"] == pytest.approx(true, rel=0.05, abs=0.0006)


@pytest.mark.parametrize("by", [None, By.DAY, By.HOUR, By.TYPE, By.USER])
def test_failures(walked: EventStore, by: By | None) -> None:
    line = of(by) if by else None
    errors = [
        (*([line(row)] if line else []), row["error_class"], row["error_type"]) for row in by_hand(walked)[FAILURES]
    ]
    answer = answered(walked, Report.FAILURES, by)
    assert errors
    assert {key: row["jobs"] for key, row in lines(answer).items()} == Counter(errors)
    assert (answer.totals or {})["jobs"] == len(errors)
    assert sum(row["share"] for row in answer.rows) == pytest.approx(1)


def test_failures_by_worker_are_attempts(walked: EventStore) -> None:
    errors = Counter(
        (row["worker_id"], row["error_class"], row["error_type"])
        for row in by_hand(walked)[ATTEMPTS]
        if row["outcome"] == "failed"
    )
    assert errors
    found = lines(answered(walked, Report.FAILURES, By.WORKER))
    assert {key: row["attempts"] for key, row in found.items()} == errors


@pytest.mark.parametrize("by", [None, *By])
def test_retries(walked: EventStore, by: By | None) -> None:
    line = of(by) if by else lambda row: row["stage"]
    every = by_hand(walked)[ATTEMPTS]
    again = [row for row in every if row["outcome"] not in ("succeeded", "skipped", "failed", "cancelled")]
    groups = grouped(again, lambda row: (line(row), row["error_class"], row["error_type"]))
    answer = answered(walked, Report.RETRIES, by)
    assert groups
    assert set(lines(answer)) == set(groups)
    for key, row in [*lines(answer).items(), (None, answer.totals or {})]:
        rows = groups[key] if key else again
        assert row["attempts"] == len(rows)
        assert row["share"] == pytest.approx(len(rows) / len(every))
        for name in ("delay_seconds", "wasted_seconds"):
            assert row[name] == added(rows, name)


@pytest.mark.parametrize("by", [*By])
def test_workers(walked: EventStore, by: By) -> None:
    every = by_hand(walked)[ATTEMPTS]
    answer, groups = answered(walked, Report.WORKERS, by), grouped(every, of(by))
    for line, row in [*lines(answer).items(), (None, answer.totals or {})]:
        rows = groups.get(line, []) if row is not answer.totals else every
        assert row["attempts"] == len(rows)
        assert row["workers"] == len({one["worker_id"] for one in rows} - {None})
        outcomes = Counter(one["outcome"] for one in rows)
        assert row["succeeded"] == outcomes["succeeded"] + outcomes["skipped"]
        assert row["failed"] == outcomes["failed"] + outcomes["retry"]
        assert row["interrupted"] == outcomes["interrupted"] + outcomes["superseded"]
        for name in ("run_seconds", "device_seconds", "wasted_seconds"):
            assert row[name] == added(rows, name)
    assert set(groups) <= set(lines(answer))


@pytest.mark.parametrize("by", [By.DAY, By.HOUR, By.TYPE])
def test_users_who_were_active(walked: EventStore, by: By) -> None:
    queued = [row for row in by_hand(walked)[USE] if row.get("queued")]
    answer, groups = answered(walked, Report.USERS, by), grouped(queued, of(by))
    assert set(groups) <= set(lines(answer))
    for line, row in [*lines(answer).items(), (None, answer.totals or {})]:
        rows = groups.get(line, []) if row is not answer.totals else queued
        numbers = Counter(one["user_id"] for one in rows)
        assert (row["users"], row["queued"]) == (len(numbers), len(rows))
        most = max(numbers.values(), default=0)
        assert row["most_of_one_share"] == (pytest.approx(most / len(rows)) if rows else None)


def test_users(walked: EventStore) -> None:
    rows = by_hand(walked)[USE]
    groups, found = grouped(rows, of(By.USER)), lines(answered(walked, Report.USERS))
    assert set(found) == set(groups)
    total = sum(row.get("device_seconds") or 0 for row in rows)
    for user, row in found.items():
        spent = sum(one.get("device_seconds") or 0 for one in groups[user])
        assert row["queued"] == added(groups[user], "queued")
        assert row["device_seconds"] == pytest.approx(spent)
        assert row["device_share"] == pytest.approx(spent / total)


@pytest.mark.parametrize("by", [None, *By])
def test_models(walked: EventStore, by: By | None) -> None:
    changes = by_hand(walked)[MODELS]
    groups = grouped(changes, (lambda row: (of(by)(row), row["model"])) if by else lambda row: row["model"])
    answer = answered(walked, Report.MODELS, by)
    assert set(lines(answer)) == set(groups)
    for line, row in [*lines(answer).items(), (None, answer.totals or {})]:
        rows = groups[line] if row is not answer.totals else changes
        loads = [one for one in rows if one["kind"] == "model_loaded"]
        assert (row["loads"], row["moves"]) == (len(loads), len(rows) - len(loads))
        assert row["load_seconds"] == added(loads, "seconds")
        assert row["load_bytes"] == added(loads, "bytes")


@pytest.mark.parametrize("by", [*By])
def test_callbacks_by(walked: EventStore, by: By) -> None:
    requests = by_hand(walked)[CALLBACKS]
    answer, groups = answered(walked, Report.CALLBACKS, by), grouped(requests, of(by))
    assert set(groups) <= set(lines(answer))
    for line, row in [*lines(answer).items(), (None, answer.totals or {})]:
        rows = groups.get(line, []) if row is not answer.totals else requests
        taken = sum(one["delivered"] for one in rows)
        assert (row["requests"], row["delivered"], row["refused"]) == (len(rows), taken, len(rows) - taken)
        assert row["repeated"] == sum(one["try"] > 1 for one in rows)


def test_callbacks(walked: EventStore) -> None:
    requests = by_hand(walked)[CALLBACKS]
    groups = grouped(requests, lambda row: (row["status"], row["http_code"], row["delivered"]))
    answer = answered(walked, Report.CALLBACKS)
    assert len(answer.rows) == len(groups)
    for (status, code, delivered), rows in groups.items():
        row = lines(answer)[status, code or "no answer", "yes" if delivered else "no"]
        assert row["requests"] == len(rows)
        assert row["share"] == pytest.approx(len(rows) / len(requests))
        assert row["mean_seconds"] == pytest.approx(sum((one["ms"] or 0) / 1000 for one in rows) / len(rows))


@pytest.mark.parametrize("by", [*By])
def test_cost(walked: EventStore, by: By) -> None:
    every = by_hand(walked)[ATTEMPTS if by is By.WORKER else USE]
    answer, groups = answered(walked, Report.COST, by), grouped(every, of(by))
    assert set(groups) <= set(lines(answer))
    for line, row in [*lines(answer).items(), (None, answer.totals or {})]:
        rows = groups.get(line, []) if row is not answer.totals else every
        assert row["device_seconds"] == added(rows, "device_seconds")
        assert row["wasted_seconds"] == added(rows, "wasted_seconds")
        assets = sum(one.get("assets", 0) for one in rows)
        if by is not By.WORKER:
            spent = sum(one.get("device_seconds") or 0 for one in rows)
            assert row["device_seconds_per_asset"] == (pytest.approx(spent / assets) if assets else None)


@pytest.mark.parametrize("walked", ["sqlite"], indirect=True)
def test_by_what_each_report_can_be_is_as_the_page_says(walked: EventStore) -> None:
    page = (Path(__file__).parents[1] / "docs" / "reports.md").read_text("utf-8")
    told = {}
    for row in page.split("|---|---|---|---|\n")[1].split("\n\n")[0].splitlines():
        report, _, own, others = (cell.strip() for cell in row.strip("|").split("|"))
        told[report] = {*others.split(", "), *([own] if own in [*By] else [])}
    found: dict[str, set[str]] = {}
    for report in Report:
        for by in By:
            try:
                answered(walked, report, by)
            except Unanswerable:
                continue
            found.setdefault(report.value, set()).add(by.value)
    assert found == told


@pytest.mark.parametrize("walked", ["sqlite"], indirect=True)
@pytest.mark.parametrize("theme", [*Theme])
def test_every_report_is_drawn_by_everything(walked: EventStore, theme: Theme, tmp_path: Path) -> None:
    drawn = 0
    for report in Report:
        for by in (None, *By):
            try:
                answer = answered(walked, report, by)
            except Unanswerable:
                continue
            file = tmp_path / f"{report}-{by}.png"
            draw(answer, file, theme)
            with Image.open(file) as picture:
                assert picture.size == (1600, 896)
                corner = picture.convert("L").getpixel((2, 2))
                assert isinstance(corner, int)
                assert (corner > 200) is (theme is Theme.LIGHT)
                assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 20  # something stands on it
            drawn += 1
    assert drawn > 40


@pytest.mark.parametrize("fresh_database", ["sqlite"], indirect=True)
def test_what_took_no_time_and_has_odd_names_is_drawn_too(store: EventStore, tmp_path: Path) -> None:
    still = EventStore(store.engine, clock=SetClock(START), wakeups=store.wakeups)
    live_through(still)
    still.admit([new_job(user_id="$\\frac{", job_type="$$\n🦩")])
    for report, by in (
        (Report.LATENCY, None),
        (Report.LATENCY, By.DAY),
        (Report.USERS, None),
        (Report.THROUGHPUT, By.TYPE),
    ):
        with still.read() as connection:
            answer = ask(connection, report, Span(START - DAY, START + DAY), by)
        draw(answer, tmp_path / "odd.png", Theme.DARK)
        with Image.open(tmp_path / "odd.png") as picture:
            assert picture.size == (1600, 896)


@pytest.mark.parametrize("walked", ["sqlite"], indirect=True)
def test_the_same_report_is_the_same_file(walked: EventStore, tmp_path: Path) -> None:
    answer = answered(walked, Report.THROUGHPUT)
    for name in ("a.svg", "b.svg"):
        draw(answer, tmp_path / name, Theme.LIGHT)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("walked", ["sqlite"], indirect=True)
@pytest.mark.parametrize("report", [*Report])
@pytest.mark.parametrize("width", [80, 140])
def test_tables_keep_to_the_width(walked: EventStore, report: Report, width: int) -> None:
    from rich.console import Console

    for by in (None, *By):
        try:
            answer = answered(walked, report, by)
        except Unanswerable:
            continue
        console = Console(width=width, file=io.StringIO(), color_system=None)
        console.print(*render(answer, width=width), sep="\n")
        assert isinstance(console.file, io.StringIO)
        printed = console.file.getvalue()
        head, cut = answer.values[0].title, "…" in printed.split(answer.values[0].title, 1)[-1].splitlines()[0]
        assert head in printed
        assert not cut, printed
        assert max(map(len, printed.splitlines())) <= width
        assert len(printed.splitlines()) < len(answer.rows) + 12
        if not (answer.by and answer.by.moment):
            assert len(printed.splitlines()) < MOST + 12


class TestCommand:
    """`ourvidz report`, as people and programs call it."""

    @pytest.fixture
    def url(self, store: EventStore) -> str:
        now = store.now()
        for days in (40, 3, 2, 2):
            clock = SetClock(now - days * DAY)
            live_through(EventStore(store.engine, clock=clock, wakeups=store.wakeups))
        return store.engine.url.render_as_string(hide_password=False)

    def run(self, capsys: pytest.CaptureFixture[str], url: str, *arguments: str) -> tuple[int, str, str]:
        from ourvidz.cli import main

        with pytest.raises(SystemExit) as ended:
            main(["--database-url", url, "report", *arguments])
        said = capsys.readouterr()
        code = ended.value.code
        return (code if isinstance(code, int) else 0), said.out, said.err

    def test_data_has_raw_numbers_with_units_in_their_names(self, capsys: pytest.CaptureFixture[str], url: str) -> None:
        code, out, _ = self.run(capsys, url, "cost", "--format", "csv")
        assert code == 0
        (row,) = csv.DictReader(io.StringIO(out))
        assert (row["job_type"], row["device_seconds"], row["completed"]) == ("sdxl_image_fast", "4.5", "3")
        code, out, _ = self.run(capsys, url, "cost", "--format", "json")
        told = json.loads(out)
        assert (told["schema"], told["report"], told["by"]) == (1, "cost", "type")
        assert told["rows"][0]["device_seconds"] == told["totals"]["device_seconds"] == 4.5

    def test_days_ago_begin_at_midnight_and_hours_do_not(self, capsys: pytest.CaptureFixture[str], url: str) -> None:
        def since(text: str) -> datetime:
            _, out, _ = self.run(capsys, url, "throughput", "--since", text, "--by", "type", "--format", "json")
            return datetime.fromisoformat(json.loads(out)["since"])

        assert since("3d") == midnight(since("3d"))
        assert since("72h") != midnight(since("72h"))
        assert since("2026-07-05T12:30") == datetime(2026, 7, 5, 12, 30, tzinfo=UTC)

    def test_it_brings_the_rollups_up_to_date(self, capsys: pytest.CaptureFixture[str], url: str) -> None:
        code, out, _ = self.run(capsys, url, "throughput", "--since", "60d", "--format", "csv")
        assert code == 0
        assert sum(int(row["completed"]) for row in csv.DictReader(io.StringIO(out))) == 4
        opened = open_store(url)
        with opened.read() as connection:
            days = connection.execute(text("SELECT COUNT(DISTINCT day) FROM rollup_output")).scalar_one()
        opened.close()
        assert days == 3

    def test_a_short_span_waits_for_no_rollup(self, capsys: pytest.CaptureFixture[str], url: str) -> None:
        for arguments in (["--since", "30h"], ["--since", "9d", "--by", "hour"]):
            code, out, _ = self.run(capsys, url, "throughput", "--format", "json", *arguments)
            assert (code, json.loads(out)["totals"]["completed"]) == (0, 0 if "30h" in arguments else 3)
        opened = open_store(url)
        with opened.read() as connection:
            assert connection.execute(text("SELECT COUNT(*) FROM rollup_output")).scalar_one() == 0
        opened.close()

    def test_an_empty_span_says_so(self, capsys: pytest.CaptureFixture[str], url: str) -> None:
        code, out, _ = self.run(capsys, url, "failures")
        assert (code, "Nothing of it happened" in out) == (0, True)
        code, out, _ = self.run(capsys, url, "throughput", "--since", "2020-01-01", "--until", "2020-01-05")
        assert (code, "Nothing of it happened" in out) == (0, True)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["throughput", "--by", "worker"], "`ourvidz report workers` counts what each did"),
            (["users", "--by", "worker"], "--by hour, day, type or user"),
            (["throughput", "--by", "hour", "--since", "60d"], "over at most 31 days at once"),
            (["models", "--by", "type", "--since", "60d"], "over at most 31 days at once"),
            (["throughput", "--since", "1d", "--until", "2d"], "--since 1d is not before --until 2d"),
            (["throughput", "--plot", "x.pdf"], "ends in .png or .svg"),
            (["throughput", "--theme", "dark"], "--theme says how --plot draws"),
            (["nonsense"], "'REPORT': 'nonsense' is not one of"),
            (["throughput", "--since", "soon"], "a time is wanted as"),
            (["throughput", "--since", "0001-01-01"], "a line for each day, of at most 3,660 days at once"),
            (["throughput", "--since", "999999d"], "'999999d' is a time before the year 1"),
            (["throughput", "--since", "0001-01-01T00:00+14:00"], "is a time before the year 1"),
        ],
    )
    def test_what_cannot_be_asked_so_is_said(
        self, capsys: pytest.CaptureFixture[str], url: str, arguments: list[str], said: str
    ) -> None:
        code, out, error = self.run(capsys, url, *arguments)
        assert (code, out) == (2, "")
        assert said in error

    def test_a_plot_is_drawn_beside_the_table(
        self, capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "out.PNG"
        code, out, error = self.run(capsys, url, "throughput", "--plot", str(file), "--theme", "dark")
        assert (code, f"drawn into {file}" in error) == (0, True)
        assert "throughput by day" in out
        assert file.read_bytes().startswith(b"\x89PNG")

    def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_counted(
        self, capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path
    ) -> None:
        nowhere, folder = tmp_path / "nowhere", tmp_path / "folder.png"
        folder.mkdir()
        answer = self.run(capsys, url, "throughput", "--plot", str(nowhere / "out.png"))
        assert answer == (1, "", f"{nowhere}: there is no such folder\n")
        answer = self.run(capsys, url, "throughput", "--plot", str(folder))
        assert answer == (1, "", f"{folder}: this is a folder, and a file is wanted\n")

    def test_of_archived_jobs_whole_days_are_known(
        self, capsys: pytest.CaptureFixture[str], url: str, store: EventStore
    ) -> None:
        list(roll(store.engine, store.now()))
        with store.write() as connection:
            seal(connection, midnight(store.now()) - DAY)
        code, out, _ = self.run(capsys, url, "throughput", "--since", "60d", "--format", "csv")
        assert (code, sum(int(row["completed"]) for row in csv.DictReader(io.StringIO(out)))) == (0, 4)
        code, _, error = self.run(capsys, url, "throughput", "--since", "73h")
        assert (code, "known for whole days only" in error) == (2, True)
        code, _, error = self.run(capsys, url, "throughput", "--since", "5d", "--by", "hour")
        assert (code, "known by day only" in error) == (2, True)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (0, "0%"),
        (0.0001, "<0.1%"),
        (0.05, "5.0%"),
        (0.333, "33%"),
        (0.9963, "99.6%"),
        (0.99999, "99.9%"),
        (1, "100%"),
    ],
)
def test_a_share_says_never_nothing_of_something(value: float | None, said: str) -> None:
    assert share("x", "x").told(value) == said


def test_numbers_are_readable() -> None:
    assert count("n").told(1_234_567) == "1,234,567"
    assert seconds("s", "s").told(7_384.0) == "2h 03m"
    assert size_of("b", "b").told(57_500_000_000) == "57.5 GB"


def test_a_percentile_is_the_nearest_rank() -> None:
    assert percentiles(Counter({1_000: 5, 2_000: 4, 60_000: 1}), (50, 90, 99)) == [1.0, 2.0, 60.0]
    assert percentiles({}, (50,)) == [None]
