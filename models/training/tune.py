"""A search for settings within a budget of time: fits are compared by the stopping slice.

The validation slice is not looked at: what is published afterwards is judged on points that had no
say in the choice. Trials are proposed by a tree-structured Parzen estimator (Bergstra et al., NIPS
2011; optuna) and cut off early where they fall behind the median of those before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import optuna
import torch

from models.data.dataset import Examples
from models.data.split import STOPPING
from models.errors import TrainingError
from models.fitting.batches import Batches
from models.fitting.config import SEARCH_SPACE, Choice
from models.fitting.fit import FitConfig, Progress, stopping_losses
from models.fitting.recipe import Sample, fit_network
from models.networks import convex
from models.serving.scorer import network_spec
from models.targets import Target

CONVEX_SETTINGS: Final = ("logistic_penalty",)
STARTUP_TRIALS: Final = 4


@dataclass(frozen=True)
class Trial:
    """One set of settings and what it led to."""

    number: int
    settings: dict[str, float | int]
    loss: float
    """On the stopping slice, summed over the targets; NaN where the fit failed."""
    seconds: float
    ended: str
    """"complete", "pruned" (behind the others), or "failed"."""


@dataclass(frozen=True)
class Tuned:
    """What a search found."""

    trials: tuple[Trial, ...]
    best: Trial
    config: FitConfig
    """The configuration with the best trial's settings."""


def tune(
    examples: Examples,
    targets: tuple[Target, ...],
    architecture: str,
    config: FitConfig,
    *,
    hidden_size: int,
    seconds: float,
    most: int = 1000,
    device: torch.device | None = None,
    report: Callable[[Trial], None] | None = None,
) -> Tuned:
    """Try settings until the time is up. The first trial is `config` as it is.

    Args:
        examples: labelled points.
        targets: what they are labelled with.
        architecture: what is fitted.
        config: where the search begins; settings that are not searched stay.
        hidden_size: width of the state.
        seconds: no trial begins after this time.
        most: trials, at most.
        device: where to fit; None: the CPU.
        report: called after each trial.

    Raises:
        TrainingError: no trial came to an end.
    """
    space = _space(architecture, config)
    study = optuna.create_study(
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=STARTUP_TRIALS),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=1),
    )
    study.enqueue_trial(_clipped(config, space))
    begun = time.monotonic()
    trials: list[Trial] = []
    while len(trials) < most and (not trials or time.monotonic() - begun < seconds):
        asked = study.ask()
        settings = {name: _suggest(asked, name, choice) for name, choice in space.items()}
        started = time.monotonic()
        ended, loss = "complete", float("nan")
        try:
            loss = _loss(
                examples,
                targets,
                architecture,
                replace(config, **settings),  # type: ignore[arg-type]  # the space has its fields
                hidden_size,
                device or torch.device("cpu"),
                asked,
            )
            study.tell(asked, loss)
        except optuna.TrialPruned:
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            ended = "pruned"
        except TrainingError:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            ended = "failed"
        trial = Trial(len(trials), settings, loss, time.monotonic() - started, ended)
        trials.append(trial)
        if report is not None:
            report(trial)
    complete = [trial for trial in trials if trial.ended == "complete"]
    if not complete:
        raise TrainingError(
            f"none of {len(trials)} trials of {architecture} came to an end: give more time, or "
            "lower train.learning_rate"
        )
    best = min(complete, key=lambda trial: trial.loss)
    chosen = replace(config, **best.settings)  # type: ignore[arg-type]  # as above
    return Tuned(tuple(trials), best, chosen)


def _space(architecture: str, config: FitConfig) -> dict[str, Choice]:
    """What is searched; a penalty that each fit chooses for itself is not."""
    if convex(architecture):
        return {name: SEARCH_SPACE[name] for name in CONVEX_SETTINGS}
    fixed = config.logistic_penalty is not None
    return {n: c for n, c in SEARCH_SPACE.items() if fixed or n not in CONVEX_SETTINGS}


def _clipped(config: FitConfig, space: dict[str, Choice]) -> dict[str, float | int]:
    """The settings of `config`, each within what is searched; the middle of what is not set."""
    found: dict[str, float | int] = {}
    for name, choice in space.items():
        given = getattr(config, name)
        start = (choice.low * choice.high) ** 0.5 if given is None else given
        value = float(np.clip(start, choice.low, choice.high))
        found[name] = round(value) if choice.whole else value
    return found


def _suggest(trial: optuna.Trial, name: str, choice: Choice) -> float | int:
    if choice.whole:
        return trial.suggest_int(name, int(choice.low), int(choice.high), log=choice.log)
    return trial.suggest_float(name, choice.low, choice.high, log=choice.log)


def _loss(
    examples: Examples,
    targets: tuple[Target, ...],
    architecture: str,
    config: FitConfig,
    hidden_size: int,
    device: torch.device,
    trial: optuna.Trial,
) -> float:
    """Loss on the stopping slice of a network fitted with these settings."""
    spec = network_spec(targets)
    stopping = examples.of_slice(STOPPING)
    sample = Sample.of_training(examples, config)
    best = float("inf")

    def judge(news: Progress) -> None:
        nonlocal best
        best = min(best, news.stopping_loss)
        trial.report(best, news.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = fit_network(
            architecture,
            spec,
            sample,
            stopping,
            config,
            device,
            hidden_size=hidden_size,
            report=judge,
        ).network
    held_out = Batches(examples, stopping, 256, torch.device("cpu"))
    return float(stopping_losses(network, held_out, examples).sum())


def as_toml(config: FitConfig, names: dict[str, Any]) -> str:
    """The searched settings as the [train] section of a settings file; unset ones are left out.

    Args:
        config: see there.
        names: field of `FitConfig` -> name of the setting.
    """
    values = {setting: getattr(config, name) for name, setting in names.items()}
    lines = [f"{setting} = {value!r}" for setting, value in values.items() if value is not None]
    return "\n".join(["[train]", *lines, ""])
