"""How processes start each other: `python -m ourvidz.processes up|ingress|worker|supervisor --parent PID`."""

import argparse
import signal
import sys

import structlog

from ourvidz import settings as settings_module
from ourvidz.layers import SettingsError
from ourvidz.logs import set_up
from ourvidz.processes import ingress, supervisor, up, worker
from statemachine.errors import StatemachineError
from workers.lifeline import die_with_parent


def main() -> int:
    """Run one of the processes; end when the parent does."""
    parser = argparse.ArgumentParser(prog="python -m ourvidz.processes")
    parser.add_argument("process", choices=("up", "ingress", "worker", "supervisor"))
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--device")
    parser.add_argument("--tell", type=int, help="the descriptor by which `up` hears how the process is")
    arguments = parser.parse_args()
    parent, tell = arguments.parent, arguments.tell
    die_with_parent(parent, signal.SIGTERM)
    try:
        settings = settings_module.load()
        set_up(settings.log_format, settings.log_level)
        match arguments.process:
            case "up":
                return up.main(settings)
            case "ingress":
                return ingress.main(settings, parent=parent, tell=tell)
            case "supervisor":
                return supervisor.main(settings, parent=parent, tell=tell)
            case _:
                return worker.main(settings, device=arguments.device, parent=parent, tell=tell)
    except (SettingsError, StatemachineError) as error:
        structlog.get_logger().error("cannot run", reason=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
