"""How much of a sweep's outcome each axis decides."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from optuna import Study
from optuna.exceptions import OptunaError
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

TOGETHER = "together"


Shares = dict[str, float]  # axis -> percent


def importances(study: Study, names: Sequence[str], trials: Sequence[FrozenTrial]) -> tuple[list[Shares], str]:
    """For each objective the share of each axis in percent, largest first; and how it was found.

    Where the complete trials fill a grid, once each: how the variance divides among the axes alone and what only their
    combinations explain. Elsewhere PED-ANOVA (Watanabe et al., IJCAI 2023): what the best quarter of the trials has in
    common. Empty where there are too few trials, and of a single axis, which decides everything.
    """
    if len(names) < 2:
        return [{} for _ in study.directions], ""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    points = [trial.params for trial in complete]
    if fills_grid(points, names):
        values = np.array([trial.values for trial in complete], float)
        return [variance_shares(points, column, names) for column in values.T], "share of the variance, %"
    found = []
    for index, direction in enumerate(study.directions):
        sign = -1.0 if direction.name == "MAXIMIZE" else 1.0  # with a target, less counts as better
        enough = len(complete) >= 4 and len({trial.values[index] for trial in complete}) > 1
        found.append(_ped_anova(study, names, index, sign) if enough else {})
    return found, "PED-ANOVA importance, %"


def fills_grid(points: Sequence[Mapping[str, object]], names: Sequence[str]) -> bool:
    """Whether every combination of the values that occur is there exactly once, and there are several."""
    if len(points) < 2:
        return False
    cells = {tuple(point[name] for name in names) for point in points}
    sizes = [len({point[name] for point in points}) for name in names]
    return len(cells) == len(points) == int(np.prod(sizes))


def variance_shares(points: Sequence[Mapping[str, object]], values: np.ndarray, names: Sequence[str]) -> Shares:
    """Main effects of a full grid: variance of the means over everything else, in percent of all; the rest is what the
    axes do `TOGETHER`. values: (n,). Empty if they are all equal."""
    total = float(values.var())
    if not total > 0:
        return {}
    shares = {}
    for name in names:
        column = [point[name] for point in points]
        means = {value: values[[other == value for other in column]].mean() for value in set(column)}
        if len(means) > 1:
            shares[name] = 100 * float(np.var([means[value] for value in column])) / total
    together = 100 - sum(shares.values())
    shares = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return shares | ({TOGETHER: max(0.0, together)} if len(shares) > 1 else {})


def _ped_anova(study: Study, names: Sequence[str], index: int, sign: float) -> Shares:
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25)
    try:
        with warnings.catch_warnings(action="ignore"):  # that less counts as better
            shares = get_param_importances(
                study, evaluator=evaluator, params=list(names), target=lambda trial: sign * trial.values[index]
            )
    except (ValueError, RuntimeError, OptunaError):  # too few different trials
        return {}
    return {name: 100 * share for name, share in shares.items()}
