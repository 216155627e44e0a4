"""Searching: what is found by which words, in which window, and what of it is shown."""

import json
import unicodedata
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourvidz.searching import AROUND, Found, excerpt, search
from statemachine import decisions
from statemachine.admission import NewJob
from statemachine.store import EventStore
from statemachine.store.reading import Filter, list_ids
from statemachine.store.searching import AT_ONCE
from tests.fates import START
from tests.statemachine.builders import new_job
from tests.test_cli import Run, base, run, submit
from workers.arrivals import build_payload, read
from workers.errors import TryAgain

__all__ = ["base", "run"]  # fixtures


def admit(store: EventStore, prompt: str, *, number: int = 1, **more: Any) -> str:
    """A job queued `number` seconds after the start; with `num_images=4` one that is refused for it."""
    payload = build_payload("sdxl_image_fast", prompt, job_id=f"7f3a0c1e-5b7d-4c7e-9a51-{number:012x}", **more)
    raw = json.dumps(payload).encode()
    new = read(raw, queue="sdxl_queue", source="redis", now=START, draw_seed=lambda: 1)
    assert isinstance(new, NewJob)
    store.admit([new], at=START + timedelta(seconds=number))
    return new.job_id


def found(store: EventStore, *words: str, **wanted: Any) -> Found:
    with store.read() as connection:
        return search(connection, Filter(**wanted), words)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A Heron at dawn", ["heron"]),
        ("A Heron at dawn", ["DAWN", "heron"]),
        ("A Heron at dawn", ["heron at"]),
        ("Zoë am Fluß", ["ZOË", "FLUSS"]),
        ("ЦАПЛЯ НА РАССВЕТЕ", ["цапля"]),
        ("ΟΔΥΣΣΕΥΣ", ["οδυσσευς"]),
        (unicodedata.normalize("NFD", "Crème brûlée"), ["CRÈME BRÛLÉE"]),
        ("Crème brûlée", [unicodedata.normalize("NFD", "crème")]),
        ("a heron\n  at dawn", ["heron at dawn"]),
        ('she said "run"', ['"run"']),
        ("100% \\ real_ness", ["100%", "\\", "real_"]),
        ("夜明けの鷺", ["鷺"]),
    ],
)
def test_words_are_found_in_any_case_and_script(store: EventStore, prompt: str, words: list[str]) -> None:
    job_id = admit(store, prompt)
    (excerpts,) = found(store, *words).jobs.values()
    assert list(found(store, *words).jobs) == [job_id]
    assert [one.where for one in excerpts] == ["prompt"]
    assert len(excerpts[0].marks) == len(words)


@pytest.mark.parametrize("words", [["herons"], ["heron", "dusk"], ["prompt"], ["user_id"], ["%"], ["_"], ["h.ron"]])
def test_what_is_not_there_is_not_found(store: EventStore, words: list[str]) -> None:
    """All words have to be there, and neither the names of JSON's keys nor any pattern is one."""
    admit(store, "a heron at dawn")
    assert found(store, *words).jobs == {}


def test_words_may_stand_in_different_places(store: EventStore) -> None:
    job_id = admit(store, "a heron")
    job = store.load(job_id)
    store.append(job, decisions.cancel(job, by="ada", reason="ordered twice"), personal={"enhanced_prompt": "at dawn"})
    excerpts = found(store, "heron", "dawn", "twice").jobs[job_id]
    assert [(one.where, one.text) for one in excerpts] == [
        ("prompt", "a heron"),
        ("enhanced", "at dawn"),
        ("error", "Cancelled: ordered twice"),
    ]


def test_what_people_are_not_shown_is_not_found(store: EventStore) -> None:
    """Whoever may see the results could guess a secret, letter by letter."""
    job_id = admit(store, "like https://example.org/a.png?token=abc123")
    assert found(store, "abc123").jobs == {}
    ((only,),) = found(store, "example.org").jobs.values()
    assert only.text == "like https://example.org/a.png?…"
    assert list(found(store, "like").jobs) == [job_id]


def test_erased_content_is_not_found_and_not_missed(store: EventStore) -> None:
    from sqlalchemy import update

    from statemachine.store.schema import job_payloads

    job_id = admit(store, "a heron")
    with store.write() as connection:
        connection.execute(update(job_payloads).values(content=None, raw=None, erased_at=START))
    assert found(store, "heron").jobs == {}
    assert list(found(store).jobs) == [job_id]


def test_the_newest_come_first_and_what_is_enough_is_not_read_further(store: EventStore) -> None:
    jobs = [admit(store, "a heron" if number % 2 else "a stork", number=number) for number in range(1, 8)]
    newest = found(store, "heron", limit=2)
    assert list(newest.jobs) == [jobs[6], jobs[4]]
    assert (newest.looked_at, newest.enough) == (3, True)
    everything = found(store, "heron", limit=5)
    assert (len(everything.jobs), everything.looked_at, everything.enough) == (4, 7, False)
    window = found(store, "heron", since=START + timedelta(seconds=2), until=START + timedelta(seconds=7))
    assert (list(window.jobs), window.looked_at) == ([jobs[4], jobs[2]], 5)


def test_errors_and_workers_are_those_of_any_attempt(store: EventStore) -> None:
    """A job that ran out of memory once and went on elsewhere is found by both, and by its class."""
    met, other = admit(store, "a heron"), admit(store, "a stork", number=2)
    job = store.load(met)
    job = store.append(job, decisions.claim(job, worker="gpu-1-3f9c", host="gpu-1", device="cuda:0"))
    job = store.append(job, decisions.start(job), worker_id="gpu-1-3f9c")
    full = TryAgain("Insufficient VRAM: Ärger", error_class="device_memory", error_type="OutOfMemory")
    trouble = decisions.trouble(
        job,
        error_class=full.error_class,
        error_type=full.error_type,
        message=full.message,
        now=store.now(),
        jitter=0.0,
    )
    job = store.append(job, trouble, worker_id="gpu-1-3f9c")
    job = store.append(job, decisions.claim(job, worker="gpu-2-aaaa", host="gpu-2", device="cuda:0"))
    job = store.append(job, decisions.start(job), worker_id="gpu-2-aaaa")

    def ids(**wanted: Any) -> list[str]:
        with store.read() as connection:
            return list_ids(connection, Filter(**wanted))

    assert ids() == [other, met]
    assert ids(error_class="device_memory") == [met]
    assert ids(error_class="transient") == []
    assert ids(error="Ärger") == ids(error="insufficient") == ids(error="outofmemory") == [met]
    assert ids(worker="gpu-1") == ids(worker="gpu-2-aaaa") == [met]
    assert ids(worker="gpu-%") == ids(worker="pu-1") == ids(worker="gpu-1-3f9c0") == ids(worker="GPU-1") == []
    assert list(found(store, "heron", worker="gpu-2", error_class="device_memory").jobs) == [met]


def test_a_long_search_tells_how_far_it_is(store: EventStore) -> None:
    told: list[int] = []
    store.admit([new_job() for _ in range(AT_ONCE + 1)])
    with store.read() as connection:
        search(connection, Filter(), ["nothing"], told.append)
    assert told == [AT_ONCE]


@given(st.text(), st.text(min_size=1), st.text())
def test_marks_stand_exactly_around_the_words(before: str, word: str, behind: str) -> None:
    """Whatever the text, what is marked says the word when both are folded, and nothing is marked twice."""
    text = before + word + behind
    marks = excerpt("prompt", text[:AROUND], [word.casefold()]).marks
    shown = excerpt("prompt", text[:AROUND], [word.casefold()]).text
    assert all(0 <= a < b <= len(shown) for a, b in marks)
    assert all(one[1] <= other[0] for one, other in pairwise(marks))
    if len(text) <= AROUND:
        assert marks
        assert any(word.casefold() in shown[a:b].casefold() for a, b in marks)


def test_a_long_text_is_cut_around_what_was_found() -> None:
    shown = excerpt("prompt", "reeds " * 100 + "heron " + "water " * 100, ["heron"])
    ((start, end),) = shown.marks
    assert shown.text[start:end] == "heron"
    assert AROUND - 20 < len(shown.text) <= AROUND + 2
    assert set(shown.text.strip("…").split()) == {"reeds", "heron", "water"}, "no word is cut"


def test_a_text_without_spaces_is_cut_all_the_same() -> None:
    shown = excerpt("prompt", "鷺" * 500 + "heron" + "水" * 500, ["heron"])
    ((start, end),) = shown.marks
    assert (shown.text[start:end], shown.text[0], shown.text[-1]) == ("heron", "…", "…")
    assert len(shown.text) == AROUND + 2


def test_a_word_longer_than_what_is_shown_is_marked_as_far_as_it_is() -> None:
    shown = excerpt("prompt", "a " * 100 + "h" * 400, ["h" * 400])
    ((start, end),) = shown.marks
    assert set(shown.text[start:end]) == {"h"}


class TestCommand:
    def test_the_window_is_told_and_the_words_are_in_the_document(self, base: Run) -> None:
        job_id = submit(base)
        told = base("jobs", "search", "HERON")
        assert job_id in told.stdout
        assert told.stdout.splitlines()[1].rstrip() == "  prompt: a heron"
        assert told.stderr.startswith("1 job of the 1 that fit otherwise, queued since 20")
        document = json.loads(base("jobs", "search", "heron", "--json").stdout)
        assert (document["schema"], document["looked_at"], document["complete"]) == (1, 1, True)
        (job,) = document["jobs"]
        assert (job["id"], job["found"]) == (job_id, [{"where": "prompt", "text": "a heron", "marks": [[2, 7]]}])
        assert "raw" not in job

    def test_where_it_found_enough_it_says_how_far_it_looked(self, base: Run) -> None:
        submit(base)
        newest = submit(base)
        told = base("jobs", "search", "--limit", "1")
        assert newest in told.stdout
        assert told.stderr.startswith("the newest 1, back to 20")
        assert base("jobs", "search").stderr.startswith("2 jobs, queued since 20")
        assert json.loads(base("jobs", "search", "--limit", "1", "--json").stdout)["complete"] is False

    def test_nothing_found_is_no_error(self, base: Run) -> None:
        done = base("jobs", "search", "stork", "--until", "2020-01-01")
        assert (done.returncode, done.stdout) == (0, "")
        window = "queued since 2019-12-02 00:00:00 UTC and before 2020-01-01 00:00:00 UTC"
        assert done.stderr.strip() == f"no job of the 0 that fit otherwise, {window}; --since looks further back"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [(["  "], "a word is wanted"), (["--error-class", "bad"], "--error-class wants one of transient, ")],
    )
    def test_what_is_not_understood_is_said(self, base: Run, arguments: list[str], said: str) -> None:
        done = base("jobs", "search", *arguments)
        assert done.returncode == 2
        assert said in done.stderr
