import pytest

from stream.config.problems import problems_of
from stream.config.settings import Settings


def said(tree):
    return [str(problem) for problem in problems_of(Settings, tree, lambda path: "")]


@pytest.mark.parametrize(
    ("tree", "ending"),
    [
        ({"worker": {"device": "cdua"}}, """'auto', 'cpu' or 'cuda'; did you mean "cuda"?"""),
        ({"train": {"intent": ["purchase", "cartt"]}}, '; did you mean "cart"?'),
        ({"worker": {"batch_size": 0}}, "; allowed: whole number, at least 1 and at most 65536"),
        ({"worker": {"stall_ms": "1d"}}, "; allowed: duration, at least 1s and at most 20s"),
        ({"worker": {"emit": "all"}}, "Input should be 'latest' or 'every'"),
        ({"worker": {"check_partitioner": "so"}}, "; allowed: true or false"),
        ({"churn": {"raise_at": 2}}, "; allowed: number, at least 0 and at most 1"),
        ({"data_dir": 5}, "; allowed: path"),
        ({"worker": 5}, "this is a section of settings: write [worker], and its settings below"),
        (
            {"train": {"intent_within": ["15m", "sesion"]}},
            'each one of "session" or at least 1s and at most 36500d, at least 1 of them',
        ),
    ],
)
def test_wrong_value_comes_with_what_is_allowed(tree, ending):
    (found,) = said(tree)
    assert found.endswith(ending)


def test_table_of_values_names_the_wrong_key():
    (found,) = said({"train": {"task_weights": {"purchas": 1}}})
    assert found.startswith("train.task_weights.purchas: ")
    (found,) = said({"train": {"task_weights": {"purchase": 0}}})
    assert found.startswith("train.task_weights.purchase: Input should be greater than 0")


def test_contradiction_is_found_beside_a_wrong_value():
    contradiction = {"security_protocol": "SSL", "ssl_keyfile": "key.pem"}
    wrong, contradicting = said({"kafka": {**contradiction, "sasl_mechanism": "MD5"}})
    assert wrong.startswith("kafka.sasl_mechanism: ")
    assert contradicting == "kafka: ssl_keyfile needs ssl_certfile"


@pytest.mark.parametrize(
    "section",
    [
        {"kafka": {"security_protocol": "SASL_SSL", "sasl_username": "u", "sasl_pasword": "p"}},
        {"churn": {"raise_at": 0.3, "resolve_at": "low"}},
        {"churn": {"raise_at": 0.3, "resolve": 0.1}},
    ],
)
def test_wrong_setting_is_not_reported_as_contradiction_too(section):
    assert len(said(section)) == 1


def test_no_message_has_a_value_of_a_secret():
    kafka = {"sasl_password": ["hunter2"], "sasl_pasword": "hunter2", "ssl_key_password": 5.25}
    text = " ".join(said({"kafka": kafka}))
    assert "kafka.ssl_key_password" in text
    assert "hunter2" not in text
    assert "5.25" not in text
