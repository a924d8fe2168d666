"""The benchmark of the evaluation: how fast a results file is judged, against the tools that judge it elsewhere.

    vislab bench evaluate        or: python kernels/rle/bench

Every competitor's numbers are compared before anything is timed; a difference stops the run. Files:

    command.py      the options, the run, and what is printed and written
    made.py         random ground truth and results of the size of YouTube-VIS 2019's validation set
    cases.py        who computes the same numbers, and which of them must agree
    plain_ap.py     AP and AR over pycocotools, with the steps of the published evaluator
    plain_mot.py    MOT consistency by motmetrics
    by_trackeval.py HOTA, CLEAR and identity by TrackEval, if it is installed

The folder is loaded by its path (see `vislab/__main__.py`); nothing in vislab depends on it.
"""

from .command import main

__all__ = ["main"]
