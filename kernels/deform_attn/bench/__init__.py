"""The benchmark of deformable attention: who computes it, how fast, how near the machine's limits, in how much memory.

    vislab bench msda        or: make bench, or: python kernels/deform_attn/bench

Every competitor is checked before anything is timed; a wrong one stops the run. Files, in the order of a run:

    command.py      the options, and what is printed and written
    run.py          case by case: check everybody, let them take turns, turn seconds into rows
    cases.py        sizes and inputs; bytes and operations that a case cannot do without
    competitors.py  everybody who computes the same thing here, and why some of them cannot
    forms.py        the competitors in plain torch, and what brings one-frame implementations to many frames
    original.py     the CUDA algorithm of Deformable DETR, written anew (original.cu)
    check.py        the error law
    timing.py       rounds in which all competitors take turns; medians and ratios
    machine.py      the hardware's name, its copy bandwidth and multiply-add rate
    memory.py       extra peak memory of one call
    rows.py         the table on the screen and the CSV

The folder is loaded by its path (see `vislab/__main__.py`); nothing in vislab depends on it.
"""

from .command import main

__all__ = ["main"]
