"""What the columns of the daily rollups mean, and of the views that are to be read instead of them."""

from typing import Final

_ABOUT: Final = {
    "use": "what each user asked for, got and cost. A day has a row for whoever was at it",
    "output": "the same by job type",
    "failures": "jobs that ended as failed, and of what",
    "attempts": "attempts at stages that ended, added up",
    "durations": "how long things took, counted by rounded duration, so that percentiles over any days can be had",
    "callbacks": "requests to receivers",
    "models": "models that devices loaded or moved",
}

_DAY: Final = {"day": "2026-07-05, in UTC"}
_USER: Final = {"user_id": "the owner"}
_TYPE: Final = {"job_type": "one of the ten types; null where the payload named none"}
_ERROR: Final = {"error_class": "as in `jobs`", "error_type": "as in `jobs`"}
_WORK: Final = {
    "queued": "jobs that were admitted on the day",
    "completed": "jobs whose last run ended on the day, as completed",
    "failed": "as failed",
    "cancelled": "as cancelled",
    "assets": "pictures and videos of the completed ones",
    "bytes": "their size together",
    "device_seconds": "device time of the attempts that ended on the day",
    "wasted_seconds": "the part of it whose result nobody could go on from",
}
_COLUMNS: Final[dict[str, dict[str, str]]] = {
    "use": _DAY | _USER | _WORK,
    "output": _DAY | _TYPE | _WORK,
    "failures": _DAY | _USER | _TYPE | _ERROR | {"jobs": "jobs whose last run ended on the day, as failed"},
    "attempts": _DAY
    | _TYPE
    | {"worker_id": "who", "stage": "the stage", "outcome": "as in `job_attempts`"}
    | _ERROR
    | {
        "attempts": "how many ended on the day",
        "wait_seconds": "from due to begun, added up",
        "run_seconds": "from begun to ended, added up",
        "delay_seconds": "until the next attempt where one was scheduled, added up",
        "device_seconds": "on the device, added up",
        "wasted_seconds": "the part of them whose result nobody could go on from",
    },
    "durations": _DAY
    | _TYPE
    | {
        "measure": "until_outcome or until_started, of jobs that were completed on the day in their first run, from "
        "the queue on; wait, of every attempt that ended on the day; run, of those that succeeded",
        "stage": "of an attempt; null for what is of jobs",
        "ms": "milliseconds, rounded to what is right within 5 %: 10 to 20 in steps of 1, to 50 in steps of 2, to "
        "100 in steps of 5, and so on in each decade",
        "number": "how many took as long",
        "seconds": "their unrounded durations, added up",
    },
    "callbacks": _DAY
    | _TYPE
    | {
        "status": "what was told: processing, completed or failed",
        "delivered": "the receiver took it",
        "http_code": "what it answered; null where no answer came",
        "requests": "how many on the day",
        "repeated": "those that were not the first of their status and run",
        "seconds": "until the answers, added up",
    },
    "models": _DAY
    | {
        "worker_id": "who",
        "model": "the model variant",
        "kind": "model_loaded, or model_moved",
        "place": "device after a load; else where its parts went: device, host or released",
        "changes": "how many on the day",
        "seconds": "they took, added up",
        "bytes": "so much came into memory, or moved",
    },
}

TABLES: Final[dict[str, str]] = {
    **{
        f"daily_{name}": f"A view: per day, {about}. Right at any moment: days that are over are read from "
        f"`rollup_{name}`, others are counted. Days of which jobs were archived stay as they were before."
        for name, about in _ABOUT.items()
    },
    **{
        f"rollup_{name}": f"The rolled-up days of `daily_{name}`, which is to be read instead: it knows which of these "
        "rows are out of date."
        for name in _ABOUT
    },
    "rollup_state": "One row: how far days are rolled up.",
    "rollup_marks": "One row per write into a day that was over: that day is rolled up once more.",
    "rollup_spans": "A view: the times that the `daily_*` views count anew.",
}

_SPAN: Final = {"begins": "from then on", "ends": "until before then"}

COLUMNS: Final[dict[str, dict[str, str]]] = {
    **{f"{kind}_{name}": columns for kind in ("daily", "rollup") for name, columns in _COLUMNS.items()},
    "rollup_state": {
        "id": "1",
        "open_from": "days before this are rolled up",
        "open_until": "the end of time",
        "sealed_until": "days before this never change again: jobs of theirs were archived",
    },
    "rollup_marks": {"id": "a number", **_SPAN},
    "rollup_spans": _SPAN,
}
