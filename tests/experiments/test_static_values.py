"""Static cells are computed once, for the code as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import static_values as module
import taformer
from static_values import FILE, code_digest, static_values

import vislab
from vislab.records import RunStore
from vislab.study.declare import Paper

T3 = taformer.PAPER.table("T3")


class Counting:
    """Static values that say how often they were asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, config: Any) -> dict[str, float]:
        self.asked += 1
        return {"params_M": 0.1 + config.model.encoder.num_layers / 3, "frames": 5}


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def paper(counting: Counting) -> Paper:
    return replace(taformer.PAPER, static=counting)


@pytest.fixture
def fresh_digest() -> Iterator[None]:
    code_digest.cache_clear()
    yield
    code_digest.cache_clear()


def values(paper: Paper, store: RunStore) -> list[dict[str, float]]:
    return [dict(static_values(paper, T3, row, "tiny", store)) for row in T3.rows]


def test_values_are_those_of_the_paper_and_computed_once(paper: Paper, counting: Counting, tmp_path: Path) -> None:
    first = values(paper, RunStore(tmp_path))
    assert first == [paper.static(paper.configuration(T3, row, "tiny")) for row in T3.rows]
    asked = counting.asked
    assert values(paper, RunStore(tmp_path)) == first and counting.asked == asked
    assert isinstance(first[0]["frames"], int)


def test_scales_and_stores_are_told_apart(paper: Paper, counting: Counting, tmp_path: Path) -> None:
    row = T3.rows[0]
    for scale, store in (("tiny", "a"), ("paper", "a"), ("tiny", "b"), ("tiny", "a")):
        static_values(paper, T3, row, scale, RunStore(tmp_path / store))
    assert counting.asked == 3


def test_other_code_computes_anew(
    paper: Paper, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values(paper, RunStore(tmp_path))
    asked = counting.asked
    monkeypatch.setattr(module, "code_digest", lambda: "other")
    values(paper, RunStore(tmp_path))
    assert counting.asked == 2 * asked


def test_any_source_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_digest: None) -> None:
    found = [code_digest()]
    monkeypatch.setattr(vislab, "__file__", str(tmp_path / "__init__.py"))
    for text in ("a = 1", "a = 2"):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / "block.py").write_text(text)
        code_digest.cache_clear()
        found.append(code_digest())
    assert len(set(found)) == 3 and all(len(each) == 16 for each in found)


def test_a_store_that_cannot_be_written_to_does_no_harm(paper: Paper, counting: Counting, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    store = RunStore(tmp_path / "runs")
    assert values(paper, store) == values(paper, store)
    assert counting.asked == 2 * len(T3.rows) and not (tmp_path / FILE).exists()
