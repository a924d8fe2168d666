"""Runs: training, inference, evaluation, and the two keys under which the store keeps them."""

from __future__ import annotations

from vislab.engine.config import EvalConfig, InitialWeights, RunConfig, TrainConfig
from vislab.engine.infer import VideoInstance, predict_video
from vislab.engine.progress import Silent, TerminalWatcher, Watcher
from vislab.engine.run import RunResult, execute, load_trained
from vislab.engine.stream_inference import FrameInstance, FrameResult, stream_video

__all__ = [
    "EvalConfig",
    "FrameInstance",
    "FrameResult",
    "InitialWeights",
    "RunConfig",
    "RunResult",
    "Silent",
    "TerminalWatcher",
    "TrainConfig",
    "VideoInstance",
    "Watcher",
    "execute",
    "load_trained",
    "predict_video",
    "stream_video",
]
