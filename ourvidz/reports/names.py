"""The names that people type: the reports, and by what they can be told."""

from enum import StrEnum


class Report(StrEnum):
    """What can be reported on."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"
    FAILURES = "failures"
    RETRIES = "retries"
    WORKERS = "workers"
    USERS = "users"
    MODELS = "models"
    CALLBACKS = "callbacks"
    COST = "cost"


class By(StrEnum):
    """What a report has a line for each of."""

    HOUR = "hour"
    DAY = "day"
    TYPE = "type"
    USER = "user"
    WORKER = "worker"

    @property
    def moment(self) -> str | None:
        """The unit of time, where it is one."""
        return self.value if self in (By.HOUR, By.DAY) else None

    @property
    def key(self) -> str | None:
        """The column of the facts, where it is one."""
        return {By.TYPE: "job_type", By.USER: "user_id", By.WORKER: "worker_id"}.get(self)


class Theme(StrEnum):
    """What a plot is drawn for."""

    LIGHT = "light"
    DARK = "dark"
