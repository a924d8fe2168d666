"""How much each axis decides: variance of a grid, against closed forms; PED-ANOVA elsewhere."""

from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest

from vislab.study.sweep_importance import TOGETHER, fills_grid, importances, variance_shares

NAMES = ("a", "b")
GRID = [{"a": a, "b": b} for a, b in itertools.product((0, 1, 2), ("x", "y"))]


def study_of(points: list[dict[str, object]], values: list[list[float]]) -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"][: len(values[0])])
    kinds = {"a": optuna.distributions.IntDistribution(0, 9), "b": optuna.distributions.CategoricalDistribution("xyz")}
    for point, value in zip(points, values, strict=True):
        study.add_trial(optuna.trial.create_trial(params=point, distributions=kinds, values=value))
    return study


def test_main_effects_that_add_up_leave_nothing_together() -> None:
    values = np.array([3.0 * point["a"] + (5.0 if point["b"] == "x" else 0.0) for point in GRID])  # type: ignore[operator]
    shares = variance_shares(GRID, values, NAMES)
    of_a, of_b = 9 * 2 / 3, 25 / 4
    assert shares == pytest.approx(
        {"a": 100 * of_a / (of_a + of_b), "b": 100 * of_b / (of_a + of_b), TOGETHER: 0}, abs=1e-9
    )
    assert list(shares) == ["b", "a", TOGETHER]


def test_what_only_combinations_explain() -> None:
    """An exclusive or has no main effects."""
    square = [{"a": a, "b": b} for a, b in itertools.product((0, 1), (0, 1))]
    assert variance_shares(square, np.array([0.0, 1.0, 1.0, 0.0]), NAMES)[TOGETHER] == pytest.approx(100)
    assert variance_shares(square, np.ones(4), NAMES) == {}


def test_shares_of_random_grids_are_those_of_anova() -> None:
    """Sums of squares from the fitted means, effect by effect, as textbooks have them."""
    values = np.random.default_rng(0).normal(size=(3, 2))
    grand = values.mean()
    squares = {"a": 2 * ((values.mean(1) - grand) ** 2).sum(), "b": 3 * ((values.mean(0) - grand) ** 2).sum()}
    total = ((values - grand) ** 2).sum()
    shares = variance_shares(GRID, values.ravel(), NAMES)
    for name, square in squares.items():
        assert shares[name] == pytest.approx(100 * square / total)
    assert shares[TOGETHER] == pytest.approx(100 * (total - sum(squares.values())) / total)


def test_grids() -> None:
    assert fills_grid(GRID, NAMES) and fills_grid(GRID[::-1], NAMES)
    assert not fills_grid(GRID[:-1], NAMES) and not fills_grid([*GRID, GRID[0]], NAMES) and not fills_grid([], NAMES)


def test_a_grid_is_judged_by_its_variance_for_every_objective() -> None:
    study = study_of(GRID, [[float(point["a"]), float(point["b"] == "x")] for point in GRID])  # type: ignore[arg-type]
    found, label = importances(study, NAMES, study.trials)
    assert label == "share of the variance, %"
    assert found[0]["a"] == pytest.approx(100) and found[1]["b"] == pytest.approx(100)


def test_other_spaces_are_judged_by_what_good_trials_share() -> None:
    rng = np.random.default_rng(0)
    points = [{"a": int(rng.integers(10)), "b": str(rng.choice(list("xyz")))} for _ in range(60)]
    study = study_of(points, [[float(point["a"])] for point in points])  # type: ignore[arg-type]
    (found,), label = importances(study, NAMES, study.trials)
    assert label == "PED-ANOVA importance, %" and found["a"] > 90 and sum(found.values()) == pytest.approx(100)
    equal = study_of(points, [[1.0]] * 60)
    assert importances(equal, NAMES, equal.trials)[0] == [{}]
    assert importances(study, NAMES, study.trials[:2])[0] in ([{}], [{"a": 100.0}])


def test_a_single_axis_has_no_share() -> None:
    study = study_of([{"a": a, "b": "x"} for a in range(3)], [[1.0, 0.0], [2.0, 1.0], [5.0, 2.0]])
    assert importances(study, ("a",), study.trials) == ([{}, {}], "")
