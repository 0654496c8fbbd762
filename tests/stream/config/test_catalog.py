import re

import pytest

from stream.config.catalog import settings_of
from stream.config.settings import Settings

SETTINGS = {setting.name: setting for setting in settings_of(Settings)}


def test_every_setting_says_what_it_does():
    assert [name for name, one in SETTINGS.items() if len(one.description) < 10] == []
    assert [name for name, one in SETTINGS.items() if not one.description.endswith(".")] == []


def test_every_number_has_a_unit():
    numbers = ("number", "whole number", "duration", "table of numbers")
    lacking = [name for name, one in SETTINGS.items() if one.kind in numbers and not one.unit]
    assert lacking == ["train.task_weights"]  # weights are relative to each other


def test_every_type_has_a_word():
    words = {one.kind for one in SETTINGS.values()}
    assert [word for word in words if re.search(r"[^a-z ]", word)] == []


def test_what_is_named_like_a_secret_is_one():
    secret = {name for name, one in SETTINGS.items() if one.secret}
    named = {
        name
        for name, one in SETTINGS.items()
        if re.search(r"password|token|secret|pseudonym_key$", name) and not name.endswith("_file")
    }
    assert secret == named
    assert {f"{name}_file" for name in secret} <= set(SETTINGS)


@pytest.mark.parametrize(
    ("name", "kind", "unit", "allowed", "default"),
    [
        ("app_id", "text", "", "text that matches ^[a-zA-Z0-9._-]{1,200}$", "intentstream"),
        ("worker.batch_size", "whole number", "records", "at least 1 and at most 65536", 4096),
        ("worker.stall_ms", "duration", "ms", "at least 1s and at most 20s", 20_000),
        ("worker.http_port", "whole number", "port", "at least 0 and at most 65535", None),
        ("worker.emit", "text", "", 'one of "latest", "every"', "latest"),
        ("churn.target_precision", "number", "fraction", "above 0 and below 1", None),
        ("churn.holdout_share", "number", "fraction", "at least 0 and at most 1", 0.1),
        ("train.rank", "list of texts", "", 'each one of "category", "item"', ()),
        ("models.trusted_keys", "list of paths", "", "", ()),
        ("kafka.sasl_password", "secret text", "", "", None),
        ("models.require_signature", "true or false", "", "", None),
    ],
)
def test_types_limits_and_defaults_are_the_models(name, kind, unit, allowed, default):
    one = SETTINGS[name]
    assert (one.kind, one.unit, one.allowed, one.default) == (kind, unit, allowed, default)
    assert one.variable == f"INTENTSTREAM_{name.upper().replace('.', '__')}"
