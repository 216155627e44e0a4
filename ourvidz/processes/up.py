"""`ourvidz up`: ingress, one worker a device and a supervisor, each a process; what dies is started again."""

import os
import time
from typing import Final

import structlog
from pydantic import SecretStr

from ourvidz import layers, wiring
from ourvidz.migrate import upgrade
from ourvidz.processes import worker
from ourvidz.processes.child import Child, together
from ourvidz.processes.condition import Condition
from ourvidz.processes.holding import hold
from ourvidz.processes.lifelines import Stop
from ourvidz.processes.lost_workers import LostWorkers
from ourvidz.processes.notify import VARIABLES as NOTIFY
from ourvidz.processes.pulse import Pulse
from ourvidz.processes.telling import Telling
from ourvidz.processes.valkey import EmbeddedValkey
from ourvidz.settings import Settings

LOOK_SECONDS: Final = 0.25
LOOP_SECONDS: Final = 60.0
"""All children are looked at within this."""
FAREWELL_SECONDS: Final = worker.FAREWELL_SECONDS + 10.0
"""What the children may take beyond `drain_seconds`."""

log = structlog.get_logger()


def main(settings: Settings) -> int:
    """Run everything on this host until told to stop. Raises SettingsError where another `up` has the data folder."""
    held = hold(settings.data_dir)
    valkey = None
    redis_url = settings.redis_url
    if redis_url is None:
        valkey = EmbeddedValkey(settings.data_dir / "valkey", held=held)
        redis_url = valkey.start()
        log.info("embedded Valkey up", url_in=str(settings.data_dir / "valkey" / "url"))
    stop = Stop().listen()  # not before: it starts a thread, and until here there is nothing that must end in order
    pulse, children = Pulse(), list[Child]()

    def condition() -> Condition:
        if stop.draining.is_set():
            return Condition(still=pulse.still(), unready=["draining"])
        now = time.monotonic()
        unready = [] if children else ["starting"]
        own = Condition(still=pulse.still(), unready=unready)
        return together([own, *(child.condition(now) for child in children)])

    try:
        with Telling.of(settings, condition) as telling:
            return _run(settings, redis_url, valkey, stop, children, pulse, telling)
    finally:
        if valkey is not None:
            valkey.stop()
        os.close(held)


def _run(
    settings: Settings,
    redis_url: str,
    valkey: EmbeddedValkey | None,
    stop: Stop,
    children: list[Child],
    pulse: Pulse,
    telling: Telling,
) -> int:
    """Fill `children`, keep them running until told to stop, and stop them."""
    before, after = upgrade(settings.database_url)
    if before != after:
        log.info("database upgraded", before=before, after=after)
    environment = child_environment(settings, redis_url, vouching=False)
    lost = LostWorkers(settings)
    workers = [
        Child(f"worker {device}", ["worker", "--device", device], environment, mourn=lost.mourn)
        for device in wiring.devices(settings)
    ]
    children.append(Child("ingress", ["ingress"], environment))
    children.append(Child("supervisor", ["supervisor"], child_environment(settings, redis_url)))
    children += workers
    code = 0
    try:
        while not stop.draining.is_set():
            now = time.monotonic()
            pulse.beat("up", LOOP_SECONDS)
            for child in children:
                child.look(now)
            if valkey is not None and not valkey.running:
                log.error("the embedded Valkey has died: stopping, so that whoever started us starts all again")
                code = 1
                break
            stop.draining.wait(LOOK_SECONDS)
    finally:
        pulse.end()
        telling.stopping()
        _stop(children, stop, settings.drain_seconds + FAREWELL_SECONDS)
        lost.close()
    log.info("all down")
    return code


def _stop(children: list[Child], stop: Stop, seconds: float) -> None:
    """Let each child drain; who does not within the time, or at a second signal, is killed."""
    running = [(child, child.process) for child in children if child.process is not None]
    for _, process in running:
        process.terminate()
    until = time.monotonic() + seconds
    hurried = False
    while any(process.poll() is None for _, process in running) and time.monotonic() < until:
        if stop.now.is_set() and not hurried:
            hurried = True
            until = time.monotonic() + 5.0
            for _, process in running:
                process.terminate()
        time.sleep(0.05)
    for child, process in running:
        if process.poll() is None:
            log.warning("killed: it did not stop in time", pid=process.pid)
            process.kill()
        child.bury(process.wait())


def child_environment(settings: Settings, redis_url: str | None, *, vouching: bool = True) -> dict[str, str]:
    """The environment in which a child finds these settings and no others, wherever ours came from.

    What is None here is None there: no variable of ours is handed on, and no settings file is read. `up` alone
    answers at `health_address` and speaks with systemd. Who only writes the history, and does not vouch for it, is not
    given the key of its anchors.
    """
    known = {*NOTIFY, *layers.VARIABLES, *(layers.variable(name) + "_FILE" for name in layers.FROM_FILES)}
    environment = {
        name: value for name, value in os.environ.items() if name not in known and not name.startswith(layers.PREFIX)
    }
    environment[layers.CONFIG] = os.devnull  # an empty file is valid TOML; unnamed, one in the folder would be read
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    for name, value in {**values, "redis_url": redis_url}.items():
        if value is None or name == "health_address" or name.startswith("upstash_"):  # redis_url was made of those
            continue
        if name == "anchor_key" and not vouching:
            continue
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        environment[layers.variable(name)] = str(plain).lower() if isinstance(plain, bool) else str(plain)
    return environment
