"""What --over means, and the runs that points of a space are."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sweep_cases import DIMENSIONS, base

from vislab.blocks.fusion import AdditionConfig
from vislab.errors import UserError
from vislab.study.declare import Dimension
from vislab.study.sweep_space import Space, parsed_space
from vislab.study.sweep_values import Choices, Range

FUSION = "model.encoder.fusion"


def parsed(*over: str, **more: Dimension) -> Space:
    return parsed_space(over, DIMENSIONS | more, base())


@pytest.mark.parametrize(
    "over",
    [
        ("k_inter=1..3,top_k=5,10,train.learning_rate=1e-4..1e-3:log", f"{FUSION}=AdditionConfig,concatenation"),
        ("k_inter=1..3", "top_k=5,10", "train.learning_rate=1e-4..1e-3:log", f"{FUSION}=addition,ConcatenationConfig"),
        (f"k_inter=1..3 , top_k = 5, 10, train.learning_rate=1e-4..1e-3:log,{FUSION}=Addition,Concatenation",),
    ],
)
def test_names_and_values_are_separated_by_commas(over: tuple[str, ...]) -> None:
    found = {axis.name: axis.values for axis in parsed(*over).axes}
    assert found == {
        "k_inter": Range(1, 3, whole=True),
        "top_k": Choices((5, 10)),
        "train.learning_rate": Range(1e-4, 1e-3, whole=False, log=True),
        FUSION: Choices(("AdditionConfig", "ConcatenationConfig")),
    }


def test_names_alone_have_the_values_that_are_declared_or_that_the_type_suggests() -> None:
    space = parsed("k_inter,queries,model.temporal_position,top_k=5")
    assert [str(axis.values) for axis in space.axes] == ["1..4", "5,10,15", "index,normalised,none", "5"]
    assert space.describe()["k_inter"] == "model.encoder.temporal.num_points 1..4"


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ("k_intr", "no dimension 'k_intr' (did you mean k_inter?); there are k_inter, queries"),
        ("speed", "no dimension 'speed'; there are k_inter, queries"),
        ("k_inter=1,2,spped", "'spped' is no value of 'model.encoder.temporal.num_points', which takes int"),
        ("model.encoder.temporal.points=1", "has num_points, window"),
        ("k_inter=6..1", "is empty"),
        ("k_inter=", "expected values"),
        ("", "expected names"),
        ("k_inter,k_inter=2", "k_inter and k_inter both set"),
        ("k_inter,model.encoder.temporal.num_points=2", "both set model.encoder.temporal.num_points"),
        ("train.batch_size=0,1", "--over train.batch_size=0: train.batch_size is 0, expected 1 or more"),
        ("model.hidden_dim=30", "--over model.hidden_dim=30: "),  # what only building the model finds
        ("model.encoder.spatial.levels", "suggests no values"),
    ],
)
def test_mistakes_get_one_sentence(over: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        parsed(over)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_point_is_a_run() -> None:
    space = parsed(f"{FUSION}=AdditionConfig,DynamicAttentionFusionConfig,k_inter,train.learning_rate=0.1,0.2")
    run = space.configure({FUSION: "AdditionConfig", "k_inter": 3, "train.learning_rate": 0.2})
    assert run.model.encoder.fusion == AdditionConfig()  # type: ignore[union-attr]
    assert run.model.encoder.temporal.num_points == 3 and run.train.learning_rate == 0.2  # type: ignore[union-attr]
    same = space.configure({FUSION: "DynamicAttentionFusionConfig", "k_inter": 4, "train.learning_rate": 0.1})
    assert same.model == base().model  # so that it is the run of a table, too


def test_a_dimension_may_change_several_paths_and_another_axis_overrules_it() -> None:
    def both(count: int) -> dict[str, Any]:
        return {"evaluation.top_k": count, "model.num_queries": 2 * count}

    linked = Dimension("evaluation.top_k", "5,10", both)
    space = parsed("linked", linked=linked)
    run = space.configure({"linked": 10})
    assert (run.evaluation.top_k, run.model.num_queries) == (10, 20)  # type: ignore[union-attr]
    for order in ("linked,queries", "queries,linked"):
        run = parsed(order, linked=linked).configure({"linked": 10, "queries": 5})
        assert (run.evaluation.top_k, run.model.num_queries) == (10, 5)  # type: ignore[union-attr]


def test_values_that_do_not_go_together_are_refused_when_their_turn_comes() -> None:
    space = parsed("train.batch_size=2,4,train.micro_batch=2,4")
    with pytest.raises(UserError, match="micro_batch is 4, expected a divisor of train.batch_size 2"):
        space.configure({"train.batch_size": 2, "train.micro_batch": 4})
    assert len(space.cells() or ()) == 4


def test_cells_of_a_grid_each_once_and_shared_trainings_apart() -> None:
    space = parsed("top_k,k_inter=1..3")
    cells = space.cells()
    assert cells is not None and sorted(map(str, cells)) == sorted({str(cell) for cell in cells}) and len(cells) == 6
    keys = [space.configure(cell).train_key for cell in cells]
    assert len(set(keys[:3])) == 3 and keys[:3] == keys[3:]  # top_k acts at inference only
    assert parsed("train.learning_rate=0.1..0.2").cells() is None


def test_distributions() -> None:
    space = parsed("k_inter,top_k,train.learning_rate=1e-4..1e-3:log,model.temporal_position")
    assert [axis.distribution() for axis in space.axes] == [
        IntDistribution(1, 4),
        CategoricalDistribution((5, 10)),
        FloatDistribution(1e-4, 1e-3, log=True),
        CategoricalDistribution(("index", "normalised", None)),
    ]
