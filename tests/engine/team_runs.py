"""Teams of processes that share runs. Run by test_team.py: python team_runs.py FOLDER SCENARIO

Forks the processes, so that torch is imported once. Prints what came out, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # what the first optimiser would import in every fork  # noqa: F401
import torch.distributed as dist
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from engine_runs import MODEL, small_run

from vislab.data import load_dataset
from vislab.data.sampling import SamplingConfig, training_batch
from vislab.engine import Silent, execute
from vislab.engine.checkpoint import TrainingState
from vislab.engine.config import RunConfig, TrainConfig
from vislab.engine.optimizer import build_optimizer
from vislab.engine.seeding import seed_torch
from vislab.engine.split import Steps, split_step
from vislab.engine.team import current_team, join_team, leave_team
from vislab.engine.train import MicroBatch, accumulate_gradients, train
from vislab.errors import UserError
from vislab.losses.contrastive import ContrastiveConfig
from vislab.losses.criterion import CriterionConfig
from vislab.records import RunStore
from vislab.structures import Batch, Targets

STEPS = 20
CONFIG = TrainConfig(
    steps=STEPS, batch_size=4, learning_rate=3e-3, clip_norm=1.0, checkpoint_every=8, log_every=5, warmup_steps=2
)


def in_team(size: int, work: Callable[[Path], Any], folder: Path) -> list[Any]:
    """What `work` returns, or how it fails, in each of so many processes."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        pids = [_fork(rank, size, work, folder, Path(place)) for rank in range(size)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert not any(codes), f"processes ended with {codes}"
        return [json.loads(Path(place, f"rank{rank}.json").read_text()) for rank in range(size)]


def _fork(rank: int, size: int, work: Callable[[Path], Any], folder: Path, place: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        torch.set_num_threads(1)
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
        if size > 1:
            join_team(dist.FileStore(str(place / "store"), size))
        Path(place, f"rank{rank}.json").write_text(json.dumps(work(folder)))
        leave_team()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


class Watcher(Silent):
    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: list[float] = []
        self.stop_at = stop_at

    def update(self, stage: str, step: int, total: int, *, loss: float | None = None) -> None:
        if stage == "train" and loss is not None:
            self.losses.append(loss)
        if step == self.stop_at:
            raise KeyboardInterrupt


def training(
    config: TrainConfig = CONFIG, stop_at: int | None = None, broken: bool = False
) -> Callable[[Path], dict[str, Any]]:
    """A training on clips of several sizes, so that batches are padded, with losses that are divided by all kinds of
    counts; in a broken one, clip 2 of step 3 is not finite."""
    run = small()
    criterion_config = CriterionConfig(contrastive=ContrastiveConfig(channels=MODEL.hidden_dim))

    def work(folder: Path) -> dict[str, Any]:
        seed_torch(5, "initial weights")
        model, criterion = run.model.build(), criterion_config.build()
        state = TrainingState(model, criterion, build_optimizer(model, criterion, config))
        sampling, dataset = SamplingConfig(clip_length=2, short_sides=(32, 40)), load_dataset(run.data, "train")
        order: list[tuple[int, int, str]] = []

        def load(part: MicroBatch) -> Batch:
            batch = training_batch(
                dataset, sampling, batch_size=part.size, seed=5, step=part.step, first_sample=part.first_clip
            )
            order.extend((part.step, part.first_clip + i, name) for i, name in enumerate(batch.video_names))
            if broken and part.step == 3 and part.first_clip <= 2 < part.first_clip + part.size:
                batch.images[2 - part.first_clip] = float("nan")
            return batch

        watcher, error = Watcher(stop_at), ""
        try:
            train(state, load, config, seed=5, folder=folder, device=torch.device("cpu"), watcher=watcher)
        except KeyboardInterrupt:
            pass
        except UserError as failure:
            error = str(failure)
        return {"losses": watcher.losses, "order": order, "error": error}

    return work


def small(steps: int = 3, **changes: Any) -> RunConfig:
    run = small_run(steps)
    data = replace(run.data, num_videos=5)
    return replace(
        run,
        model=replace(MODEL, dropout=0.0),
        data=data,
        train=replace(run.train, batch_size=4, **changes),
        evaluation=replace(run.evaluation, data=data),
    )


def executed(run: RunConfig) -> Callable[[Path], dict[str, Any]]:
    def work(folder: Path) -> dict[str, Any]:
        result = execute(run, RunStore(folder), "cpu", Silent(), threads=1)
        return {"record": result.record, "trained": result.trained, "evaluated": result.evaluated}

    return work


def losses(folder: Path) -> dict[str, Any]:
    """Any number of processes, also one that does not divide the batch, with and without micro batches."""
    short = replace(CONFIG, steps=3)
    found = {f"whole {size}": in_team(size, training(short), folder / f"whole{size}") for size in (1, 2, 3)}
    for size in (1, 4):
        found[f"halves {size}"] = in_team(size, training(replace(short, micro_batch=2)), folder / f"halves{size}")
    found["broken"] = in_team(2, training(replace(CONFIG, steps=4), broken=True), folder / "broken")
    return found


def twenty(folder: Path) -> dict[str, Any]:
    """Twenty steps."""
    return {str(size): in_team(size, training(), folder / str(size)) for size in (1, 2, 4)}


def resumed(folder: Path) -> dict[str, Any]:
    """One training by two processes, then four, then one."""
    config = replace(CONFIG, steps=6, checkpoint_every=2, log_every=2)
    found = {"whole": in_team(1, training(config), folder / "whole")}
    for size, stop_at in ((2, 3), (4, 5), (1, None)):
        found[str(size)] = in_team(size, training(config, stop_at), folder / "parts")
    return found


def evaluated(folder: Path) -> dict[str, Any]:
    """A whole run by one process and by two, and another evaluation of the first by one and by three."""
    run = small()
    found = {str(size): in_team(size, executed(run), folder / str(size)) for size in (1, 2)}
    other = replace(run, evaluation=replace(run.evaluation, top_k=7))
    found["more 1"] = in_team(1, executed(other), folder / "1")
    store = RunStore(folder / "1")
    aside = store.eval_dir(other.train_key, other.eval_key)
    aside.rename(folder / "aside")
    found["more 3"] = in_team(3, executed(other), folder / "1")
    found["files"] = [str(folder / "aside" / "predictions.json"), str(aside / "predictions.json")]
    return found


class Picky(nn.Module):
    """Uses one of four parameters: that which the image names."""

    mask_stride = 4

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ParameterList(torch.full((2,), index + 1.0) for index in range(4))

    def forward(self, images: Tensor, padding_mask: Tensor) -> Tensor:
        index = int(images.flatten()[0])
        return self.parts[index].square().sum() if index >= 0 else images.new_ones(())


class Total(nn.Module):
    def forward(self, output: Tensor, targets: list[Targets], mask_stride: int) -> dict[str, Tensor]:
        return {"total": output}


def unused(folder: Path) -> dict[str, Any]:
    """Gradients of parameters that only some of the four micro batches use; -1: one that uses none."""

    def gradients(used: tuple[int, ...]) -> Callable[[Path], Any]:
        def work(_: Path) -> Any:
            team, config = current_team(), replace(CONFIG, batch_size=4, micro_batch=1)
            model, criterion = Picky(), Total()
            state = TrainingState(model, criterion, torch.optim.SGD(model.parameters()))
            split = split_step(config, team.rank, team.size)
            mine = [torch.full((1, 1, 3, 4, 4), float(used[number])) for number in split.numbers]
            batches = [Batch(each, torch.zeros(1, 4, 4, dtype=torch.bool), torch.tensor([[4, 4]])) for each in mine]
            steps, found = Steps(model, criterion, split, team), []
            for step in range(2):
                accumulate_gradients(state, batches, config, 0, step, steps)
                found.append([None if part.grad is None else part.grad.tolist() for part in model.parts])
            return found

        return work

    patterns = ((0, 1, 0, 1), (0, 1, 1, 0), (0, 0, 1, 2), (0, 0, 0, -1), (-1, -1, 3, 3), (-1, -1, -1, -1))
    return {f"{used} {size}": in_team(size, gradients(used), folder / "unused") for used in patterns for size in (1, 2)}


def models(folder: Path) -> dict[str, Any]:
    """Two steps of every paper's model, by one process and by two."""
    import devis
    import ifr
    import refinevis
    import taformer
    import tevit

    from vislab.study.plan import on_dataset

    found = {}
    for module in (taformer, ifr, devis, tevit, refinevis):
        run = on_dataset(module.PAPER.base("smoke"), "synthetic-ytvis19")
        run = replace(run, train=replace(run.train, steps=2, batch_size=2, warmup_steps=0))
        for size in (1, 2):
            place = folder / f"{module.__name__}{size}"
            in_team(size, executed(run), place)
            (log,) = place.glob("*/metrics.jsonl")
            found[f"{module.__name__} {size}"] = [json.loads(line)["losses"] for line in log.read_text().splitlines()]
    return found


if __name__ == "__main__":
    root = Path(sys.argv[1])
    scenario = {each.__name__: each for each in (losses, twenty, resumed, unused, evaluated, models)}[sys.argv[2]]
    root.mkdir(parents=True, exist_ok=True)
    print(json.dumps(scenario(root)))
