"""`jobs inspect --at`: what another process saw of a job, version by version, is what is shown of it ever after."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace
from sqlalchemy import delete, update

from ourvidz.exit_codes import ExitCode
from ourvidz.inspect.document import OF_THE_MOMENT
from statemachine import decisions
from statemachine import events as e
from statemachine.admission import NewJob
from statemachine.errors import FencedOut
from statemachine.states import State
from statemachine.store import EventStore
from statemachine.store.claims import Claimant
from statemachine.store.schema import job_attempts, jobs
from workers.arrivals import build_payload, read
from workers.spool import sha256

ROOT: Final = Path(__file__).parents[1]
USER: Final = "0b9d6a52-1c55-4a44-8d0e-5d3c3f6f7a90"


class Watcher:
    """Whoever looks at one job from another process."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "tests.programs.asked"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._url = url

    def ask(self, *arguments: str) -> tuple[int, str, str]:
        """What `ourvidz jobs …` answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(["--database-url", self._url, "jobs", *arguments]) + "\n")
        self._process.stdin.flush()
        code, out, err = json.loads(self._process.stdout.readline())
        return code, out, err

    def inspect(self, job_id: str, *more: str) -> dict[str, Any]:
        """The document."""
        code, out, err = self.ask("inspect", job_id, "--json", *more)
        assert code == ExitCode.OK, err
        told: dict[str, Any] = json.loads(out)
        return told

    def close(self) -> None:
        """It ends when nobody asks any more."""
        self._process.communicate(timeout=60)


@pytest.fixture
def watcher(store: EventStore) -> Iterator[Watcher]:
    """A watcher of the same database."""
    one = Watcher(store.engine.url.render_as_string(hide_password=False))
    yield one
    one.close()


class Story:
    """One job that has two runs, retries at three stages, an interruption, a refused write and a cancel.

    After each write somebody else looks. `seen` is what was seen, in order.
    """

    def __init__(self, store: EventStore, watcher: Watcher) -> None:
        self.store, self.watcher, self.seen = store, watcher, list[dict[str, Any]]()
        url = "https://pictures.example/a.png?token=eyJhbGciOi"
        payload = build_payload("image7b_fast_enhanced", "a heron at dawn", seed=7, user_id=USER, config={"image": url})
        raw = json.dumps(payload).encode()
        new = read(raw, queue="wan_queue", source="redis", now=store.now(), draw_seed=lambda: 1)
        assert isinstance(new, NewJob)
        store.admit([new])
        self.job = store.load(new.job_id)
        self.look()

    def look(self) -> None:
        """One look from outside."""
        self.seen.append(self.watcher.inspect(self.job.id))

    def write(self, *events: e.Event, **more: Any) -> None:
        """Append one after the other, and let each be seen."""
        for event in events:
            self.job = self.store.append(self.job, [event], worker_id=self.job.worker_id, **more)
            self.look()

    def claim(self, name: str) -> None:
        """A worker leases it as workers do, tells that it lives, and how far it is."""
        row = {
            "worker_id": name, "host": "h", "pid": 1, "device": "cpu", "engine": "null", "engine_pid": None,
            "job_types": json.dumps([self.job.job_type]), "models": "[]", "state": "running", "note": None,
            "version": "0", "started_at": self.store.now(), "last_seen_at": self.store.now(), "spool": "h",
        }  # fmt: skip
        self.store.see_worker(row)
        who = Claimant(
            worker_id=name, host="h", spool="h", device="cpu", job_types=[self.job.job_type or ""], lease_seconds=60,
            grace_seconds=0, version="9",
        )  # fmt: skip
        (self.job,) = self.store.claim(who, drawing=1, telling=1, expected=True)
        self.look()

    def start(self) -> None:
        """The stage that is due begins, and its worker tells how far it is."""
        self.write(*decisions.start(self.job, device="cpu"))
        progress = json.dumps({"step": 3, "of": 20})
        assert self.job.worker_id is not None
        self.store.renew(self.job.worker_id, {self.job.id: (self.job.token, progress)}, seconds=60)
        self.look()

    def stumble(self, message: str) -> None:
        """The attempt fails and is tried again, at once as far as a test is concerned."""
        now = self.store.now()
        failed = decisions.trouble(
            self.job, error_class="transient", error_type="Away", message=message, now=now, jitter=0.0
        )
        for event in failed:
            assert isinstance(event, e.RetryScheduled)
            self.write(replace(event, delay=0.0, resume_at=now.isoformat()))

    def asset(self) -> e.AssetGenerated:
        """The one file."""
        return e.AssetGenerated(index=0, seed=7, name="a.png", digest="a" * 64, bytes=9, width=480, height=832)

    def told(self, http_code: int) -> e.CallbackSent:
        """One request to the receiver."""
        status = "completed" if self.job.outcome == "completed" else "failed"
        return e.CallbackSent(
            status=status, id=f"{self.job.id}:{self.job.run}:{status}", delivered=http_code == 200,
            try_=len(self.job.told(status)) + 1, http_code=http_code, ms=4.0, answer="",
        )  # fmt: skip


def live(story: Story) -> None:
    """All of it."""
    reference = {
        "role": "single", "host": "pictures.example", "bytes": 9, "width": 4, "height": 4, "name": "ref_0.png",
        "digest": "b" * 64, "source_digest": "b" * 64, "notes": [],
    }  # fmt: skip
    story.claim("w1")
    story.start()
    story.stumble("no route to pictures.example?token=eyJhbGciOi")
    story.claim("w1")
    story.start()
    story.write(e.RefsFetched(references=[reference]))
    story.start()
    text = "a heron at dawn, golden light"
    story.write(e.PromptEnhanced(digest=sha256(text.encode()), seconds=0.5), personal={"enhanced_prompt": text})
    story.start()
    story.write(e.ModelLoaded(model="wan_2_1_1_3b", seconds=1.0, bytes=10, digest="e" * 64))
    story.write(e.Checkpointed(step=5, of=20, name="checkpoint_5", digest="c" * 64, device_seconds=0.001))
    late = story.job
    story.write(*decisions.interrupt(story.job, reason="lease expired", by="supervisor", now=story.store.now()))
    story.claim("w2")
    with pytest.raises(FencedOut):
        story.store.append(late, [e.Checkpointed(step=9, of=20, name="x", digest="d" * 64)], worker_id="w1")
    story.look()
    story.start()
    story.write(e.CheckpointDiscarded(name="checkpoint_5", reason="its digest differs"), story.asset())
    story.write(e.MediaGenerated(device_seconds=40.0, engine="diffusers", versions={"torch": "2.13.0"}))
    story.start()
    story.stumble("the storage is away")
    story.claim("w2")
    story.start()
    story.write(e.AssetUploaded(index=0, bucket="b", key="k", digest="a" * 64, bytes=9), e.MediaUploaded())
    story.start()
    story.write(story.told(503))
    story.stumble("HTTP 503")
    story.claim("w2")
    story.start()
    story.write(story.told(200), *decisions.finish(story.job, now=story.store.now(), notified=True))
    story.write(*decisions.requeue(story.job, by="ada", reason="another look"))
    story.claim("w1")
    story.start()
    story.write(*decisions.cancel(story.job, by="bob", reason="enough"))
    story.write(*decisions.cancelled(story.job))
    story.start()
    story.write(story.told(200))
    story.write(*decisions.finish(story.job, now=story.store.now(), notified=True))
    assert story.job.state is State.CANCELLED


def lasting(document: dict[str, Any]) -> dict[str, Any]:
    """What of it the history tells."""
    return {key: value for key, value in document.items() if key not in OF_THE_MOMENT}


def test_every_version_is_shown_as_it_was_seen_also_after_a_rebuild(store: EventStore, watcher: Watcher) -> None:
    story = Story(store, watcher)
    live(story)
    job_id, first = story.job.id, dict[int, dict[str, Any]]()
    for document in story.seen:
        first.setdefault(document["version"], document)
    assert sorted(first) == list(range(1, story.job.version + 1))
    assert len(story.seen) > len(first)  # there were looks at which only the moment was another one
    for _ in range(2):
        for version, document in first.items():
            shown = watcher.inspect(job_id, "--at", str(version))
            assert lasting(shown) == lasting(document), version
            assert shown["at"] == {"version": version, "time": shown["now"]}
        for document in story.seen:
            shown = watcher.inspect(job_id, "--at", document["now"])
            assert lasting(shown) == lasting(document), document["version"]
            assert shown["now"] == document["now"]
            if document["times"]["finished_at"] is not None:
                assert shown["sentence"] == document["sentence"]
                assert shown["why"] == document["why"]
        with store.write() as connection:
            connection.execute(delete(job_attempts).where(job_attempts.c.job_id == job_id))
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(state="queued", run=9))
        assert [bool(rebuilt.changed) for rebuilt in store.rebuild([job_id])] == [True]


def test_what_has_no_history_is_absent_and_the_page_says_so(store: EventStore, watcher: Watcher) -> None:
    story = Story(store, watcher)
    story.claim("w1")
    story.start()
    assert story.seen[-1]["live"]["step"] == 3
    shown = watcher.inspect(story.job.id, "--at", "3")
    gone = ("live", "lease", "queue_place", "workers_able", "workers_living")
    assert [shown[key] for key in gone] == [None] * len(gone)
    assert "step" not in shown["sentence"]
    page = watcher.ask("inspect", story.job.id, "--at", "3")[1]
    assert "version 3. Leases, progress, workers and queues keep no history" in " ".join(page.split())
    assert watcher.inspect(story.job.id, "--at", shown["now"])["version"] == 3  # its event happened by then
    waiting = watcher.inspect(story.job.id, "--at", "1")
    assert waiting["why"]["reason"] == "not_recorded"
    assert waiting["sentence"] == "Queued for 0 s; it starts as soon as a worker takes it."


@pytest.mark.parametrize(
    ("at", "code", "said"),
    [
        ("0", ExitCode.REFUSED, "has had the versions 1 to 1, not 0"),
        ("2", ExitCode.REFUSED, "has had the versions 1 to 1, not 2"),
        ("1h", ExitCode.REFUSED, "there was none"),
        ("2999-01-01", ExitCode.REFUSED, "is not over"),
        ("then", ExitCode.USAGE, "a time is wanted as"),
    ],
)
def test_a_moment_that_never_was_is_refused(
    store: EventStore, watcher: Watcher, at: str, code: ExitCode, said: str
) -> None:
    story = Story(store, watcher)
    got, out, err = watcher.ask("inspect", story.job.id, "--at", at)
    assert (got, out) == (code, "")
    assert said in err
