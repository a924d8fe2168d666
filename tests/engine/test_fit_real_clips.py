"""Real video goes through the whole pipeline: a tiny model learns two real clips almost by heart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vislab.data import DatasetConfig
from vislab.data.sampling import SamplingConfig
from vislab.engine.config import EvalConfig, InitialWeights, RunConfig, TrainConfig
from vislab.engine.progress import Silent
from vislab.engine.run import execute
from vislab.losses.criterion import CriterionConfig
from vislab.models.presets import seqformer
from vislab.records import RunStore

WEIGHTS = Path(__file__).parents[2] / "experiments" / "weights" / "seqformer-tiny.safetensors"
CLIPS = {"bear": range(0, 28, 5), "car-turn": range(14, 40, 5)}  # six frames each


def write_clips(source: Path, target: Path, clips: dict[str, Sequence[int]]) -> None:
    """Copies chosen frames of chosen videos, with their annotations, to a data set of its own."""
    document = json.loads((source / "instances.json").read_text())
    videos, annotations = [], []
    for video in document["videos"]:
        frames = clips.get(Path(video["file_names"][0]).parent.name)
        if frames is None:
            continue
        names = [video["file_names"][t] for t in frames]
        videos.append({**video, "length": len(names), "file_names": names})
        for name in names:
            (target / "JPEGImages" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / "JPEGImages" / name, target / "JPEGImages" / name)
        for entry in document["annotations"]:
            if entry["video_id"] == video["id"]:
                per_frame = {key: [entry[key][t] for t in frames] for key in ("segmentations", "bboxes", "areas")}
                annotations.append({**entry, **per_frame, "length": len(names)})
    used = {entry["category_id"] for entry in annotations}
    categories = [category for category in document["categories"] if category["id"] in used]
    content = {"videos": videos, "categories": categories, "annotations": annotations}
    (target / "instances.json").write_text(json.dumps(content))


def fitting_run(data: Path) -> RunConfig:
    """A minute on one core, from the shipped weights; no augmentation: the clips themselves are to be learned."""
    dataset = DatasetConfig(f"{data}+whole")
    return RunConfig(
        model=replace(seqformer("tiny"), num_classes=len(CLIPS)),
        criterion=CriterionConfig(),
        train=TrainConfig(
            steps=150, batch_size=2, learning_rate=4e-4, backbone_multiplier=1.0, schedule="cosine", warmup_steps=10,
        ),
        data=dataset,
        sampling=SamplingConfig(clip_length=2, clip_stride=3, short_sides=(128,), flip=0.0),
        evaluation=EvalConfig(dataset, short_side=128),
        init=InitialWeights.of(WEIGHTS),
    )  # fmt: skip


@pytest.mark.slow
def test_a_tiny_model_fits_two_real_clips(real_data: Path, tmp_path: Path) -> None:
    write_clips(real_data / "real-mini", tmp_path / "data", CLIPS)
    result = execute(fitting_run(tmp_path / "data"), RunStore(tmp_path / "runs"), "cpu", Silent(), threads=1)
    assert result.record["n_videos"] == 2
    assert result.metrics["AP"] is not None and result.metrics["AP"] >= 0.8, result.metrics
