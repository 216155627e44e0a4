"""Logs: one JSON object a line where no terminal is, and never a secret."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from ourvidz.logs import set_up


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the logs go; afterwards logging is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_json_lines_carry_their_keys(out: io.StringIO) -> None:
    set_up("auto", "info", stream=out)
    structlog.get_logger().bind(job="7f3a", token=3).info("stage started", stage="generating")
    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "stage started", "job": "7f3a", "token": 3, "stage": "generating", "level": "info"}


def test_the_standard_librarys_loggers_come_out_in_the_same_form(out: io.StringIO) -> None:
    set_up("json", "info", stream=out)
    logging.getLogger("workers.engine_process").warning("engine process %d is gone", 7)
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"]) == ("engine process 7 is gone", "warning")


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_secrets_are_masked_in_every_form(out: io.StringIO, log_format: str) -> None:
    set_up(log_format, "info", stream=out)
    log = structlog.get_logger()
    log.info("at redis://u:s3cret@h", url="https://h/a.png?token=s3cret", authorization="Bearer s3cret-s3cret")
    log.info("nested", answer={"service_key": "s3cret", "head": ["Bearer s3cret-s3cret"]})
    try:
        raise ValueError("postgresql://u:s3cret@h/db")
    except ValueError:
        log.exception("failed")
    assert "s3cret" not in out.getvalue()
    assert "ValueError" in out.getvalue()


def test_the_level_holds_and_a_second_call_replaces_the_first(out: io.StringIO) -> None:
    set_up("json", "debug", stream=io.StringIO())
    set_up("json", "warning", stream=out)
    structlog.get_logger().info("quiet")
    logging.getLogger("x").info("quiet")
    structlog.get_logger().warning("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]
