"""detectron2's model files: arrays are read, everything else is refused."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from vislab.errors import UserError
from vislab.models.official.pickled_arrays import read_pickled_arrays

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "flag": np.array(True),
    "count": np.arange(3),
}


def write(path: Path, content: object, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_back(protocol: int, tmp_path: Path) -> None:
    wrapped = {"model": OrderedDict(ARRAYS), "__author__": "somebody"}
    for name, content in (("plain.pkl", ARRAYS), ("wrapped.pkl", wrapped)):
        state = read_pickled_arrays(write(tmp_path / name, content, protocol))
        assert state.keys() == ARRAYS.keys()
        for key, tensor in state.items():
            torch.testing.assert_close(tensor, torch.tensor(ARRAYS[key].tolist()).to(tensor.dtype))
            assert tensor.numpy().dtype == ARRAYS[key].dtype


def test_an_old_numpys_module_names(tmp_path: Path) -> None:
    content = pickle.dumps(ARRAYS, protocol=3).replace(b"numpy._core.", b"numpy.core.")
    (tmp_path / "old.pkl").write_bytes(content)
    assert read_pickled_arrays(tmp_path / "old.pkl").keys() == ARRAYS.keys()


class RunsCode:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_no_code_of_a_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "evil.pkl", {"model": ARRAYS, "extra": RunsCode()})
    with pytest.raises(UserError, match=r"evil.pkl cannot be read without running code from it: it refers to pathlib"):
        read_pickled_arrays(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": {"a": "text"}}, {"a": np.array(["text"])}, {"a": np.array([1, None])}, 3]
)
def test_what_is_no_state_dict(content: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no state dict"):
        read_pickled_arrays(write(tmp_path / "odd.pkl", content))


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.pkl", ARRAYS)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="cut.pkl cannot be read"):
        read_pickled_arrays(path)
    with pytest.raises(UserError, match="nowhere.pkl cannot be read: No such file"):
        read_pickled_arrays(tmp_path / "nowhere.pkl")
