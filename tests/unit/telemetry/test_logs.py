"""A line of the log: an event with fields, ids from the context, no secret; JSON or for people."""

import io
import logging
from collections.abc import Iterator

import orjson
import pytest
from pydantic import SecretStr

from dataaggregator.settings import Settings
from dataaggregator.telemetry import logs, traces

log = logs.get("dataaggregator.test")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """A stream to log to; the root logger is as before afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)


def test_a_json_line_has_event_fields_and_ids(written: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), written)
    with traces.continue_from(None, "test") as trace, logs.run_context("run-1"):
        log.bind(service="auth").info(
            "run_started", attempt=2, url="postgresql://u:hunter2@h/d", key=SecretStr("hunter2")
        )
    line = orjson.loads(written.getvalue())
    assert line["event"] == "run_started"
    assert line["level"] == "info"
    assert line["time"].endswith("Z")
    assert (line["trace_id"], line["run_id"]) == (trace.trace_id, "run-1")
    assert (line["service"], line["attempt"]) == ("auth", 2)
    assert "hunter2" not in written.getvalue()


def test_outside_of_call_and_run_there_are_no_ids(written: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), written)
    log.info("started")
    assert set(orjson.loads(written.getvalue())) == {"time", "level", "logger", "event"}


def test_a_bug_is_told_with_its_stack_and_without_secrets(written: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), written)
    try:
        raise ValueError("postgresql://u:hunter2@h/d")
    except ValueError as error:
        log.bug("it_broke", error, part="x")
        log.exception("again")
    first, second = (orjson.loads(line) for line in written.getvalue().splitlines())
    for line in (first, second):
        assert "ValueError" in line["error"]
        assert "Traceback" in line["error"]
    assert "hunter2" not in written.getvalue()


def test_for_people_a_line_stays_a_line_whatever_is_in_it(written: io.StringIO) -> None:
    logs.configure(Settings(log_format="console"), written)
    log.warning("odd", text="a\nb\r\nc", name="x", empty="")
    assert written.getvalue().count("\n") == 1
    assert r"text=a\nb\r\nc" in written.getvalue()
    assert "name=x" in written.getvalue()


def test_what_is_below_the_level_is_not_written(written: io.StringIO) -> None:
    logs.configure(Settings(log_level="warning"), written)
    log.info("quiet")
    log.debug("quiet")
    assert written.getvalue() == ""


def test_configuring_again_does_not_write_twice_and_others_lines_are_redacted_too(written: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), written)
    logs.configure(Settings(log_format="json"), written)
    logging.getLogger("some.library").warning("cannot reach %s", "amqp://u:hunter2@h")
    assert written.getvalue().count("\n") == 1
    assert "hunter2" not in written.getvalue()
    logging.getLogger("some.library").info("chatter")
    assert written.getvalue().count("\n") == 1


def test_fields_named_like_parts_of_a_line_do_not_replace_them(written: io.StringIO) -> None:
    logs.configure(Settings(log_format="json"), written)
    log.info("started", time="noon", event_="x")
    assert orjson.loads(written.getvalue())["event"] == "started"
