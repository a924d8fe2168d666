"""The loop: resumption, accumulation, its journal, and what it says when numbers break."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_fakes import FakeCriterion, FakeModel, FakeVideos
from torch import Tensor

from vislab.data.sampling import SamplingConfig, training_batch
from vislab.engine.checkpoint import Elapsed, TrainingState
from vislab.engine.config import TrainConfig
from vislab.engine.diagnose import TrainingError
from vislab.engine.optimizer import build_optimizer
from vislab.engine.progress import Silent
from vislab.engine.seeding import seed_torch
from vislab.engine.train import MicroBatch, accumulate_gradients, train, train_step
from vislab.structures import Batch, ModelOutput, Targets

VIDEOS = FakeVideos()
CONFIG = TrainConfig(
    steps=12, batch_size=2, learning_rate=0.01, clip_norm=1.0, checkpoint_every=4, log_every=5, warmup_steps=2
)


def load(part: MicroBatch) -> Batch:
    sampling = SamplingConfig(clip_length=2)
    return training_batch(VIDEOS, sampling, batch_size=part.size, seed=5, step=part.step, first_sample=part.first_clip)


def fresh_state(config: TrainConfig = CONFIG) -> TrainingState:
    seed_torch(5, "initial weights")
    model, criterion = FakeModel(), FakeCriterion()
    return TrainingState(model, criterion, build_optimizer(model, criterion, config))


class Watcher(Silent):
    """Remembers the losses and stops the run where it is told to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: list[float] = []
        self.stop_at = stop_at

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        assert stage == "train" and total == CONFIG.steps and loss is not None
        self.losses.append(loss)
        if step == self.stop_at:
            raise KeyboardInterrupt


class NoBoxes(FakeCriterion):
    def forward(self, output: ModelOutput, targets: list[Targets], mask_stride: int) -> dict[str, Tensor]:
        return {"class": output.pred_logits.square().mean()}


def run(folder: Path, watcher: Watcher, config: TrainConfig = CONFIG) -> tuple[dict[str, Tensor], Elapsed]:
    state = fresh_state(config)
    cpu = torch.device("cpu")
    elapsed = train(state, load, config, seed=5, folder=folder, device=cpu, watcher=watcher)
    return state.tensors(), elapsed


def log_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Watcher()
    expected, _ = run(tmp_path / "whole", whole)
    for stop_at in (2, 6, 7, 11):
        part = Watcher(stop_at)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", part)
    rest = Watcher()
    tensors, elapsed = run(tmp_path / "parts", rest)
    assert_same_bits(tensors, expected)
    assert rest.losses == whole.losses[8:] and elapsed.step == 12
    assert [line["step"] for line in log_lines(tmp_path / "parts")] == [5, 10, 12]


def test_training_learns_and_does_not_touch_what_is_frozen(tmp_path: Path) -> None:
    watcher = Watcher()
    tensors, _ = run(tmp_path, watcher)
    assert sum(watcher.losses[-3:]) < sum(watcher.losses[:3])
    before = fresh_state().tensors()
    unchanged = [name for name in before if torch.equal(tensors[name], before[name])]
    assert unchanged == ["model.frozen", "model.scale"]


def test_one_part_alone_learns(tmp_path: Path) -> None:
    config = replace(CONFIG, multipliers=(("box_head", 1.0), ("", 0.0)))
    tensors, _ = run(tmp_path, Watcher(), config)
    before = fresh_state().tensors()
    changed = [name for name in before if not name.startswith("optimizer") and not tensors[name].equal(before[name])]
    assert changed == ["model.box_head.weight", "model.box_head.bias"]


def test_clips_from_which_the_trained_part_learns_nothing_are_passed_over() -> None:
    state = fresh_state(replace(CONFIG, multipliers=(("box_head", 1.0), ("", 0.0))))
    batch = load(MicroBatch(3, 0, 2))
    state.criterion = NoBoxes()
    before = state.tensors()
    losses, norm = train_step(state, [batch], CONFIG, 5, 3)
    assert losses["class"] > 0 and norm == 0
    assert_same_bits(state.tensors(), before)


def test_a_model_that_reads_targets_is_told_of_them_and_of_frame_numbers() -> None:
    told = []

    class Curious(FakeModel):
        reads_targets = True

        def forward(  # type: ignore[override]
            self, images: Tensor, padding_mask: Tensor, targets: list[Targets], frame_numbers: Tensor
        ) -> ModelOutput:
            told.append((targets, frame_numbers))
            return super().forward(images, padding_mask)

    state, batch = fresh_state(), load(MicroBatch(3, 0, 2))
    state.model = Curious()
    accumulate_gradients(state, [batch], CONFIG, 5, 3)
    ((targets, numbers),) = told
    assert targets is batch.targets and numbers is batch.frame_numbers
    assert numbers.shape == (2, 2) and (numbers.diff() > 0).all()


def test_the_journal_averages_between_lines(tmp_path: Path) -> None:
    watcher = Watcher()
    _, elapsed = run(tmp_path, watcher)
    lines = log_lines(tmp_path)
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert lines[0]["loss"] == pytest.approx(sum(watcher.losses[:5]) / 5)
    assert lines[2]["loss"] == pytest.approx(sum(watcher.losses[10:]) / 2)
    assert set(lines[0]["losses"]) == {"class", "box", "mask", "contrastive"}
    assert sum(lines[1]["losses"].values()) == pytest.approx(lines[1]["loss"])
    assert lines[0]["learning_rate"] == 0.01 and lines[2]["learning_rate"] == pytest.approx(1e-4)
    assert 0 < lines[0]["seconds"] <= lines[2]["seconds"] == elapsed.seconds
    assert lines[0]["peak_memory_bytes"] > 2**20 and lines[0]["gradient_norm"] > 0


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Watcher(9))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    run(tmp_path, Watcher())
    assert [line["step"] for line in log_lines(tmp_path)] == [5, 10, 12]


def test_accumulation_is_the_mean_over_micro_batches() -> None:
    state = fresh_state()
    state.model.eval()
    batches = [load(MicroBatch(3, first, 1)) for first in (0, 1)]
    losses = accumulate_gradients(state, batches, CONFIG, 5, 3)
    together = {n: p.grad.clone() for n, p in state.model.named_parameters() if p.grad is not None}
    apart: dict[str, Tensor] = {}
    for batch in batches:
        state.model.zero_grad()
        found = state.criterion(state.model(batch.images, batch.padding_mask), batch.targets, 4)
        sum(found.values()).backward()
        for name in together:
            apart[name] = apart.get(name, 0) + state.model.get_parameter(name).grad / 2
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, apart[name])
    assert losses["box"].item() > 0


def test_micro_batches_cover_the_batch_and_resume_too(tmp_path: Path) -> None:
    config = replace(CONFIG, micro_batch=1)
    expected, _ = run(tmp_path / "whole", Watcher(), config)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", Watcher(6), config)
    tensors, _ = run(tmp_path / "parts", Watcher(), config)
    assert_same_bits(tensors, expected)
    wanted = load(MicroBatch(4, 0, 2)).images
    parts = torch.cat([load(MicroBatch(4, first, 1)).images for first in (0, 1)])
    assert torch.equal(wanted, parts)


def test_no_steps_leave_the_initial_weights(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=0, warmup_steps=0)
    tensors, elapsed = run(tmp_path, Watcher(), config)
    assert elapsed.step == 0 and log_lines(tmp_path) == []
    assert_same_bits(tensors, fresh_state(config).tensors())


def test_numbers_that_break_are_named_before_the_weights_are_touched(tmp_path: Path) -> None:
    state = fresh_state()

    def broken(part: MicroBatch) -> Batch:
        batch = load(part)
        batch.video_names = ["video1", "video2"]
        if part.step == 3:
            batch.images[0, 0, 0, 0, 0] = float("nan")
        return batch

    with pytest.raises(TrainingError) as error:
        train(state, broken, CONFIG, seed=5, folder=tmp_path, device=torch.device("cpu"), watcher=Watcher())
    assert "step 3" in str(error.value) and "video1, video2" in str(error.value)
    assert "the output of layer backbone (Conv2d)" in str(error.value) and "mask" in str(error.value)
    assert all(torch.isfinite(value).all() for value in state.tensors().values())
