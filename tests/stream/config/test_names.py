import pytest

from stream.config.problems import problems_of
from stream.config.settings import Settings


def said(tree):
    return [str(problem) for problem in problems_of(Settings, tree, lambda path: "")]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"worker": {"batchsize": 1}}, "worker.batchsize: ...; did you mean worker.batch_size?"),
        ({"workers": {"device": "cpu"}}, "workers: ...; did you mean worker?"),
        ({"worker": {"raise_at": 0.5}}, "worker.raise_at: ...; did you mean churn.raise_at?"),
        ({"raise_at": 0.5}, "raise_at: ...; did you mean churn.raise_at?"),
        (
            {"batch_size": 5},
            "batch_size: ...; did you mean worker.batch_size or train.batch_size?",
        ),
        ({"worker": {"app_id": "a"}}, "worker.app_id: ...; did you mean app_id?"),
        ({"kafka": {"sasl": {}}}, "kafka.sasl: ...; `intentstream config reference` lists all"),
        ({"zzz": 1}, "zzz: ...; `intentstream config reference` lists all"),
    ],
)
def test_unknown_setting_comes_with_the_nearest_name(tree, message):
    (found,) = said(tree)
    assert found.startswith(message.replace("...", "unknown setting"))
