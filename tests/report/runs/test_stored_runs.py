"""Runs of a store: found by key or folder, seeds of one model put together, models told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_store import EVAL, KEYS, make_store

from vislab.errors import UserError
from vislab.records import RunStore, write_json
from vislab.report.runs.stored_runs import StoredRun, differences, find_runs, grouped


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return make_store(tmp_path_factory.mktemp("runs"))


def test_a_run_is_found_by_key_by_folder_and_by_its_evaluation(store: RunStore) -> None:
    folder = store.train_dir(KEYS[2])
    for name in (KEYS[2], "bbbb", str(folder), str(folder / "eval" / EVAL)):
        (run,) = find_runs([name], store.root)
        assert (run.train_key, run.eval_key, run.seed, run.dataset) == (KEYS[2], EVAL, 0, "synthetic-ytvis19")
    assert len(find_runs(["bbbb", str(folder)], store.root)) == 1, "named twice"


@pytest.mark.parametrize(
    ("name", "said"), [("zzzz", "zzzz: no such run"), ("aaaa", "2 keys in .* begin so, such as aaaa0.* and aaaa1")]
)
def test_what_names_no_run_or_several_is_refused(name: str, said: str, store: RunStore) -> None:
    with pytest.raises(UserError, match=said):
        find_runs([name], store.root)


def test_seeds_are_one_group_and_groups_are_labelled_by_what_differs(store: RunStore) -> None:
    groups = grouped(find_runs([KEYS[1], KEYS[2], KEYS[0]], store.root))
    assert [[run.train_key for run in group.runs] for group in groups] == [[KEYS[0], KEYS[1]], [KEYS[2]]]
    assert [group.label for group in groups] == ["temporal <none>", "temporal TemporalMSDA"]
    (alone,) = grouped(find_runs(["bbbb"], store.root))
    assert alone.label == "SeqFormer"


def test_differences_name_a_slot_by_its_type_and_leave_out_its_inside() -> None:
    filled = {"model": {"slot": {"type": "A", "width": 3}, "depth": 1}, "seed": 0, "init": {"path": "/here"}}
    empty = {"model": {"slot": None, "depth": 2}, "seed": 1, "init": {"path": "/there"}}
    assert differences([filled, empty]) == {"model.slot.type": ["A", None], "model.depth": [1, 2]}


def test_an_unfinished_run_stands_for_itself_and_knows_what_failed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    folder = store.eval_dir(KEYS[2], EVAL)
    (folder / "result.json").unlink()
    write_json(folder / "failure.json", {"error": "the loss is not finite"})
    (run,) = find_runs(["bbbb"], tmp_path)
    assert run == StoredRun(run.store, KEYS[2])
    assert run.result is None and run.failures == ["the loss is not finite"]
