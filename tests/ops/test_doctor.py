from __future__ import annotations

import torch

from vislab import native_rle
from vislab.ops import native
from vislab.ops.doctor import report


def test_every_path_is_reported_with_a_reason() -> None:
    paths = {(status.op, status.path): status for status in report()}
    ops = {"deform_attn": ["reference", "cpu", "cuda"], "attention": ["sdpa", "xformers", "reference"]}
    ops["rle"] = ["numpy", "native"]
    assert list(paths) == [(op, path) for op, names in ops.items() for path in names]
    assert paths["deform_attn", "reference"].live and paths["attention", "sdpa"].live
    assert paths["deform_attn", "cpu"].live == (native.native_kernel().library is not None)
    assert paths["rle", "native"].live == (native_rle.native_kernel().library is not None)
    assert all(status.reason for status in paths.values())
    if not torch.cuda.is_available():
        assert not paths["deform_attn", "cuda"].live and "CUDA" in paths["deform_attn", "cuda"].reason
