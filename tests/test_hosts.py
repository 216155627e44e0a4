"""Two hosts, each with a spool of its own: a job goes on where its files are, and elsewhere to the same bytes."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from statemachine import events as e
from statemachine.job import Job
from statemachine.states import State
from statemachine.store.reading import list_workers
from tests.fakes import Crash
from tests.town import GRACE, LEASE, Host, Town
from workers.engines.messages import Generate
from workers.spool import LEFT_SECONDS, DiskSpool, named
from workers.sweeping import UNKNOWN_SECONDS

VIDEO: dict[str, Any] = {"first_frame": "https://host/a.png", "last_frame": "https://host/b.png"}


@pytest.fixture
def town(tmp_path: Path, empty_sqlite: Path) -> Iterator[Town]:
    made = Town(tmp_path, f"sqlite:///{shutil.copy(empty_sqlite, tmp_path / 'town.sqlite')}")
    yield made
    made.store.close()


@pytest.fixture
def calm(tmp_path: Path, empty_sqlite: Path) -> Iterator[Town]:
    """Another town, in which nothing happens."""
    folder = tmp_path / "calm"
    folder.mkdir()
    made = Town(folder, f"sqlite:///{shutil.copy(empty_sqlite, folder / 'calm.sqlite')}")
    yield made
    made.store.close()


def dies_at(town: Town, host: Host, name: str, nth: int = 1) -> None:
    """The host's worker takes up what there is, and dies at that effect."""
    town.crash_at(name, nth)
    with pytest.raises(Crash):
        town.pass_time(5, host)


def hosts_of(town: Town, job: Job) -> list[str]:
    return [row.event.host for row in town.store.history(job.id) if isinstance(row.event, e.Claimed)]


def written(town: Town, job: Job, kind: type[e.Event]) -> list[tuple[str | None, Any]]:
    """Who wrote the events of that kind, and the events."""
    return [(row.worker_id, row.event) for row in town.store.history(job.id) if isinstance(row.event, kind)]


Asked = tuple[str, dict[str, Any]]
ONE: Asked = ("sdxl_image_fast", {})
THREE: Asked = ("sdxl_image_high", {"num_images": 3})
BOTH: Asked = ("video7b_high_enhanced", VIDEO)


@pytest.mark.parametrize(
    ("asked", "effect", "nth"),
    [
        (BOTH, "references.fetch:after", 1),
        (BOTH, "engine.Enhanced", 1),
        (BOTH, "engine.Loaded", 1),
        (BOTH, "engine.Progress", 7),
        (BOTH, "bucket.put:before", 1),
        (ONE, "engine.CheckpointWritten", 2),
        (ONE, "engine.AssetWritten", 1),
        (ONE, "engine.Generated", 1),
        (ONE, "bucket.put:after", 1),
        (ONE, "receiver.post:after", 2),
        (THREE, "engine.AssetWritten", 2),
        (THREE, "bucket.put:before", 2),
        (THREE, "bucket.put:before", 3),
        (THREE, "bucket.put:after", 3),
        (THREE, "receiver.post:before", 2),
    ],
)
def test_another_host_ends_what_a_dead_one_had_in_hand_with_the_same_bytes(
    town: Town, calm: Town, asked: Asked, effect: str, nth: int
) -> None:
    """Whatever the stage. What is uploaded is not put again, and the outcome is told under one id."""
    job_type, config = asked
    calm.until_done(calm.admit(job_type, **config), Host(calm, "calm"))
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    job = town.admit(job_type, **config)
    dies_at(town, first, effect, nth)
    uploaded = {event.key for _, event in written(town, job, e.AssetUploaded)}
    puts = len(town.bucket.puts)
    ended = town.until_done(job, other)
    assert ended.state is State.COMPLETED
    assert hosts_of(town, job) == ["gpu-1", "gpu-2"]
    assert town.bucket.objects == calm.bucket.objects != {}
    assert not uploaded & set(town.bucket.puts[puts:])
    told = [post.id for post in town.receiver.accepted if post.told["status"] == "completed"]
    assert set(told) == {f"{job.id}:1:completed"}
    assert other.files(job) == []


def test_a_host_that_lives_keeps_its_job(town: Town) -> None:
    """Its worker died, and the next one comes: it goes on from the step, though another host has nothing to do."""
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    job = town.admit("sdxl_image_fast")
    dies_at(town, first, "engine.Progress", 8)
    first.boot()
    town.until_done(job, other, first)
    assert hosts_of(town, job) == ["gpu-1", "gpu-1"]
    (order,) = [order for order in first.engine.orders if isinstance(order, Generate)]
    assert order.resume_from is not None
    assert "checkpoint_discarded" not in town.kinds(job)


def test_a_job_that_nobody_began_is_taken_from_a_host_that_lives(town: Town) -> None:
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    first.worker.heartbeat_tick(town.clock.now())
    job = town.admit("sdxl_image_fast")
    assert first.worker.claim_tick(town.clock.now()) == 1
    first.worker.drain()
    assert first.worker.hand_back("drained") == 1
    assert town.pass_time(1, other) == 1
    assert hosts_of(town, job) == ["gpu-1", "gpu-2"]


def test_a_host_is_waited_for_no_longer_than_the_grace_and_no_bell_is_needed(town: Town) -> None:
    """It is heard of, and has no time for the job."""
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    job = town.admit("sdxl_image_fast")
    dies_at(town, first, "engine.Progress", 8)
    first.boot()
    while town.store.load(job.id).worker_id is not None:
        first.worker.heartbeat_tick(town.clock.now())
        town.pass_time(1)
    assert town.store.load(job.id).due_at == town.clock.now()
    waited = 1
    while not town.pass_time(1, other):
        first.worker.heartbeat_tick(town.clock.now())
        waited += 1
    assert waited == GRACE
    assert town.store.load(job.id).state is State.COMPLETED


def test_a_host_is_heard_of_within_the_grace_however_long_its_leases_are(town: Town) -> None:
    host = Host(town, "gpu-1", lease=600.0)
    for _ in range(60):
        town.pass_time(1, host)
        with town.store.read() as connection:
            (row,) = list_workers(connection)
        assert row["spool"] == "gpu-1"
        assert (town.clock.now() - row["last_seen_at"]).total_seconds() < GRACE / 2


def test_a_checkpoint_that_stayed_behind_is_told_of_and_denoising_begins_anew(town: Town) -> None:
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    job = town.admit("sdxl_image_fast")
    dies_at(town, first, "engine.Progress", 8)
    assert "checkpoint_5.null" in first.files(job)
    town.until_done(job, other)
    ((who, discarded),) = written(town, job, e.CheckpointDiscarded)
    assert (who, discarded.reason) == ("gpu-2-1", "it is not in the spool of gpu-2")
    (order,) = other.engine.orders
    assert isinstance(order, Generate)
    assert order.resume_from is None


def test_of_three_pictures_of_which_one_is_uploaded_two_are_made_again(town: Town) -> None:
    """The uploading that finds no files goes back to generating, and what is uploaded is as good as made."""
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    job = town.admit("sdxl_image_high", num_images=3)
    dies_at(town, first, "bucket.put:before", 2)
    ended = town.until_done(job, other)
    assert written(town, job, e.AssetsLost) != []
    again = [event.index for who, event in written(town, job, e.AssetGenerated) if who == "gpu-2-1"]
    assert again == [1, 2]
    assert town.bucket.puts == [asset.key for asset in ended.current_assets]


def test_references_are_fetched_again_and_the_prompt_is_not_enhanced_again(town: Town) -> None:
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    job = town.admit("video7b_high_enhanced", **VIDEO)
    dies_at(town, first, "engine.Progress", 3)
    assert town.until_done(job, other).state is State.COMPLETED
    assert [sorted(urls) for urls in town.references.asked] == [sorted(VIDEO.values())] * 2
    assert [who for who, _ in written(town, job, e.PromptEnhanced)] == ["gpu-1-1"]
    assert [type(order) for order in other.engine.orders] == [Generate]


def test_a_reference_that_is_another_picture_by_then_fails_the_job(town: Town) -> None:
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    job = town.admit("video_high", **VIDEO)
    dies_at(town, first, "engine.Progress", 3)
    town.references.versions["https://host/b.png"] = 2
    ended = town.until_done(job, other)
    assert ended.state is State.FAILED
    assert ended.error is not None
    assert (ended.error.error_type, "another picture" in ended.error.message) == ("ReferenceChanged", True)


def test_a_host_that_comes_back_removes_what_has_gone_on_elsewhere(town: Town) -> None:
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    job = town.admit("sdxl_image_fast")
    dies_at(town, first, "engine.Progress", 8)
    town.pass_time(LEASE + 2)  # a supervisor elsewhere ends the lease
    first.boot()
    assert first.worker.sweep_spool() == 0, "it may go on from there"
    town.pass_time(GRACE + 1)
    town.crash_at("engine.Progress", 2)
    with pytest.raises(Crash):
        town.pass_time(1, other)
    assert hosts_of(town, job) == ["gpu-1", "gpu-2"]
    assert first.worker.sweep_spool() == 1
    assert first.files(job) == []
    assert not list(first.spool.root.rglob("checkpoint*"))
    other.boot()
    assert other.worker.sweep_spool() == 0


def test_a_sweep_leaves_what_a_worker_beside_has_in_hand(town: Town) -> None:
    first, beside = Host(town, "gpu-1"), Host(town, "gpu-1")
    job = town.admit("sdxl_image_fast")
    swept: list[int] = []

    def sweep(name: str) -> None:
        if name == "engine.Progress":
            swept.append(beside.worker.sweep_spool())

    town.plan = sweep
    assert town.until_done(job, first).state is State.COMPLETED
    assert swept == [0] * 12
    assert "checkpoint_discarded" not in town.kinds(job)


def test_a_sweep_leaves_what_its_own_worker_has_on_the_device_though_it_was_taken_away(town: Town) -> None:
    """It is let go when the next write is refused, and swept then."""
    first, other = Host(town, "gpu-1"), Host(town, "gpu-2")
    job = town.admit("sdxl_image_fast")
    seen: list[tuple[int, bool]] = []

    def stand_still(name: str) -> None:
        if name == "engine.AssetWritten":
            town.plan = lambda name: None
            town.pass_time(LEASE + GRACE + 2, other)
            seen.append((first.worker.sweep_spool(), first.files(job) != []))

    town.plan = stand_still
    town.until_done(job, first)
    assert hosts_of(town, job) == ["gpu-1", "gpu-2"]
    assert seen == [(0, True)]
    assert first.files(job) == []
    assert first.worker.held.jobs() == []


def age(folder: Path, seconds: float) -> None:
    """As if all in it had been written so long ago."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_what_the_database_does_not_know_stays_for_a_week(town: Town) -> None:
    """It may be the database that is wrong."""
    host, unknown = Host(town, "gpu-1"), "00000000-0000-4000-8000-00000000ffff"
    host.spool.write(unknown, "asset_0.png", b"hours of a device")
    folder = host.spool.root / unknown
    age(folder, UNKNOWN_SECONDS - 60)
    assert host.worker.sweep_spool() == 0
    age(folder, UNKNOWN_SECONDS + 60)
    (folder / "asset_0.png").touch()
    assert host.worker.sweep_spool() == 0, "somebody has written into it"
    age(folder, UNKNOWN_SECONDS + 60)
    assert host.worker.sweep_spool() == 1
    assert not folder.exists()


def test_halves_of_files_of_dead_processes_go(town: Town) -> None:
    host = Host(town, "gpu-1")
    job = town.admit("sdxl_image_fast")
    dies_at(town, host, "engine.Progress", 8)
    host.boot()
    young, old = (host.spool.root / job.id / f".asset_0.png.{pid}.tmp" for pid in (1, 2))
    for path in (young, old):
        path.write_bytes(b"half a pic")
    os.utime(old, (time.time() - LEFT_SECONDS - 60,) * 2)
    assert host.worker.sweep_spool() == 0
    assert (young.exists(), old.exists()) == (True, False)
    assert "checkpoint_5.null" in host.files(job)


def test_what_is_not_a_jobs_folder_is_left_alone(town: Town) -> None:
    host = Host(town, "gpu-1")
    lost = host.spool.root / "lost+found"
    lost.mkdir(parents=True)
    age(lost, UNKNOWN_SECONDS * 2)
    assert host.worker.sweep_spool() == 0
    assert lost.is_dir()


def test_a_spool_keeps_its_name_under_a_host_of_another(tmp_path: Path) -> None:
    """A pod on the volume of the one before it, a host that was renamed."""
    assert named(tmp_path / "spool", "pod-a") == "pod-a"
    assert named(tmp_path / "spool", "pod-b") == "pod-a"
    assert list(DiskSpool(tmp_path / "spool").jobs()) == []
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == [".host"]


def test_a_spool_that_cannot_be_written_has_the_name_of_its_host(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert named(tmp_path / "file", "gpu-1") == "gpu-1"
