"""The benchmark of deformable attention (kernels/deform_attn/bench): what it refuses, counts and writes. No times."""

from __future__ import annotations

import csv
import ctypes
import os
import platform
import socket
import subprocess
from contextlib import nullcontext
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vislab.__main__ import load_benchmark, main
from vislab.errors import UserError
from vislab.ops import deform_attn
from vislab.ops.native import _NoKernelError, find_compiler, native_kernel
from vislab.report.benchmark_file import slug

load_benchmark()

# A package that is loaded by its path; its modules have names from here on.
from deform_attn_bench import check, competitors, forms, original, run  # noqa: E402
from deform_attn_bench.cases import CASES, Case, compulsory_bytes, flops, make_inputs, returned_bytes  # noqa: E402
from deform_attn_bench.machine import hardware  # noqa: E402
from deform_attn_bench.memory import extra_peak  # noqa: E402
from deform_attn_bench.rows import COLUMNS, Row, write_rows  # noqa: E402
from deform_attn_bench.timing import Entrant, Schedule, fastest, speed_up, take_turns  # noqa: E402

QUICK = {name: case.quick() for name, case in CASES.items()}
ROW = Row(
    "decoder", "forward", "float32", 1, "definition", 2.0, 0.1, 0.5, "grid_sample", 9, 100, 200, 0.1, 5.0, 50.0, None,
    "2.13", "2026-01-01T00:00:00+00:00", "a processor, 2 cores", "",
)  # fmt: skip


def bench(out: Path, *options: str) -> int:
    common = ["--quick", "--device", "cpu", "--threads", "1", "--rounds", "2", "--out", str(out)]
    return main(["bench", "msda", *common, "--cases", "decoder", *options])


def test_a_quick_run_from_the_check_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path, "--competitors", "definition", "vislab cpu", "mmcv") == 0
    (path,) = tmp_path.iterdir()
    assert path.name == f"msda-{slug(hardware('cpu'))}.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    found = {(row["competitor"], row["pass"]) for row in rows if row["dtype"] == "float32"}
    expected = {"grid_sample", "definition"}
    if native_kernel().library is not None:
        expected.add("vislab cpu baseline")
        assert {row["dtype"] for row in rows} == {"float32", "bfloat16", "float16"}
    assert {(name, passes) for name in expected for passes in ("forward", "forward + backward")} <= found
    for row in rows:
        assert row["case"] == "decoder" and row["threads"] == "1" and row["reference"] == "grid_sample"
        assert row["rounds"] == "2" and float(row["median_ms"]) > 0 and float(row["roofline_share"]) > 0
        assert (float(row["ratio"]) == 1) == (row["competitor"] == "grid_sample")
    output = capsys.readouterr().out
    assert "checked: decoder: output and gradients of 7 of 7 queries" in output
    assert "grid_sample" in output and "of roofline" in output


def steeper(inputs: forms.Inputs) -> torch.Tensor:
    """Right but for the gradient of scores."""
    scores = 1.001 * inputs.scores - 0.001 * inputs.scores.detach()
    return forms.definition(inputs._replace(scores=scores))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda inputs: 1.001 * forms.definition(inputs), "the output is off"),
        (lambda inputs: forms.definition(inputs) * torch.nan, "the output is off by nan"),
        (steeper, "the gradient of scores is off"),
    ],
)
def test_a_wrong_competitor_stops_the_run(
    wrong, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(competitors, "definition", wrong)
    monkeypatch.setattr(run, "take_turns", lambda *_: pytest.fail("something was timed"))
    assert bench(tmp_path, "--competitors", "definition") == 1
    assert f"definition, float32: {message}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_who_cannot_run_is_named_and_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(inputs: forms.Inputs) -> torch.Tensor:
        raise RuntimeError("no such operator\nand more")

    def only(is_ours: bool):
        found = [competitors.Competitor("grid_sample", forms.per_source(forms.sample_grid), is_reference=True)]
        return [*found, competitors.Competitor("broken", broken, is_ours=is_ours)], {"mmcv": "not installed"}

    plan = run.Plan(("decoder",), schedule=Schedule(1, 1), memory=False, quick=True)
    monkeypatch.setattr(run, "competitors", lambda *_: only(False))
    findings = run.measure(plan, "cpu", lambda text: None)
    assert findings.missing == {"mmcv": "not installed", "broken, float32": "RuntimeError: no such operator"}
    assert {row.competitor for row in findings.rows} == {"grid_sample"}
    monkeypatch.setattr(run, "competitors", lambda *_: only(True))
    with pytest.raises(RuntimeError, match="no such operator"):
        run.measure(plan, "cpu", lambda text: None)


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_competitors_that_agree(name: str) -> None:
    inputs = make_inputs(QUICK[name])
    expected = check.expectation(QUICK[name], inputs)
    expected.check("grid_sample", forms.per_source(forms.sample_grid))
    expected.check("definition", forms.definition)


def test_a_check_of_some_queries_sees_an_error_in_them_and_gradients_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "CHECKED_POINTS", 400)
    case = QUICK["encoder"]
    expected = check.expectation(case, make_inputs(case))
    assert 1 < len(expected.queries) < case.num_queries and expected.queries[-1] == case.num_queries - 1
    expected.check("definition", forms.definition)

    def off_at_the_last(inputs: forms.Inputs) -> torch.Tensor:
        output = forms.definition(inputs)
        return torch.cat([output[:, :, :-1], 1.01 * output[:, :, -1:]], 2)

    def leaks(inputs: forms.Inputs) -> torch.Tensor:
        others = (inputs.scores - inputs.scores.detach()).index_fill(2, expected.queries, 0)
        return forms.definition(inputs) + others.sum()

    for wrong, message in ((off_at_the_last, "the output is off"), (leaks, "no gradient came in")):
        with pytest.raises(check.WrongResultError, match=message):
            expected.check("wrong", wrong)


def test_ratios_equal_those_by_hand() -> None:
    reference, other = [4.0, 6.0, 8.0], [1.0, 2.0, 4.0]  # 4, 3 and 2 times as fast
    assert speed_up(reference, other) == 3
    assert speed_up(reference, reference) == 1
    assert speed_up(reference, [8.0, 3.0]) == pytest.approx((0.5 + 2) / 2), "a slow one took part in two rounds"
    assert speed_up([4.0, 6.0], [1.0, 2.0, 4.0]) == 3.5, "or the reference did"
    assert fastest({"a": [1, 9, 9], "b": [2, 3, 50], "c": [0, 0, 0]}, ["a", "b"]) == "b", "by the median"


def test_everybody_takes_turns_and_the_slow_ones_fewer() -> None:
    seconds = {"fast": 1.0, "slow": 5.0, "other": 2.0}
    calls: list[str] = []
    entrants = {name: Entrant(lambda name=name: name, nullcontext) for name in seconds}

    def clock(call) -> float:
        calls.append(call())
        return seconds[call()]

    taken = take_turns(entrants, clock, Schedule(4, 2, budget=9.0, fewest=2), lambda name: None)
    assert {name: len(times) for name, times in taken.items()} == {"fast": 4, "slow": 2, "other": 4}
    assert calls[:6] == ["fast", "fast", "slow", "slow", "other", "other"], "warm-ups"
    assert [sorted(calls[6:9]), sorted(calls[9:12])] == [sorted(seconds)] * 2, "round by round"
    assert calls[12:] == ["other", "fast", "fast", "other"], "the order changes from round to round"
    assert [Schedule(9, 2, 40.0, 3).rounds_for(seconds) for seconds in (0.0, 4.0, 8.0, 100.0)] == [9, 9, 5, 3]


def test_the_hardware_is_not_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    host = "very-private-host"
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(platform, "node", lambda: host)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", host, "1", "1", "x86_64")))
    assert host not in slug(hardware("cpu")) and hardware("cpu").endswith("cores")
    assert slug("Intel(R) Xeon(R) Processor @ 2.50GHz, 2 cores") == "intel-xeon-processor-2.50ghz-2-cores"
    assert slug("NVIDIA H200") == "nvidia-h200"


def test_rows_of_other_cases_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "msda.csv"
    write_rows([ROW, replace(ROW, case="encoder", median_ms=7.0)], path)
    write_rows([replace(ROW, median_ms=3.0, threads=None)], path)
    with path.open(newline="") as file:
        rows = [
            (row["case"], row["median_ms"], row["threads"], row["peak_memory_ratio"]) for row in csv.DictReader(file)
        ]
    assert rows == [("encoder", "7", "1", ""), ("decoder", "3", "", "")]
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="columns are not those"):
        write_rows([ROW], path)
    assert path.read_text() == "a,b\n1,2\n" and [path] == list(path.parent.iterdir())


def test_bytes_and_operations_are_those_of_the_tensors() -> None:
    case = Case("some", levels=((3, 4), (2, 2)), batch=2, frames=3, queries=5, heads=2, channels=8, sources=2, points=3)
    inputs = make_inputs(case)
    with FlopCounterMode(display=False) as counter:
        index = (inputs.spatial_shapes, inputs.frame_index)
        output = deform_attn(inputs.value, *index, inputs.coordinates, inputs.scores)
    assert counter.get_total_flops() == flops(case, False) and flops(case, True) == 3 * flops(case, False)
    given = sum(tensor.nbytes for tensor in inputs[:3])
    assert compulsory_bytes(case, False, 4) == given + output.nbytes
    assert compulsory_bytes(case, True, 4) == 2 * (given + output.nbytes) + given
    assert returned_bytes(case, False, 2) == output.nbytes // 2
    assert returned_bytes(case, True, 4) == output.nbytes + given


def test_points_keep_clear_of_pixel_centres() -> None:
    for name in ("encoder", "encoder-scattered", "fused-encoder", "decoder"):
        inputs = make_inputs(QUICK[name])
        locations, _ = forms.locations_and_weights(inputs)
        sizes = torch.tensor([[width, height] for height, width in inputs.levels])[:, None]
        position = locations.double() * sizes - 0.5
        assert ((position - position.round()).abs() > 0.009).all()


def test_extra_memory_counts_what_is_returned_and_what_is_not() -> None:
    size = 5_000_000

    def call() -> torch.Tensor:
        return torch.ones(size) + torch.ones(size)

    extra = extra_peak("cpu", call)
    if extra is None:
        pytest.skip("the peak cannot be measured here")
    assert 2.9 < extra / (4 * size) < 3.5, "two summands and the sum"


# A block is a set of threads with a barrier; blocks come one after another.
HOST = """
#include <math.h>
#include <pthread.h>
#include <mutex>
#include <thread>
#include <vector>
#define __device__
#define __global__
#define __shared__ static
struct Index { int x; };
static thread_local Index threadIdx;
static Index blockIdx, blockDim;
static pthread_barrier_t barrier;
static std::mutex mutex;
static void __syncthreads() { pthread_barrier_wait(&barrier); }
static void atomicAdd(float* at, float number) { std::lock_guard<std::mutex> guard(mutex); *at += number; }
#include "original.cu"
extern "C" void run(int backward, int grid, int block, const Arguments* arguments) {
    const int threads = backward ? block : 1;  // without barriers, one thread can be all of them in turn
    pthread_barrier_init(&barrier, nullptr, threads);
    blockDim.x = block;
    auto work = [&](int thread) {
        for (int index = 0; index < grid; ++index) {
            if (thread == 0) blockIdx.x = index;
            __syncthreads();
            for (threadIdx.x = thread; threadIdx.x < block; threadIdx.x += threads)
                backward ? original_backward(*arguments) : original_forward(*arguments);
            __syncthreads();
        }
    };
    std::vector<std::thread> pool;
    for (int thread = 0; thread < threads; ++thread) pool.emplace_back(work, thread);
    for (auto& thread : pool) thread.join();
}
"""


class HostKernels:
    """Takes the launches of original.py to a build of original.cu for the host."""

    def __init__(self, folder: Path) -> None:
        try:
            compiler = find_compiler()
        except _NoKernelError as error:
            pytest.skip(str(error))
        (folder / "host.cpp").write_text(HOST)
        options = [
            "-std=c++17",
            "-O1",
            "-shared",
            "-fPIC",
            "-pthread",
            "-DCHANNELS=8",
            "-w",
            f"-I{original.SOURCE.parent}",
        ]
        command = [*compiler, *options, str(folder / "host.cpp"), "-o", str(folder / "host.so")]
        subprocess.run(command, check=True)
        self.library = ctypes.CDLL(str(folder / "host.so"))

    def launch(self, name, defines, kernel: str, grid: int, block: int, shared_bytes: int, arguments) -> None:
        assert defines == {"CHANNELS": 8} and shared_bytes == 0
        self.library.run(int(kernel == "original_backward"), grid, block, ctypes.byref(arguments))


def test_the_original_cuda_algorithm_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = HostKernels(tmp_path)
    monkeypatch.setattr(original, "_modules", lambda: kernels)
    for name in ("decoder", "temporal-decoder"):
        case = QUICK[name]
        assert case.channels == 8 and prod(case.layout) > 300
        check.expectation(case, make_inputs(case)).check("original", forms.per_source(original.sample_original))
