"""Videos with instance masks: readers of the field's data sets, the synthetic benchmark, clips for training."""

from __future__ import annotations

from vislab.data.dataset import Category, DatasetConfig, FrameAnnotations, Split, VideoDataset, VideoInfo
from vislab.errors import UserError

__all__ = ["Category", "DatasetConfig", "FrameAnnotations", "Split", "VideoDataset", "VideoInfo", "load_dataset"]


def load_dataset(config: DatasetConfig, split: Split) -> VideoDataset:
    """Opens the data set that `config` names.

    A name that starts with "synthetic" is a preset of the embedded benchmark, anything else a path to a folder or
    an annotation file, of videos in the YouTube-VIS layout or of images in COCO's (one-frame videos then). Raises
    UserError for what does not exist or does not apply.
    """
    if split not in ("train", "valid"):
        raise UserError(f"split '{split}' does not exist; expected 'train' or 'valid'")
    if config.name.startswith("synthetic"):
        from vislab.data.synthetic import SyntheticVideos

        return SyntheticVideos(config, split)
    from vislab.data.layout import holds_images

    plain = DatasetConfig(config.name, config.num_videos)
    for option in ("height", "width", "length", "num_categories", "seed"):
        value = getattr(config, option)
        if value != getattr(plain, option):
            raise UserError(f"{option}={value} applies to synthetic data only, not to '{config.name}'")
    if holds_images(config.name):
        from vislab.data.coco import CocoImages

        return CocoImages(config.name, split, num_videos=config.num_videos)
    from vislab.data.youtube_vis import YouTubeVIS

    return YouTubeVIS(config.name, split, num_videos=config.num_videos)
