import asyncio
import json
import logging
from pathlib import Path

import pytest
import structlog
from aiokafka.protocol.admin import SaslAuthenticateRequest_v0

from stream.errors import SettingsError
from stream.logs import configure_logging

# Put together, since tracebacks show lines of source.
SECRET = f"hunter{2}"


def fail(options):
    password = options["password"]
    raise ValueError(f"refused after {len(password)} letters")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("logger", [structlog.get_logger, lambda: logging.getLogger("library")])
def test_a_traceback_comes_without_the_values_of_variables(capsys, logger, as_json):
    configure_logging("debug", as_json=as_json)
    try:
        fail({"password": SECRET})
    except ValueError:
        logger().exception("it crashed")
    said = capsys.readouterr().err
    assert "ValueError: refused after 7 letters" in said
    assert "it crashed" in said
    assert SECRET not in said
    if as_json:
        assert json.loads(said.splitlines()[0])["event"] == "it crashed"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("nan"), None),
        (2**70, 2**70),
        ("name\udcff", "name\udcff"),
        ({1: "key"}, {"1": "key"}),
        (Path("log"), repr(Path("log"))),
    ],
)
def test_any_value_of_a_log_line_becomes_json(capsys, value, written):
    configure_logging("info", as_json=True)
    structlog.get_logger().info("read", value=value)
    assert json.loads(capsys.readouterr().err)["value"] == written


def test_what_authenticates_a_client_is_left_out(capsys):
    configure_logging("debug")
    request = SaslAuthenticateRequest_v0(SECRET.encode())
    logging.getLogger("aiokafka.conn").debug("Request to %s: %s", "kafka-1", request)
    said = capsys.readouterr().err
    assert "Request to kafka-1: SaslAuthenticateRequest_v0" in said
    assert SECRET not in said


def test_a_task_that_was_told_to_end_has_no_traceback(capsys):
    configure_logging("info")
    logging.getLogger("mode").error("crashed", exc_info=asyncio.CancelledError())
    said = capsys.readouterr().err
    assert "crashed" in said
    assert "Traceback" not in said


def test_libraries_are_heard_from_warning_on_and_not_all_the_time(capsys):
    configure_logging("info")
    library = logging.getLogger("library")
    for number in range(3):
        library.info("step %d", number)
        library.warning("no broker, attempt %d", number)
    said = capsys.readouterr().err
    assert "step" not in said
    assert said.count("no broker") == 1


def test_levels_have_names():
    with pytest.raises(SettingsError, match="take one of debug, info"):
        configure_logging("loud")
