"""A set-up that somebody has to mend: said loudly, costing no job anything, and over by itself when it is mended."""

import json
import shutil
import socket
import urllib.error
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from statemachine.states import State
from statemachine.store.reading import list_workers
from tests.campaigns.service import served, wait_until
from tests.test_health import get
from workers.arrivals import build_payload

SAID = "deliver paused: the receiver refuses our credentials (401)"


@pytest.mark.timeout(200)
def test_a_lane_that_is_paused_is_not_ready_and_goes_on_by_itself(empty_sqlite: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {"OURVIDZ_HEALTH_ADDRESS": f"127.0.0.1:{port}", "OURVIDZ_LEASE_SECONDS": "3"}
    url = f"sqlite:///{shutil.copy(empty_sqlite, tmp_path / 'ourvidz.sqlite')}"
    with served(tmp_path, url, "null", Random(1), slowest=0.0, settings=settings) as (service, receiver):
        receiver.misbehave("deny", times=2)  # of "processing", which pauses nothing, and of the outcome
        service.start()
        payload = build_payload("sdxl_image_fast", "a heron", config={"sample_steps": 1})
        service.push("sdxl_queue", json.dumps(payload).encode())
        job_id = str(payload["id"])

        def ready() -> tuple[int, list[str]]:
            with suppress(urllib.error.URLError):
                code, said = get(port, "/ready")
                return code, said["why"]
            return 0, []

        def noted() -> bool:
            with service.store.read() as connection:
                return any(row["note"] == SAID for row in list_workers(connection))

        assert wait_until(noted, 60) is not None
        assert wait_until(lambda: ready() == (503, [f"worker cpu: {SAID}"]), 10) is not None, ready()
        assert get(port, "/live")[0] == 200
        assert wait_until(lambda: service.store.finished(job_id), 90) is not None
        job = service.store.load(job_id)
        assert job.state == "completed"
        tries = [(attempt.outcome, attempt.error_class) for attempt in job.tries(State.CALLBACK)]
        assert tries == [("retry", "misconfiguration"), ("succeeded", None)]
        assert wait_until(lambda: ready()[0] == 200, 30) is not None
        service.signal()
        assert service.wait(60) == 0
