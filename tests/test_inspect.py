"""`jobs inspect`: the sentence, the document and the page, for jobs of several fates."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ourvidz import reference
from ourvidz.inspect.document import document
from ourvidz.inspect.sentence import sentence
from ourvidz.inspect.terminal import render
from ourvidz.masking import mask, mask_value
from ourvidz.wording import brief
from statemachine import decisions
from statemachine import events as e
from statemachine.states import State
from statemachine.store.reading import Ahead
from tests.fates import FATES, WORKER, Life, worker

GOLDEN = Path(__file__).parent / "golden"

SENTENCES = {
    "no_worker_for_its_model": "Queued for 12 min 4 s because the only running worker does not take sdxl_image_fast, "
    "which needs the model lustify_sdxl; it starts as soon as one does.",
    "running_at_step_7": "Generating for 7.5 s on gpu-1-3f9c (cuda:0), step 7 of 15, about 8 s left; "
    "then it is uploaded; nothing that it has drawn is kept yet.",
    "interrupted": "Generating was interrupted 4 s ago after step 7 of 15 (engine crashed: exit code -9) and is next "
    "in line; it goes on from step 7 as soon as gpu-1-3f9c is free; "
    "what it has up to step 7 is safe in the spool of gpu.",
    "resumed": "Generating for 3 s on cpu-2-77aa (cpu), step 10 of 15, about 5 s left, resumed from step 7 after the "
    "first attempt was interrupted (engine crashed: exit code -9); then it is uploaded; "
    "what it has up to step 7 is safe in the spool of gpu.",
    "waiting_for_a_retry": "Uploading failed 0.4 s ago (StorageAway: file storage at https://files.example/?… "
    "connection refused); next try in 1.6 s, at 12:00:12 UTC (third of 10 tries); "
    "its 3 pictures are safe in the spool of gpu.",
    "refused_payload": "Failed 3 min 10 s ago, when it arrived: its payload was refused "
    "(config.num_images must be 1, 3 or 6, got 4); its receiver was told.",
    "completed": "Completed 3 min 20 s ago with 3 pictures in sdxl_image_fast, 9.8 s after it was queued; "
    "its receiver was told.",
    "undeliverable": "Failed 1 min ago because its receiver could not be told in 9 tries: HTTP 500; "
    "its 3 pictures in sdxl_image_fast are kept.",
    "requeued": "Run 2: queued for 5 s, behind 2 other jobs (1 whose turn comes first); it starts as soon as "
    "gpu-1-3f9c is free.",
}


def page(told: dict[str, Any], width: int, *, events: bool = False) -> str:
    """What a terminal of that width shows, without the spaces at the ends of its lines."""
    console = Console(width=width, color_system=None, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(render(told, width=width, events=events))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


@pytest.mark.parametrize("fate", FATES)
def test_the_sentence(fate: str) -> None:
    assert sentence(FATES[fate]()) == SENTENCES[fate]


@pytest.mark.parametrize("fate", FATES)
def test_the_page_at_80_columns(fate: str) -> None:
    """The golden pages are what a person looked at and liked; delete one to have it written anew."""
    golden = GOLDEN / f"{fate}.txt"
    told = page(document(FATES[fate]()), 80)
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(told, "utf-8")
        pytest.fail(f"{golden.name} was missing and is written now: look at it, then run again")
    assert told == golden.read_text("utf-8")


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("fate", FATES)
def test_no_line_is_wider_than_the_terminal(fate: str, width: int) -> None:
    assert max(len(line) for line in page(document(FATES[fate]()), width, events=True).splitlines()) <= width


@pytest.mark.parametrize("fate", FATES)
def test_the_document_is_json_and_documented(fate: str) -> None:
    told = document(FATES[fate]())
    assert json.loads(json.dumps(told)) == told
    text = (Path(reference.__file__).parent.parent / "docs" / "inspecting.md").read_text("utf-8")
    assert [key for key in told if f"`{key}`" not in text] == []


def test_a_worker_that_has_others_in_hand_is_not_about_to_begin() -> None:
    life = Life().wait(1)
    life.write(*decisions.claim(life.job, worker=WORKER, host="gpu", device="cuda:0")).wait(3)
    row = worker(life.now, "sdxl_image_fast", jobs=[life.job.id, "another"])
    assert sentence(life.seen(row)) == (
        "Taken 3 s ago by gpu-1-3f9c (cuda:0), which has 1 other job in hand; it is generated next."
    )


def test_waiting_without_any_worker_says_so() -> None:
    life = Life().wait(2)
    gone = worker(life.now, "sdxl_image_fast", seen=7200.0)
    assert sentence(life.seen()) == "Queued for 2 s because no worker is running; it starts as soon as one does."
    assert "no worker is running (the last one was heard 2 h ago)" in sentence(life.seen(gone))


def test_a_draining_worker_is_not_waited_for() -> None:
    life = Life().wait(2)
    assert "does not take" in sentence(life.seen(worker(life.now, "sdxl_image_fast", state="draining")))


def test_a_paused_queue_is_named_with_who_and_why() -> None:
    life = Life().wait(60)
    paused = {"name": "sdxl_queue", "paused_by": "ada", "paused_at": life.now - timedelta(seconds=30), "reason": "move"}
    told = sentence(life.seen(worker(life.now, "sdxl_image_fast"), paused=paused))
    assert told == ("Queued for 1 min because ada paused sdxl_queue 30 s ago (move); it starts when that is resumed.")


def test_a_job_whose_files_are_elsewhere_says_where_and_for_how_long() -> None:
    life = Life().wait(1.2).claim().wait(5.0).checkpoint(7).wait(1.4).interrupt().wait(4)
    there = worker(life.now, seen=12.0, worker_id="gpu-2-1111", spool="gpu-2")
    here = worker(life.now, "sdxl_image_fast", spool="gpu-1")
    told = sentence(life.seen(there, here, ahead=Ahead(), spool="gpu-2", spool_grace=30.0))
    assert told == (
        "Generating was interrupted 4 s ago after step 7 of 15 (engine crashed: exit code -9) and waits because its "
        "files are on gpu-2, which was heard 12 s ago; it goes on from step 7 there, or without them on another host "
        "in 18 s; what it has up to step 7 is safe in the spool of gpu-2."
    )


@pytest.mark.parametrize(
    ("seen", "spool", "grace"), [(31.0, "gpu-2", 30.0), (1.0, "gpu-2", 4.0), (1.0, "gpu-1", 30.0), (1.0, None, 30.0)]
)
def test_a_job_that_may_be_taken_here_says_nothing_of_files(seen: float, spool: str | None, grace: float) -> None:
    """The other host is silent, the job is due for long enough, the files are here, or there are none."""
    life = Life().wait(1.2).claim().wait(5.0).checkpoint(7).wait(1.4).interrupt().wait(4)
    there = worker(life.now, seen=seen, worker_id="gpu-2-1111", spool="gpu-2")
    here = worker(life.now, "sdxl_image_fast", spool="gpu-1")
    told = sentence(life.seen(there, here, ahead=Ahead(), spool=spool, spool_grace=grace))
    assert " and is next in line; it goes on from step 7 as soon as gpu-1-3f9c is free; " in told
    assert "files" not in told


def test_a_lane_that_waits_for_its_set_up_is_quoted() -> None:
    life = Life().wait(3)
    row = worker(life.now, "sdxl_image_fast", note="deliver paused: the disk is full")
    told = sentence(life.seen(row, ahead=Ahead()))
    assert told.endswith("it starts as soon as gpu-1-3f9c is free (it says: deliver paused: the disk is full).")


def test_a_lease_that_ran_out_says_that_nobody_works() -> None:
    life = Life().wait(1).claim().wait(45)
    told = sentence(life.seen(worker(life.now, "sdxl_image_fast", seen=45.0)))
    assert told == (
        f"Generating stands still: {WORKER} (cuda:0) was last heard 45 s ago and its lease ended 15 s ago; "
        "a supervisor hands the job on; nothing that it has drawn is kept yet."
    )


def test_a_wrong_set_up_costs_no_attempt_and_the_sentence_says_it() -> None:
    life = Life().wait(1).claim().generate().start()
    life.trouble("the storage folder is full", "StorageUnwritable", "misconfiguration").wait(5)
    told = sentence(life.seen(worker(life.now, "sdxl_image_fast")))
    assert told.startswith("Uploading waits for the set-up to be mended (the storage folder is full); next try in 10 s")
    assert told.endswith("(it costs the job no attempt); its 3 pictures are safe in the spool of gpu.")


def test_a_callback_that_waits_tells_the_outcome_first() -> None:
    life = Life().wait(1).claim().generate().start().upload().start().tell(503).trouble("HTTP 503", "Refused").wait(1)
    told = sentence(life.seen(worker(life.now)))
    assert told.startswith(
        "Done with 3 pictures in sdxl_image_fast, but the receiver could not be told 1 s ago (HTTP 503)"
    )


def test_a_cancelled_job_names_who_and_why() -> None:
    life = Life().wait(1)
    life.write(*decisions.cancel(life.job, by="ada", reason="wrong prompt"))
    life.claim().tell().finish().wait(30)
    assert sentence(life.seen()) == "Cancelled 30 s ago by ada: wrong prompt; its receiver was told."


def test_what_operators_did_stands_between_the_attempts() -> None:
    """Who and why, in the order in which it happened; and what can be done now."""
    life = Life().wait(1).claim().wait(1)
    life.write(*decisions.cancel(life.job, by="ada", reason="wrong prompt")).wait(1)
    life.write(*decisions.cancelled(life.job)).start().tell().finish().wait(60)
    life.write(*decisions.requeue(life.job, by="bob", reason="its rows were not there", stage=State.CALLBACK))
    life.claim().tell().finish()
    told = document(life.seen())
    assert [(act["kind"], act["by"], act["run"], act["stage"]) for act in told["acts"]] == [
        ("cancel_requested", "ada", 1, "generating"),
        ("requeued", "bob", 2, "callback"),
    ]
    shown = page(told, 140)
    places = [
        shown.index(part)
        for part in (
            "generating      1",
            "· 12:00:02 +2 s  ada asked for its end: wrong prompt",
            "callback        1  12:00:03",
            "· 12:01:03 +1m 03s  bob had it told again, run 2: its rows were not there",
            "callback        1  12:01:03",
            "Possible now",
            f"ourvidz callbacks resend {life.job.id}",
        )
    ]
    assert places == sorted(places)
    assert told["sentence"] == "Run 2: cancelled 0 s ago by ada: wrong prompt; its receiver was told."


def test_a_run_that_told_again_does_not_say_that_it_made_anything() -> None:
    life = Life().wait(1.2).claim().generate().start().upload().start().tell().finish().wait(3600)
    life.write(*decisions.requeue(life.job, by="bob", reason="", stage=State.CALLBACK))
    life.claim().tell().finish().wait(5)
    assert sentence(life.seen()) == (
        "Run 2: completed by an earlier run with 3 pictures in sdxl_image_fast; its receiver was told again, 5 s ago."
    )


def test_what_was_asked_is_shown_where_it_was_not_what_was_made() -> None:
    told = document(FATES["completed"]())
    told["asked"] |= {"size": "480*832", "sample_steps": 25}
    assert "1024*1024 (asked: 480*832), 15 steps (asked: 25), guidance 6" in page(told, 140)


def test_signed_urls_and_control_characters_do_not_reach_the_terminal() -> None:
    life = Life()
    life.content |= {
        "prompt": "\x1b[2Ja heron [bold]",
        "references": [{"role": "single", "url": "https://x.supabase.co/sign/a.png?token=eyJhbGciOi"}],
    }
    told = document(life.seen())
    shown = page(told, 80)
    assert "eyJ" not in json.dumps(told)
    assert "https://x.supabase.co/sign/a.png?…" in shown
    assert "\x1b" not in shown
    assert "[bold]" in shown


def test_rejected_writes_are_shown() -> None:
    life = Life().wait(1).claim().wait(1)
    refused = {
        "id": 1, "job_id": life.job.id, "worker_id": "old", "token": 1, "found_token": 3, "version": 4,
        "found_version": 6, "kinds": "checkpointed", "reason": "the lease with token 1 has ended", "at": life.now,
    }  # fmt: skip
    shown = page(document(life.seen(rejected=[refused])), 140)
    assert "· 12:00:02 +2 s  old was refused what it wrote: checkpointed" in shown
    assert "old was refused checkpointed at 12:00:02: the lease with token 1 has ended" in shown


def test_an_erased_job_says_by_whom_and_does_not_say_that_its_pictures_are_kept() -> None:
    life = Life().wait(1.2).claim().generate().start().upload().start().tell().finish().wait(60)
    life.content = {}
    told = document(life.write(e.ContentErased(by="ada", reason="she asked for it")).wait(30).seen())
    assert told["sentence"].endswith("its receiver was told; ada had its content erased 30 s ago.")
    assert told["safe"] == {"safe": None, "said": "what it made was erased"}
    assert "ada had its content erased: she asked for it" in page(told, 140)


def test_a_prompt_that_is_gone_and_an_unknown_kind_do_no_harm() -> None:
    life = Life().wait(1)
    life.content = {}
    life.write(e.Degraded(what="batch", why="split"))
    shown = page(document(life.seen()), 80)
    assert "  prompt   not here any more" in shown
    assert "erased" not in shown  # nobody says that it was; an archive without payloads has none either


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"), (0.042, "42 ms"), (9.94, "9.9 s"), (59.4, "59 s"), (59.5, "1m 00s"), (3599.4, "59m 59s"),
        (3599.5, "1h 00m"), (86399.4, "23h 59m"), (86400, "1d 00h"), (99.9 * 86400, "99d 21h"),
    ],
)  # fmt: skip
def test_durations_in_columns_are_short(seconds: float, said: str) -> None:
    assert brief(seconds) == said
    assert len(said) <= 7


def test_masking() -> None:
    assert mask("redis://u:p@h/0 Bearer abcdefgh") == "redis://u:********@h/0 Bearer ********"
    assert mask_value({"api_key": "k", "token": 3, "key": "a/b.png"}) == {
        "api_key": "********",
        "token": 3,
        "key": "a/b.png",
    }
