"""What the chaos campaign is made of: its plan is its seed's, its full disk is full, and who refuses has heard."""

import errno
import subprocess
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import pytest
import requests

from tests.campaigns.chaos.campaign import Planned, plan
from tests.campaigns.chaos.disk import NoDisk, SmallDisk
from tests.campaigns.chaos.faults import catalogue
from tests.campaigns.chaos.servers import refusing

KINDS = catalogue("postgresql", small_disks=True)


def rounds(seed: int, count: int) -> list[Planned]:
    return list(islice(plan(Random(seed), KINDS, [0, 0, 1]), count * len(KINDS)))


def test_a_plan_can_be_replayed_from_its_seed() -> None:
    assert rounds(7, 2) == rounds(7, 2)
    assert rounds(7, 2) != rounds(8, 2)


def test_each_round_has_every_kind_of_fault_once() -> None:
    names = [planned.kind.name for planned in rounds(7, 3)]
    assert Counter(names) == dict.fromkeys((kind.name for kind in KINDS), 3)
    assert len(set(names[: len(KINDS)])) == len(KINDS)


def test_some_faults_begin_while_another_is_there() -> None:
    planned = rounds(7, 4)
    over = [after.after < before.seconds for before, after in pairwise(planned)]
    assert 0.1 < sum(over) / len(over) < 0.5


def test_a_full_disk_is_full_for_whoever_is_started_on_it(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    try:
        disk = SmallDisk(folder, megabytes=2)
    except NoDisk as why:
        pytest.skip(str(why))
    with disk:
        write = [*disk.prefix, "sh", "-c", 'head -c 8192 /dev/zero > "$1"', "write", str(folder / "file")]
        assert subprocess.run(write, capture_output=True, check=False).returncode == 0
        assert (disk.seen / "file").stat().st_size == 8192
        disk.fill()
        with pytest.raises(OSError) as full, (disk.seen / "more").open("wb", buffering=0) as more:
            more.write(bytes(8192))
        assert full.value.errno == errno.ENOSPC
        assert b"No space left" in subprocess.run([*write[:-1], str(folder / "other")], capture_output=True).stderr
        disk.empty()
        assert subprocess.run(write, capture_output=True, check=False).returncode == 0
    assert list(folder.iterdir()) == [], "nobody else has seen that disk"


def test_who_refuses_has_heard() -> None:
    heard: list[tuple[str, str, bytes]] = []

    def hear(path: str, headers: object, body: bytes) -> None:
        assert isinstance(headers, dict)
        heard.append((path, headers["webhook-id"], body))

    with refusing(503, {"Retry-After": "3"}, hear) as (host, port):
        answer = requests.post(f"http://{host}:{port}/callback", b"{}", headers={"Webhook-Id": "one"}, timeout=30)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")
    assert heard == [("/callback", "one", b"{}")]
