"""What an evaluation has predicted, video by video on disk, so that one that was cut off goes on with the next video.

Every process writes a file of its own each time the evaluation is begun: predicted-N-RANK.jsonl, a line that says what
the predictions are made from, and a line for each video. A torn line, and what follows it, does not count.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vislab.data import VideoDataset

__all__ = ["Beginning", "PredictedVideo", "PredictedVideos", "made_from"]


@dataclass(frozen=True)
class PredictedVideo:
    """index: in the data set. results: as YouTube-VIS has them. seconds: that it took, of which read_seconds passed
    until its frames were there. peak_memory_bytes: of the process so far."""

    index: int
    results: list[dict[str, Any]]
    seconds: float
    read_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Beginning:
    """number: how often the evaluation has been begun, this time included. done: videos that were predicted before, by
    index, and the wall-clock seconds that this took."""

    number: int
    done: frozenset[int]
    seconds: float


@dataclass(frozen=True)
class PredictedVideos:
    """The files in an evaluation's folder. source: see `made_from`; what was made from something else does not count.

    Call all of it but `writer` while no process writes.
    """

    folder: Path
    source: dict[str, str]

    def begin(self) -> Beginning:
        """Deletes the files that do not count."""
        done: set[int] = set()
        spent: defaultdict[int, float] = defaultdict(float)  # processes of a beginning work side by side
        for path in self._paths():
            videos = self._videos(path)
            if not videos:
                path.unlink()
                continue
            number = int(path.stem.split("-")[1])
            spent[number] = max(spent[number], sum(video.seconds for video in videos))
            done.update(video.index for video in videos)
        return Beginning(max(spent, default=0) + 1, frozenset(done), sum(spent.values()))

    @contextlib.contextmanager
    def writer(self, beginning: Beginning, rank: int) -> Iterator[Callable[[PredictedVideo], None]]:
        """What adds a video to this process's file."""
        with (self.folder / f"predicted-{beginning.number}-{rank}.jsonl").open("w", encoding="utf-8") as file:

            def add(record: dict[str, Any]) -> None:
                file.write(json.dumps(record) + "\n")
                file.flush()

            add(self.source)
            yield lambda video: add(asdict(video))

    def read(self) -> list[PredictedVideo]:
        """By index, rising."""
        videos = {video.index: video for path in self._paths() for video in self._videos(path)}
        return [videos[index] for index in sorted(videos)]

    def delete(self) -> None:
        for path in self._paths():
            path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("predicted-*-*.jsonl"))

    def _videos(self, path: Path) -> list[PredictedVideo]:
        source, *records = [*_records(path)] or [None]
        return [PredictedVideo(**record) for record in records] if source == self.source else []


def made_from(model: nn.Module, dataset: VideoDataset) -> dict[str, str]:
    """What predictions depend on beside the evaluation's settings: hashes of the weights, of the data and of this
    package's Python code."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy())
    return {"weights": digest.hexdigest(), "data": dataset.fingerprint(), "code": _code_digest()}


@functools.cache
def _code_digest() -> str:
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _records(path: Path) -> Iterator[Any]:
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return
