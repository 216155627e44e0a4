"""`ourvidz ingress`: one blocking loop a list."""

import threading

import structlog

from ourvidz import wiring
from ourvidz.processes.lifelines import Stop
from ourvidz.settings import Settings
from workers.ingress import Ingress

log = structlog.get_logger()


def main(settings: Settings, *, parent: int | None = None) -> int:
    """Take jobs from both lists until told to stop."""
    stop = Stop(parent).listen()
    store = wiring.checked_store(settings)
    ingresses = wiring.ingresses(settings, store)

    def serve(ingress: Ingress) -> None:
        while not stop.draining.is_set():
            ingress.serve_once(1.0, wait=stop.draining.wait)

    threads = [threading.Thread(target=serve, args=(ingress,), daemon=True) for ingress in ingresses]
    for thread in threads:
        thread.start()
    log.info("ingress up", lists=[ingress.lists.queue for ingress in ingresses])
    stop.draining.wait()
    for thread in threads:
        thread.join(timeout=10)
    for ingress in ingresses:
        ingress.close()
    store.close()
    log.info("ingress down")
    return 0
