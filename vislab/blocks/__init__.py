"""Temporal building blocks of video instance segmentation, one idea per file."""
