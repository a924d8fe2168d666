"""Which values a trial gets, and which trials are given up: optuna's samplers and pruners, by name."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

SAMPLERS = ("grid", "tpe", "nsga2", "gp", "random")
PRUNERS = ("none", "median", "hyperband")
STARTUP_TRIALS = 5  # random ones, before there is something to learn from
POPULATION = 10

warnings.filterwarnings("ignore", category=ExperimentalWarning)


def make_sampler(name: str, seed: int) -> BaseSampler:
    """A new one for every trial, seeded with its number: what it says depends on the trials so far and nothing else.

    Trials that run at the same time count as bad ones to TPE, so that it does not try the same twice.
    """
    if name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=POPULATION)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    assert name in ("grid", "random"), name  # a grid's values are fixed
    return RandomSampler(seed=seed)


def make_pruner(name: str, least: int, most: int) -> BasePruner:
    """least, most: training steps after which a trial is judged for the first time, and that a trial has in all.

    median: given up if worse than the median of the others after as many steps. hyperband: successive halving by
    three, in brackets that begin at different steps.
    """
    if name == "median":
        return MedianPruner(n_startup_trials=STARTUP_TRIALS)
    if name == "hyperband":
        return HyperbandPruner(min_resource=least, max_resource=most, reduction_factor=3)
    assert name == "none", name
    return NopPruner()
