"""Linear fits choose the penalty of each target by later points of other users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.data.dataset import Examples
from models.data.split import STOPPING, TRAIN
from models.evaluate import F64
from models.fitting import linear
from models.fitting.config import FitConfig
from models.fitting.linear import PENALTIES, Penalties, fit_blend, fit_logistic
from models.fitting.recipe import aged
from models.fitting.stopping import calibrated_losses
from models.networks.logistic import Logistic
from models.serving.scorer import network_spec
from tests.models.fitting.small import TARGETS, small_examples

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Target 0 follows from how two columns differ that are nearly the same, target 1 is a coin.

    A strong penalty gives both columns one weight, and no calibration makes up for that; it costs
    little where many columns tell the same.
    """
    found = small_examples(200)
    rng = np.random.default_rng(3)
    profile = found.profile.copy()
    size = len(profile)
    differ = rng.normal(size=size)
    # The last two, which no process of purchases reads.
    profile[:, -2] = rng.normal(size=size)
    profile[:, -1] = profile[:, -2] + 0.5 * differ
    labels = np.stack([rng.random(size) < 1 / (1 + np.exp(-3 * differ)), rng.random(size) < 0.4])
    return replace(found, profile=profile, labels=labels.T.astype(np.float32))


def fit(examples: Examples, *, seed_from: Penalties = (), fixed: float | None = None) -> Logistic:
    network = Logistic(network_spec(TARGETS))
    fit_logistic(
        network,
        examples,
        examples.of_slice(TRAIN),
        FitConfig(logistic_penalty=fixed),
        stopping=examples.of_slice(STOPPING),
        penalties=seed_from,
    )
    return network


def losses(network: Logistic, examples: Examples) -> F64:
    points = examples.of_slice(STOPPING)
    with torch.inference_mode():
        logits = network.heads(
            network.initial(len(points)), torch.from_numpy(examples.profile[points])
        )
    return calibrated_losses(logits.numpy(), examples.labels[points])


def test_each_target_has_the_penalty_that_suits_it(examples: Examples) -> None:
    network = Logistic(network_spec(TARGETS))
    train, stopping = examples.of_slice(TRAIN), examples.of_slice(STOPPING)
    signal, coin = fit_logistic(network, examples, train, FitConfig(), stopping=stopping)
    assert {signal, coin} <= set(PENALTIES)
    assert signal < PENALTIES[0]
    strongest = losses(fit(examples, fixed=PENALTIES[0]), examples)
    chosen = losses(network, examples)
    assert chosen[0] < strongest[0] - 0.02
    assert chosen[1] < strongest[1] + 0.01


def test_the_strongest_of_equals_is_chosen(examples: Examples) -> None:
    silent = replace(examples, profile=np.zeros_like(examples.profile))
    network = Logistic(network_spec(TARGETS))
    found = fit_logistic(
        network, silent, silent.of_slice(TRAIN), FitConfig(), stopping=silent.of_slice(STOPPING)
    )
    assert found == (PENALTIES[0], PENALTIES[0])


def test_fewer_labels_have_penalties_as_much_larger(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A penalty is a prior, which weighs the same against a quarter of the labels four times over.

    The path over the earlier half of the points of half of the users ends where the path over all
    of them begins to be judged, so both try the same priors.
    """
    tried: dict[int, list[list[float]]] = {}
    solve = linear._Problem.__call__

    def noted(problem: linear._Problem, penalties: list[float]) -> None:
        tried.setdefault(len(problem.profile), []).append(list(penalties))
        solve(problem, penalties)

    monkeypatch.setattr(linear._Problem, "__call__", noted)
    train, stopping = examples.of_slice(TRAIN), examples.of_slice(STOPPING)
    fit_logistic(Logistic(network_spec(TARGETS)), examples, train, FitConfig(), stopping=stopping)
    few, all_of_them = sorted(tried)
    assert all_of_them == len(train)
    assert few < 0.4 * len(train)
    assert [one[0] for one in tried[all_of_them]] == list(PENALTIES)
    early, _ = linear._halves(examples, train)
    for column in range(len(TARGETS)):
        known = ~np.isnan(examples.labels[:, column])
        for ours, theirs in zip(tried[few], tried[all_of_them], strict=True):
            prior = ours[column] * known[early].sum()
            assert prior == pytest.approx(theirs[column] * known[train].sum())


def test_given_penalties_lead_to_the_weights_that_chose_them(examples: Examples) -> None:
    network = Logistic(network_spec(TARGETS))
    train, stopping = examples.of_slice(TRAIN), examples.of_slice(STOPPING)
    chosen = fit_logistic(network, examples, train, FitConfig(), stopping=stopping)
    again = fit(examples, seed_from=chosen)
    assert torch.allclose(again.linear.weight, network.linear.weight, atol=0.05)
    assert losses(again, examples) == pytest.approx(losses(network, examples), abs=2e-3)


def test_a_blend_chooses_for_itself(examples: Examples) -> None:
    train, stopping = examples.of_slice(TRAIN), examples.of_slice(STOPPING)
    spec = network_spec(TARGETS)
    _, penalties = fit_blend(spec, examples, train, FitConfig(), stopping=stopping)
    assert len(penalties) == len(TARGETS)
    _, fixed = fit_blend(spec, examples, train, FitConfig(logistic_penalty=0.5))
    assert fixed == (0.5, 0.5)


def test_nothing_to_choose_by_is_an_error(examples: Examples) -> None:
    network = Logistic(network_spec(TARGETS))
    with pytest.raises(ValueError, match="chosen by later points of other users"):
        fit_logistic(network, examples, examples.of_slice(TRAIN), FitConfig())


def test_older_examples_weigh_less_in_a_fit(examples: Examples) -> None:
    train = examples.of_slice(TRAIN)
    now = examples.now[train]
    weight = aged(examples, train, 0.25).weight
    factor = weight[train] / examples.weight[train]
    assert factor[now == now.max()] == pytest.approx(1)
    assert factor[now == now.min()] == pytest.approx(0.25)
    half = np.abs(now - (now.max() + now.min()) / 2).argmin()
    assert factor[half] == pytest.approx(0.5, rel=0.01)
    assert (np.diff(factor[np.argsort(now, kind="stable")]) >= -1e-6).all()
    others = np.delete(np.arange(len(examples)), train)
    assert np.array_equal(weight[others], examples.weight[others])
    assert np.array_equal(aged(examples, train, 1.0).weight, examples.weight)
    # All of one time: nothing is older, and nothing is divided by.
    same = replace(examples, now=np.zeros_like(examples.now))
    assert np.array_equal(aged(same, train, 0.25).weight, same.weight)
    assert aged(examples, train[:0], 0.25) is examples


def test_a_shop_that_changed_is_fitted_to_what_it_is_now(examples: Examples) -> None:
    """In the earlier half of the time 1 in 10 buys, in the later half 6 in 10."""
    train = examples.of_slice(TRAIN)
    late = examples.now[train] > np.median(examples.now[train])
    rng = np.random.default_rng(1)
    labels = examples.labels.copy()
    labels[train] = (rng.random(len(train)) < np.where(late, 0.6, 0.1))[:, None]
    # Profiles without time, and a weight of 1 each.
    profile = rng.normal(size=examples.profile.shape).astype(np.float32)
    weight = np.ones_like(examples.weight)
    shop = replace(examples, labels=labels, profile=profile, weight=weight)
    config = FitConfig(logistic_penalty=0.1)
    rates = []
    for given in (shop, aged(shop, train, 0.25)):
        network = Logistic(network_spec(TARGETS))
        fit_logistic(network, given, train, config)
        with torch.inference_mode():
            logits = network.heads(network.initial(len(train)), torch.from_numpy(profile[train]))
        rates.append(float(torch.sigmoid(logits).mean()))
    assert rates[0] == pytest.approx(0.35, abs=0.02)
    assert 0.4 < rates[1] < 0.5
