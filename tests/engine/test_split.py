"""Who does which clips of a step."""

from __future__ import annotations

import pytest

from vislab.engine.config import TrainConfig
from vislab.engine.evaluate import shared_videos
from vislab.engine.split import split_step
from vislab.errors import UserError


def config(batch_size: int, micro_batch: int | None) -> TrainConfig:
    return TrainConfig(steps=4, batch_size=batch_size, micro_batch=micro_batch)


def possible() -> list[tuple[int, int | None, int]]:
    batches = [(size, micro) for size in range(1, 13) for micro in (None, *range(1, size + 1))]
    fitting = [(size, micro) for size, micro in batches if micro is None or size % micro == 0]
    return [(size, micro, processes) for size, micro in fitting for processes in range(1, 13) if size % processes == 0]


@pytest.mark.parametrize(("size", "micro", "processes"), possible())
def test_every_clip_is_done_once_and_all_do_as_much(size: int, micro: int | None, processes: int) -> None:
    """Whenever the number of processes divides the batch."""
    clips, whole = [], micro or size
    for rank in range(processes):
        split = split_step(config(size, micro), rank, processes)
        mine = split.micro_batches(3)
        assert sum(part.size for part in mine) == size // processes
        assert split.parts == 1 or whole // split.parts == split.size
        for number, part in zip(split.numbers, mine, strict=True):
            assert part.step == 3
            assert number * whole <= part.first_clip and part.first_clip + part.size <= (number + 1) * whole
            clips += range(part.first_clip, part.first_clip + part.size)
    assert sorted(clips) == list(range(size))


def test_neighbours_share_micro_batches_only_where_there_are_too_few() -> None:
    assert [split_step(config(16, 4), rank, 2).numbers for rank in range(2)] == [range(0, 2), range(2, 4)]
    shared = [split_step(config(16, 4), rank, 8) for rank in range(8)]
    assert [list(split.numbers) for split in shared] == [[0], [0], [1], [1], [2], [2], [3], [3]]
    assert [(split.part, split.first, split.size) for split in shared[:2]] == [(0, 0, 2), (1, 2, 2)]


def test_uneven_shares() -> None:
    sizes = [split_step(config(7, None), rank, 3).size for rank in range(3)]
    assert sorted(sizes) == [2, 2, 3]


@pytest.mark.parametrize(("size", "micro", "processes"), [(1, None, 2), (3, 1, 2), (4, 2, 3), (4, None, 5)])
def test_too_many_processes(size: int, micro: int | None, processes: int) -> None:
    with pytest.raises(UserError, match=f"train.batch_size is {size}.* {processes} processes"):
        split_step(config(size, micro), 0, processes)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_every_video_is_predicted_once(processes: int) -> None:
    lengths = [5, 1, 9, 9, 2, 0]
    shares = [shared_videos(lengths, rank, processes) for rank in range(processes)]
    assert sorted(sum(shares, [])) == list(range(6))
    assert all(share == sorted(share) for share in shares)
    longest = max(sum(lengths[index] for index in share) for share in shares)
    assert longest <= max(9, sum(lengths) / processes + 4)
