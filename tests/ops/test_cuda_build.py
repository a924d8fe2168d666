"""The CUDA kernels compile for every architecture without spills; cache, choice of target, calls of the driver."""

from __future__ import annotations

import ctypes
import itertools
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vislab.ops import cuda_compiler, cuda_driver
from vislab.ops.cuda_compiler import Compiler, KernelError, Nvrtc, build, choose_target, find_nvcc, nvrtc_candidates
from vislab.ops.cuda_launch import Variant
from vislab.ops.native import SOURCES

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
# Registers of a thread: what leaves room for that many blocks of 256 threads on a multiprocessor.
LIMITS = {"forward": 65536 // 256 // 3, "backward": 65536 // 256 // 3, "deterministic": 65536 // 256 // 2}
ALL_PARTS = 7
SOME = [(80, F32, 32), (80, BF16, 32), (90, F32, 32), (90, BF16, 32), (90, F32, 0), (90, F16, 64), (100, F32, 32)]
ALL = set(itertools.product((80, 90, 100), (F32, BF16, F16), (8, 16, 32, 64, 0)))


def options(architecture: int, dtype: torch.dtype, channels: int, parts: int) -> list[str]:
    macros = Variant(dtype, channels, "forward").defines | {"VISLAB_PARTS": parts}
    return [f"-arch=sm_{architecture}", "-std=c++17", *(f"-D{name}={number}" for name, number in macros.items())]


def check_resources(architecture: int, dtype: torch.dtype, channels: int, folder: Path) -> None:
    nvcc = find_nvcc()
    if nvcc is None:
        pytest.skip("there is no nvcc")
    flags = [*options(architecture, dtype, channels, ALL_PARTS), "-Xptxas", "-v", "-Werror", "all-warnings", "-cubin"]
    command = [nvcc, *flags, "-o", str(folder / "kernels.cubin"), str(SOURCES / "deform_attn.cu")]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    report = process.stdout + process.stderr
    kernels = re.findall(r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers", report, re.DOTALL)
    assert len(kernels) == 9, report
    assert not re.search(r"[1-9]\d* bytes (stack frame|spill)", report), report
    for name, _, registers in kernels:
        part = "deterministic" if "deterministic" in name else name.split("_")[0]
        assert int(registers) <= LIMITS.get(part, 32), f"{name}: {registers} registers"


@pytest.mark.parametrize(("architecture", "dtype", "channels"), SOME)
def test_nvcc_needs_no_spills(architecture: int, dtype: torch.dtype, channels: int, tmp_path: Path) -> None:
    check_resources(architecture, dtype, channels, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "dtype", "channels"), sorted(ALL - set(SOME), key=str))
def test_nvcc_needs_no_spills_in_the_other_builds(
    architecture: int, dtype: torch.dtype, channels: int, tmp_path: Path
) -> None:
    check_resources(architecture, dtype, channels, tmp_path)


def test_nvrtc_compiles_to_machine_code_and_to_ptx() -> None:
    if not nvrtc_candidates():
        pytest.skip("there is no NVRTC (it comes with torch's CUDA wheels)")
    compiler = Nvrtc(nvrtc_candidates()[0]).compiler()
    source = SOURCES / "deform_attn.cu"
    for dtype in (F32, BF16, F16):
        assert compiler.compile(source, options(90, dtype, 32, ALL_PARTS), False).startswith(b"\x7fELF")
    ptx = compiler.compile(source, ["-arch=compute_90", *options(90, F32, 0, 1)[1:]], True)
    assert b".entry forward_fused" in ptx
    with pytest.raises(KernelError, match="NVRTC failed: .*error"):
        compiler.compile(source, ["-arch=sm_90", "-DVISLAB_ELEMENT=nonsense"], False)


def test_nvcc_compiles_into_the_cache(tmp_path: Path, monkeypatch) -> None:
    nvcc = find_nvcc()
    if nvcc is None:
        pytest.skip("there is no nvcc")
    monkeypatch.setenv("VISLAB_CACHE", str(tmp_path))
    compiler = cuda_compiler.nvcc_compiler(nvcc)
    assert 90 in compiler.architectures and re.match(r"nvcc \d+\.\d+ at ", compiler.name)
    variant = Variant(F32, 32, "forward")
    path = build(variant.name, variant.defines, (9, 0), compiler)
    assert path.name.startswith("deform_attn-float32-d32-forward-sm_90-") and path.read_bytes().startswith(b"\x7fELF")
    with pytest.raises(KernelError, match="nvcc failed: .*error"):
        build("broken", {"VISLAB_CHANNELS": 32}, (9, 0), compiler)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((8, 0), "sm_80"), ((8, 7), "sm_86"), ((9, 0), "sm_90"), ((10, 3), "sm_100"), ((12, 0), "compute_100")],
)
def test_target_of_a_device(capability: tuple[int, int], expected: str) -> None:
    assert choose_target(capability, (75, 80, 86, 90, 100)) == expected


def test_devices_without_a_target() -> None:
    with pytest.raises(KernelError, match=r"compute capability 7\.5, the kernel needs 8\.0"):
        choose_target((7, 5), (75, 80))
    with pytest.raises(KernelError, match="knows no architecture"):
        choose_target((8, 0), (60, 70, 90))


def test_a_build_is_made_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VISLAB_CACHE", str(tmp_path))
    made: list[list[str]] = []

    def compile(source: Path, flags: list[str], to_ptx: bool) -> bytes:
        made.append(flags)
        return b"ptx" if to_ptx else b"machine code"

    compiler = Compiler("a compiler", (80, 90), compile)
    paths = [build("name", {"A": 1}, capability, compiler) for capability in ((9, 0), (9, 0), (12, 0))]
    assert paths[0] == paths[1] and paths[0].read_bytes() == b"machine code"
    assert paths[2].suffix == ".ptx" and paths[2].read_bytes() == b"ptx"
    assert [flags[0] for flags in made] == ["-arch=sm_90", "-arch=compute_90"] and "-DA=1" in made[0]
    assert build("name", {"A": 2}, (9, 0), compiler) != paths[0], "another macro is another build"
    assert len(list((tmp_path / "kernels").iterdir())) == 3, "no debris"


def test_without_compilers_the_reason_says_what_was_looked_for(tmp_path: Path, monkeypatch) -> None:
    cuda_compiler.find_compiler.cache_clear()
    monkeypatch.setattr(cuda_compiler, "nvrtc_candidates", lambda: [tmp_path / "libnvrtc.so.13"])
    monkeypatch.setattr(cuda_compiler, "find_nvcc", lambda: None)
    with pytest.raises(KernelError, match="neither NVRTC .* nor nvcc"):
        cuda_compiler.find_compiler()


def test_nvrtc_is_found_in_the_wheels_of_either_layout(tmp_path: Path, monkeypatch) -> None:
    for folder, name in (("cuda_nvrtc", "libnvrtc.so.12"), ("cu13", "libnvrtc.so.13")):
        (tmp_path / "nvidia" / folder / "lib").mkdir(parents=True)
        (tmp_path / "nvidia" / folder / "lib" / name).touch()
    monkeypatch.setattr(cuda_compiler, "torch", SimpleNamespace(__file__=str(tmp_path / "torch" / "__init__.py")))
    assert {path.name for path in nvrtc_candidates()} >= {"libnvrtc.so.12", "libnvrtc.so.13"}


class FakeDriver:
    """Records calls; `failing` is the name of the one that returns an error."""

    def __init__(self, failing: str = "") -> None:
        self.calls: list[tuple[str, tuple]] = []
        self.failing = failing

    def __getattr__(self, name: str):
        def call(*arguments: object) -> int:
            self.calls.append((name, arguments))
            if name == "cuGetErrorString":
                arguments[1]._obj.value = b"out of luck"  # type: ignore[attr-defined, index]
            return 7 if name == self.failing else 0

        return call


@pytest.fixture
def on_a_fake_device(tmp_path: Path, monkeypatch) -> None:
    image = tmp_path / "deform_attn-x-sm_90-0.cubin"
    image.write_bytes(b"machine code")
    monkeypatch.setattr(cuda_driver, "build", lambda *_: image)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=1234))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


class _Numbers(ctypes.Structure):
    _fields_ = [("first", ctypes.c_int)]


def test_launches_load_a_module_once_and_use_torchs_stream(on_a_fake_device: None) -> None:
    driver = FakeDriver()
    modules = cuda_driver.Modules(driver)  # type: ignore[arg-type]
    arguments = _Numbers(5)
    for kernel in ("forward_plain", "forward_plain", "forward_fused"):
        modules.launch("build", {}, kernel, 2**31 - 1, 256, 4096, arguments)
    names = [name for name, _ in driver.calls]
    assert names.count("cuModuleLoadData") == 1 and names.count("cuModuleGetFunction") == 2
    assert names.count("cuDevicePrimaryCtxRetain") == 1 and names.count("cuLaunchKernel") == 3
    launch = driver.calls[-1][1]
    assert [size.value for size in launch[1:8]] == [2**31 - 1, 1, 1, 256, 1, 1, 4096] and launch[8].value == 1234
    assert ctypes.cast(launch[9][0], ctypes.POINTER(_Numbers)).contents.first == 5


@pytest.mark.parametrize("failing", ["cuModuleLoadData", "cuLaunchKernel", "cuDevicePrimaryCtxRetain"])
def test_errors_of_the_driver_are_reported_in_words(failing: str, on_a_fake_device: None) -> None:
    modules = cuda_driver.Modules(FakeDriver(failing))  # type: ignore[arg-type]
    with pytest.raises(KernelError, match=f"{failing} failed: out of luck"):
        modules.launch("build", {}, "forward_plain", 1, 32, 0, _Numbers())


def test_status_of_a_device_never_raises(monkeypatch) -> None:
    cuda_driver.cuda_kernel.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda_driver.cuda_kernel(3) == cuda_driver.CudaKernel(False, "there is no CUDA device 3")
    monkeypatch.setattr(torch.version, "cuda", None)
    cuda_driver.cuda_kernel.cache_clear()
    assert cuda_driver.cuda_kernel().reason == "this build of torch has no CUDA"
    cuda_driver.cuda_kernel.cache_clear()
