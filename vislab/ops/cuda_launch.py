"""What a launch of a CUDA kernel of deform_attn consists of: build, grid, shared memory and arguments.

Nothing here needs a device. The structures mirror kernels/deform_attn/arguments.cuh, the layout of a warp element.cuh.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Levels = tuple[tuple[int, int], ...]
Frames = tuple[tuple[int, ...], ...]

# As element.cuh numbers them.
ELEMENTS = {torch.float32: ("float32", 32), torch.float16: ("float16", 16), torch.bfloat16: ("bfloat16", 116)}
FAST_CHANNELS = (8, 16, 32, 64)
PARTS = {"forward": 1, "backward": 2, "deterministic": 4}
TABLE_CAPACITY = 768
SHARED_LIMIT = 48 * 1024
LARGEST_GRID = 2**31 - 1
ENOUGH_BLOCKS = 512  # about four per multiprocessor of a large GPU


class _Divider(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("divisor", "multiplier", "shift")]


class Arguments(ctypes.Structure):
    """`Arguments` of arguments.cuh, field by field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("value", "coordinates", "scores", "upstream", "reference", "output")),
        *((name, ctypes.c_void_p) for name in ("grad_value", "grad_coordinates", "grad_scores", "kept", "peaks")),
        ("table_in_memory", ctypes.c_void_p),
        ("reference_strides", ctypes.c_int64 * 4),
        *((name, ctypes.c_int64) for name in ("queries", "query_blocks", "blocks")),
        *((name, ctypes.c_int32) for name in ("batch", "frames", "tokens", "heads", "channels", "sources", "levels")),
        *((name, ctypes.c_int32) for name in ("points", "run", "points_per_row")),
        *((name, _Divider) for name in ("by_run", "by_points")),
        ("reference_size", ctypes.c_int32),
        ("half_over_points", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("location_gradients", "scratch_bytes", "contributions_exponent")),
        ("table", ctypes.c_int32 * TABLE_CAPACITY),
    ]


class TableArguments(ctypes.Structure):
    """`TableArguments` of arguments.cuh."""

    _fields_ = [
        ("table", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("first", "count")),
        ("entries", ctypes.c_int32 * TABLE_CAPACITY),
    ]


class PeakArguments(ctypes.Structure):
    """`PeakArguments` of arguments.cuh."""

    _fields_ = [("numbers", ctypes.c_void_p), ("count", ctypes.c_int64), ("peak", ctypes.c_void_p)]


class SettleArguments(ctypes.Structure):
    """`SettleArguments` of arguments.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("sums", "gradient")),
        ("count", ctypes.c_int64),
        ("peaks", ctypes.c_void_p),
        ("contributions_exponent", ctypes.c_int32),
    ]


class Variant(NamedTuple):
    """What is fixed when a kernel is compiled."""

    dtype: torch.dtype
    channels: int  # 0: any number
    part: str

    @property
    def name(self) -> str:
        return f"deform_attn-{ELEMENTS[self.dtype][0]}-d{self.channels or 'any'}-{self.part}"

    @property
    def defines(self) -> dict[str, int]:
        return {
            "VISLAB_ELEMENT": ELEMENTS[self.dtype][1],
            "VISLAB_CHANNELS": self.channels,
            "VISLAB_PARTS": PARTS[self.part],
        }


class Launch(NamedTuple):
    """One kernel launch; `tensors` are all the memory that it may touch."""

    variant: Variant
    kernel: str
    grid: int
    block: int
    shared_bytes: int
    arguments: ctypes.Structure
    tensors: tuple[Tensor, ...]


Launcher = Callable[[Launch], None]


def variant_for(value: Tensor, part: str) -> Variant:
    return Variant(value.dtype, value.shape[-1] if value.shape[-1] in FAST_CHANNELS else 0, part)


def point(arguments: Arguments, **tensors: Tensor | None) -> tuple[Tensor, ...]:
    """Point fields to tensors of the same names; returns those that are not None."""
    for name, tensor in tensors.items():
        setattr(arguments, name, 0 if tensor is None else tensor.data_ptr())
    return tuple(tensor for tensor in tensors.values() if tensor is not None)


def arguments_for(value: Tensor, reference: Tensor | None, scores: Tensor) -> Arguments:
    """Sizes and what follows from them; no pointers yet."""
    batch, num_frames, tokens, heads, channels = value.shape
    queries, sources, num_levels, points = scores.shape[2], *scores.shape[4:]
    arguments = Arguments(queries=queries, batch=batch, frames=num_frames, tokens=tokens, heads=heads)
    arguments.channels, arguments.sources, arguments.levels, arguments.points = channels, sources, num_levels, points
    arguments.run, arguments.points_per_row = num_levels * points, sources * num_levels * points
    arguments.by_run, arguments.by_points = divider(num_levels * points), divider(points)
    # How often a pixel can be touched: each point once; the weights of a softmax sum to 1 (or a rounding more).
    contributions = num_frames * queries * (2 if reference is not None else sources * points)
    arguments.contributions_exponent = (contributions - 1).bit_length()
    if reference is not None:
        arguments.reference_strides[:] = reference.stride()[:4]
        arguments.reference_size, arguments.half_over_points = reference.shape[-1], 0.5 / points
    return arguments


def divider(divisor: int) -> _Divider:
    """`Divider` of arguments.cuh: exact for 0 <= n < 2^31, since the reciprocal's error times n stays below one."""
    shift = 31 + (divisor - 1).bit_length()
    return _Divider(divisor, -(-(2**shift) // divisor), shift)


class RowGrid(NamedTuple):
    """How the rows are shared out; `keeps`: shared memory holds one number for each point of a row."""

    blocks: int
    warps: int
    scratch_bytes: int  # of one warp
    keeps: bool


def row_grid(variant: Variant, arguments: Arguments, kept_points: int = 0) -> RowGrid:
    """A warp takes consecutive queries of one head, a block consecutive warps: fewer where that leaves few blocks.

    `kept_points`: of a row, a number for each of which is to be kept in shared memory if there is room.
    """
    rows, slots, pitch = _warp_layout(variant)
    maps = arguments.batch * arguments.frames * arguments.heads
    blocks = {warps: maps * -(-arguments.queries // (warps * rows)) for warps in (8, 4, 2, 1)}
    warps = next((count for count in (8, 4, 2) if blocks[count] >= ENOUGH_BLOCKS), 1)
    prepared, kept = 24 * slots, 4 * pitch * kept_points
    keeps = _round_up(prepared + kept) * warps <= SHARED_LIMIT
    return RowGrid(blocks[warps], warps, _round_up(prepared + kept * keeps), keeps)


def launch_rows(
    launch: Launcher,
    variant: Variant,
    kernel: str,
    arguments: Arguments,
    grid: RowGrid,
    tables: tuple[Levels, Frames],
    tensors: tuple[Tensor, ...],
) -> None:
    """Launch a kernel that works on rows; `tensors` is what `arguments` points to."""
    arguments.blocks, arguments.scratch_bytes = grid.blocks, grid.scratch_bytes
    arguments.query_blocks = grid.blocks // (arguments.batch * arguments.frames * arguments.heads)
    table = _place_table(launch, variant, arguments, tables, tensors[0].device)
    memory = tensors if table is None else (*tensors, table)
    blocks, threads = min(grid.blocks, LARGEST_GRID), 32 * grid.warps
    launch(Launch(variant, kernel, blocks, threads, grid.scratch_bytes * grid.warps, arguments, memory))


def _warp_layout(variant: Variant) -> tuple[int, int, int]:
    """Rows of a warp, points that it prepares at a time (with padding), and their pitch: as in element.cuh."""
    lanes = variant.channels * variant.dtype.itemsize // 16 if variant.channels else 32
    rows = 32 // lanes
    chunk = 4 if rows > 16 else 64 // rows
    return rows, chunk * (rows | 1), rows | 1


def _round_up(size: int) -> int:
    return -(-size // 16) * 16


def _place_table(
    launch: Launcher, variant: Variant, arguments: Arguments, tables: tuple[Levels, Frames], device: torch.device
) -> Tensor | None:
    """Level shapes and frame index go by value. If there are too many, into memory, by as many launches as it takes."""
    levels, frames = tables
    entries, first = [], 0
    for height, width in levels:
        entries += [height, width, first]
        first += height * width
    entries += [source for row in frames for source in row]
    if len(entries) <= TABLE_CAPACITY:
        arguments.table[: len(entries)] = entries
        return None
    table = torch.empty(len(entries), dtype=torch.int32, device=device)
    for start in range(0, len(entries), TABLE_CAPACITY):
        part = entries[start : start + TABLE_CAPACITY]
        piece = TableArguments(table=table.data_ptr(), first=start, count=len(part))
        piece.entries[: len(part)] = part
        launch(Launch(variant, "write_table", 1, 256, 0, piece, (table,)))
    arguments.table_in_memory = table.data_ptr()
    return table
