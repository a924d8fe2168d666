"""The weights that a scale's rows start from: trained once, written as one file, known by its SHA-256."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from processes import check_shares
from rich.console import Console
from safetensors.torch import load_file

from vislab.engine.checkpoint import save_tensors
from vislab.engine.config import InitialWeights, RunConfig, file_sha256
from vislab.errors import UserError
from vislab.records import RunStore, write_json
from vislab.study.declare import Paper, Pretraining
from vislab.study.display import display_for
from vislab.study.launch import launch
from vislab.study.plan import Job


def make_weights(paper: Paper, scale: str, store: RunStore, device: str, console: Console, processes: int = 1) -> int:
    """Run the pre-training of a scale, unless the store holds it, and write its weights. Returns the exit code.

    Before it, what else rows of the paper start from is made where the file is missing, and so are earlier phases.
    """
    own = paper.pretraining.phases(scale) if paper.pretraining is not None else []
    if not own:
        raise UserError(f"--pretrain: {paper.key} starts afresh at scale {scale}; there is nothing to pre-train")
    if scale == "paper":
        raise UserError(
            "--pretrain --scale paper: needs COCO and a backbone from ImageNet, and vislab has neither; put weights at "
            f"{own[-1].weights(scale)}, a state dict of the model as safetensors, such as load_official makes"
        )
    others = [row.pretraining for table in paper.tables for row in table.rows if row.pretraining is not None]
    for phases in (*(other.phases(scale) for other in others), own):
        for before, phase in zip((None, *phases), phases, strict=False):
            if phase is own[-1] or not phase.weights(scale).exists():
                code = _make(paper, before, phase, scale, store, device, console, processes)
                if code:
                    return code
    return 0


def _make(
    paper: Paper,
    before: Pretraining | None,
    phase: Pretraining,
    scale: str,
    store: RunStore,
    device: str,
    console: Console,
    processes: int,
) -> int:
    run, target = phase.run(scale), phase.weights(scale)
    if before is not None:
        run = replace(run, init=InitialWeights.of(before.weights(scale)))
    if store.result(run.train_key, run.eval_key) is None:
        check_shares([run.train] if store.trained(run.train_key) is None else [], processes)
        job = Job(run.train_key, f"{paper.key} pre-training, {target.stem}", run.data.name, run.seed, (run,))
        with display_for([job], console) as display:
            outcome = launch([job], store, display, device=device, parallel=1, processes=processes)
        if outcome.interrupted or outcome.failed:
            return 130 if outcome.interrupted else 1
    sha256 = publish(run, store, target, f"reproduce_table.py {paper.key} --pretrain --scale {scale}")
    console.print(f"{target}\nsha256 {sha256}", highlight=False, soft_wrap=True)
    return 0


def publish(run: RunConfig, store: RunStore, target: Path, command: str) -> str:
    """Write a run's weights to `target` in half precision (a start needs no more, and the file is half as large), and
    beside it a JSON file that says what made them. Returns the SHA-256."""
    weights = load_file(store.train_dir(run.train_key) / "weights.safetensors")
    save_tensors(target, {name: tensor.half() for name, tensor in weights.items()})
    sha256 = file_sha256(target)
    result = store.result(run.train_key, run.eval_key)
    assert result is not None
    record = {
        "sha256": sha256,
        "command": command,
        "train_key": run.train_key,
        "steps": run.train.steps,
        "train_minutes": round(result["train_seconds"] / 60, 2),
        "metrics": result["metrics"],
    }
    write_json(target.with_suffix(".json"), record)
    return sha256
