"""A run store made by hand: runs that found some of the objects of a few synthetic videos, with all that they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vislab.config import to_dict
from vislab.data import DatasetConfig, load_dataset
from vislab.metrics.video_ap import match
from vislab.records import RunStore, write_json

DATA = DatasetConfig("synthetic-ytvis19", num_videos=4, height=48, width=64, length=3, num_categories=3)
KEYS = ("aaaa000000000000", "aaaa111111111111", "bbbb000000000000")  # two seeds of a model, and another model
EVAL = "eeee"


def make_store(root: Path) -> RunStore:
    store = RunStore(root)
    for key, seed, temporal in zip(KEYS, (0, 1, 0), ("<none>", "<none>", "TemporalMSDAConfig"), strict=True):
        make_run(store, key, seed, temporal)
    return store


def make_run(store: RunStore, key: str, seed: int, temporal: str) -> None:
    """A finished run. temporal: what tells models apart."""
    folder = store.train_dir(key)
    evaluation = {"type": "EvalConfig", "data": to_dict(DATA), "split": "valid"}
    config = {
        "type": "RunConfig", "model": {"type": "SeqFormerConfig", "temporal": {"type": temporal}, "hidden_dim": 32},
        "train": {"type": "TrainConfig", "steps": 4}, "evaluation": evaluation,
        "init": {"type": "InitialWeights", "path": f"/weights/of/{key}"}, "seed": seed, "scale": "smoke",
    }  # fmt: skip
    write_json(folder / "config.json", config)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(step(n, seed)) + "\n" for n in (2, 4)) + '{"step": 5, "lo')
    environment = {"python": "3.11", "packages": {"torch": "2.13"}, "git": {"sha": "c0ffee" * 6, "dirty": True}}
    trained = {"train_key": key, "steps": 4, "train_seconds": 90.0, "parameters": 1234, "weights_sha256": "ab" * 32}
    write_json(folder / "trained.json", trained | {"data_fingerprint": "feed"})
    write_json(folder / "eval" / EVAL / "config.json", evaluation)
    evaluate(
        folder / "eval" / EVAL,
        {"train_key": key, "seed": seed, "env": environment},
        skip=3 if temporal == "<none>" else 0,
    )


def evaluate(folder: Path, record: dict[str, Any], skip: int) -> None:
    """Predictions that are right, without the first `skip` objects, and what is measured of them."""
    dataset = load_dataset(DATA, "valid")
    truth = dataset.ground_truth()
    found = [
        {"video_id": each["video_id"], "category_id": each["category_id"], "score": 0.9 - 0.01 * number,
         "segmentations": each["segmentations"]}
        for number, each in enumerate(truth["annotations"][skip:])
    ]  # fmt: skip
    write_json(folder / "predictions.json", found)
    matches = match(truth, found)
    matches.save(folder / "matches.npz")
    costs = {"train_seconds": 90.0, "eval_seconds": 6.0, "peak_memory_bytes": 2**30}
    known = {"eval_key": EVAL, "metrics": {"AP": matches.summary()["AP"]}, "data_fingerprint": dataset.fingerprint()}
    write_json(folder / "result.json", record | known | costs)


def step(number: int, seed: int) -> dict[str, Any]:
    """A line of metrics.jsonl: the loss of the last layer is 10 / step, and one more for each seed."""
    losses = {"dice": 10 / number + seed, "dice/aux0": 1.0, "dice/aux1": 2.0}
    return {"step": number, "loss": sum(losses.values()), "losses": losses, "learning_rate": 4e-4 / number,
            "gradient_norm": 1.0, "seconds": 1.0, "peak_memory_bytes": 1}  # fmt: skip
