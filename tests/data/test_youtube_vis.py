"""The reader: layouts, splits, masks and frames, and one clear sentence for every broken data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_videos
from pycocotools import mask as coco_mask
from tiny_videos import HEIGHT, LENGTH, WIDTH

from vislab import rle
from vislab.data.dataset import VideoDataset
from vislab.data.youtube_vis import YouTubeVIS
from vislab.errors import UserError

Document = dict[str, Any]


def write_layout_2019(folder: Path, valid: Document | None) -> Path:
    tiny_videos.write_frames(folder / "train" / "JPEGImages")
    (folder / "train.json").write_text(json.dumps(tiny_videos.document()))
    if valid is not None:
        tiny_videos.write_frames(folder / "valid" / "JPEGImages", len(valid["videos"]))
        (folder / "valid.json").write_text(json.dumps(valid))
    return folder


def write_layout_2021(folder: Path, valid: Document | None) -> Path:
    write_layout_2019(folder, valid)
    for split in ("train", "valid"):
        if (folder / f"{split}.json").exists():
            (folder / f"{split}.json").rename(folder / split / "instances.json")
    return folder


def names(videos: YouTubeVIS) -> set[str]:
    return {videos.info(i).name for i in range(len(videos))}


@pytest.mark.parametrize("write", [write_layout_2019, write_layout_2021])
def test_layouts_with_a_labelled_validation_set(tmp_path: Path, write: Callable[[Path, Document | None], Path]) -> None:
    folder = write(tmp_path, tiny_videos.document(2))
    train, valid = YouTubeVIS(folder, "train"), YouTubeVIS(folder, "valid")
    assert (len(train), len(valid)) == (4, 2) and isinstance(train, VideoDataset)
    assert len(YouTubeVIS(f"{folder}+halves", "valid")) == 2 and names(YouTubeVIS(f"{folder}+whole", "valid")) == names(
        train
    )


@pytest.mark.parametrize("write", [write_layout_2019, write_layout_2021])
@pytest.mark.parametrize("unlabelled", ["absent", "no annotations", "null", "empty"])
def test_without_validation_labels_the_training_set_is_divided(
    tmp_path: Path, write: Callable[[Path, Document | None], Path], unlabelled: str
) -> None:
    valid = tiny_videos.document(2)
    valid["annotations"] = None if unlabelled == "null" else []
    if unlabelled == "no annotations":
        del valid["annotations"]
    folder = write(tmp_path, None if unlabelled == "absent" else valid)
    train_half, valid_half = YouTubeVIS(folder, "train"), YouTubeVIS(folder, "valid")
    assert len(train_half) == len(valid_half) == 2
    assert names(train_half) | names(valid_half) == {f"clip{i}" for i in range(4)}
    assert train_half.fingerprint() != valid_half.fingerprint()


def test_flat_layout_and_annotation_file(tmp_path: Path) -> None:
    file = tiny_videos.write_flat(tmp_path)
    by_folder, by_file = YouTubeVIS(tmp_path, "valid"), YouTubeVIS(str(file), "valid")
    assert by_folder.fingerprint() == by_file.fingerprint() and len(by_file) == 2
    renamed = file.rename(tmp_path / "some+name.json")
    assert len(YouTubeVIS(f"{renamed}+ninety-ten", "valid")) == 1 and by_folder.name == tmp_path.name
    assert len(YouTubeVIS(renamed, "train", num_videos=1)) == 1


def test_an_annotation_file_beside_its_split_folder(tmp_path: Path) -> None:
    write_layout_2019(tmp_path, None)
    assert len(YouTubeVIS(tmp_path / "train.json", "train")) == 2


def test_frames_and_annotations_of_chosen_frames(tmp_path: Path) -> None:
    tiny_videos.write_flat(tmp_path)
    videos = YouTubeVIS(f"{tmp_path}+whole")
    assert [category.name for category in videos.categories] == ["disc", "ring"]
    for index in range(len(videos)):
        number = int(videos.info(index).name[-1])
        assert videos.info(index)[2:] == (HEIGHT, WIDTH, LENGTH) and videos.info(index).id == 10 + number
        frames = videos.frames(index, [2, 0, 2])
        assert np.array_equal(frames, [tiny_videos.frame(number, t) for t in (2, 0, 2)])
        found = videos.annotations(index, [2, 1])
        assert found.labels.tolist() == [number % 2] and found.track_ids.tolist() == [100 + number]
        assert np.array_equal(found.masks[0], [tiny_videos.disc(5, 7), np.zeros((HEIGHT, WIDTH))])
        assert found.boxes[0].tolist() == [[4, 2, 11, 9], [0, 0, 0, 0]] and found.present.tolist() == [[True, False]]
        assert found.visible_fraction.tolist() == [[1, 0]] and found.visible_fraction.dtype == np.float32
        nothing = videos.annotations(index, [1])
        assert nothing.masks.shape == (0, 1, HEIGHT, WIDTH) and nothing.present.shape == (0, 1)


def test_every_kind_of_segmentation_gives_the_same_data(tmp_path: Path) -> None:
    document = tiny_videos.document()
    square = np.zeros((HEIGHT, WIDTH), bool)
    square[2:7, 3:9] = True
    runs = np.diff(np.flatnonzero(np.diff(square.T.ravel(), prepend=0, append=0)), prepend=0).tolist()
    kinds = [
        rle.encode(square),
        {"size": [HEIGHT, WIDTH], "counts": [*runs, HEIGHT * WIDTH - sum(runs)]},
        [[3, 2, 9, 2, 9, 7, 3, 7]],
        [[3, 2, 6, 2, 6, 7, 3, 7], [6, 2, 9, 2, 9, 7, 6, 7]],
    ]
    for annotation, kind in zip(document["annotations"], kinds, strict=True):
        annotation["segmentations"] = [kind, None, kind]
    tiny_videos.write_flat(tmp_path)
    (tmp_path / "instances.json").write_text(json.dumps(document))
    videos = YouTubeVIS(f"{tmp_path}+whole")
    for index in range(4):
        assert np.array_equal(videos.annotations(index, [0, 1, 2]).masks[0], [square, np.zeros_like(square), square])
    codes = [code for a in videos.ground_truth()["annotations"] for code in a["segmentations"] if code]
    assert codes == [rle.encode(square)] * 8


def test_ground_truth_is_the_split_complete_and_json(tmp_path: Path) -> None:
    document = tiny_videos.document()
    for annotation in document["annotations"]:
        del annotation["bboxes"], annotation["areas"], annotation["iscrowd"]
        annotation["visible_fractions"] = [0.5, None, 0.25]
    tiny_videos.write_flat(tmp_path)
    (tmp_path / "instances.json").write_text(json.dumps(document))
    videos = YouTubeVIS(tmp_path, "valid")
    truth = json.loads(json.dumps(videos.ground_truth()))
    assert {video["id"] for video in truth["videos"]} == {a["video_id"] for a in truth["annotations"]}
    assert len(truth["videos"]) == 2 and truth["categories"] == document["categories"]
    expected = tiny_videos.document()["annotations"]
    for annotation in truth["annotations"]:
        (original,) = (a for a in expected if a["id"] == annotation["id"])
        assert {key: annotation[key] for key in original} == {**original, "bboxes": annotation["bboxes"]}
        assert annotation["bboxes"] == [[2, 2, 7, 7], None, [4, 2, 7, 7]]
    assert videos.annotations(0, [0, 1, 2]).visible_fraction.tolist() == [[0.5, 0, 0.25]]


def test_crowd_is_marked(tmp_path: Path) -> None:
    document = tiny_videos.document()
    document["annotations"][0]["iscrowd"] = 1
    tiny_videos.write_flat(tmp_path)
    (tmp_path / "instances.json").write_text(json.dumps(document))
    videos = YouTubeVIS(f"{tmp_path}+whole")
    crowds = {videos.info(i).name: videos.annotations(i, [0]).iscrowd.tolist() for i in range(4)}
    assert crowds == {"clip0": [True], "clip1": [False], "clip2": [False], "clip3": [False]}


def test_fingerprint_changes_with_annotations_frames_and_split(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    tiny_videos.write_flat(first)
    tiny_videos.write_flat(second)
    tiny_videos.write_flat(third)
    (second / "instances.json").write_text(json.dumps(tiny_videos.document(), indent=1))
    picture = next((third / "JPEGImages" / "clip0").iterdir())
    picture.write_bytes(picture.read_bytes() + b" ")
    prints = [YouTubeVIS(f"{folder}+whole").fingerprint() for folder in (first, second, third)]
    prints += [YouTubeVIS(first, "train").fingerprint(), YouTubeVIS(first, "valid").fingerprint()]
    prints += [YouTubeVIS(f"{first}+whole", num_videos=2).fingerprint()]
    assert len(set(prints)) == 6 and all(len(text) == 64 for text in prints)
    assert YouTubeVIS(f"{first}+whole", "valid").fingerprint() == prints[0]


def of_annotation(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document["annotations"][1].update(changes)


def of_video(**changes: Any) -> Callable[[Document], None]:
    return lambda document: document["videos"][1].update(changes)


def of_mask(segmentation: Any) -> Callable[[Document], None]:
    return lambda document: document["annotations"][1]["segmentations"].__setitem__(2, segmentation)


def without(*path: str | int) -> Callable[[Document], None]:
    def remove(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return remove


SIZE = [HEIGHT, WIDTH]
NAN = float("nan")
FILES = [f"clip1/{t:05d}.png" for t in range(LENGTH)]

BROKEN: dict[str, tuple[Callable[[Document], Any], str]] = {
    "no videos key": (without("videos"), "missing key 'videos'"),
    "no categories key": (without("categories"), "missing key 'categories'"),
    "no annotations key": (without("annotations"), "missing key 'annotations'"),
    "no videos": (lambda d: d.update(videos=[]), "videos is an empty array"),
    "no categories": (lambda d: d.update(categories=[]), "categories is an empty array"),
    "no annotations": (lambda d: d.update(annotations=[]), "annotations is an empty array"),
    "videos no array": (lambda d: d.update(videos={}), "videos is {}, expected an array"),
    "video no object": (lambda d: d.update(videos=[3]), "videos[0]: expected an object, found 3"),
    "category id text": (lambda d: d["categories"][1].update(id="3"), "categories[1]: id is '3', expected an integer"),
    "category twice": (lambda d: d["categories"][1].update(id=7), "categories[1]: id 7 occurs twice"),
    "category name": (lambda d: d["categories"][1].update(name=""), "categories[1]: name is ''"),
    "video id twice": (of_video(id=10), "videos[1]: id 10 occurs twice"),
    "video without size": (without("videos", 1, "height"), "video 11: missing key 'height'"),
    "negative size": (of_video(width=-18), "video 11: width is -18, expected an integer from 1"),
    "zero size": (of_video(height=0), "video 11: height is 0, expected an integer from 1"),
    "huge size": (of_video(height=10**9), "video 11: height is 1000000000, expected an integer from 1"),
    "size float": (of_video(height=12.5), "video 11: height is 12.5"),
    "size nan": (of_video(height=NAN), "video 11: height is nan"),
    "video length": (of_video(length=4), "video 11: length is 4, expected 3, the number of file_names"),
    "no frames": (of_video(file_names=[], length=0), "video 11: file_names is []"),
    "frame missing": (of_video(file_names=[*FILES[:2], "clip1/9.png"]), "video 11: file_names[2] is 'clip1/9.png'"),
    "folder missing": (of_video(file_names=["x/0.png"] * 3), "video 11: file_names[0] is 'x/0.png'"),
    "frame outside": (of_video(file_names=["../x.png"] * 3), "video 11: file_names[0] is '../x.png'"),
    "frame null": (of_video(file_names=[None, *FILES[1:]]), "video 11: file_names[0] is None"),
    "annotation id twice": (of_annotation(id=100), "annotations[1]: id 100 occurs twice"),
    "annotation id bool": (of_annotation(id=True), "annotations[1]: id is True"),
    "unknown category": (
        of_annotation(category_id=99),
        "annotation 101: category_id is 99, expected the id of an entry",
    ),
    "unknown video": (
        of_annotation(video_id=99),
        "annotation 101: video_id is 99, expected the id of an entry of videos",
    ),
    "iscrowd": (of_annotation(iscrowd=2), "annotation 101: iscrowd is 2, expected 0 or 1"),
    "iscrowd list": (of_annotation(iscrowd=[0]), "annotation 101: iscrowd is [0]"),
    "no segmentations": (without("annotations", 1, "segmentations"), "annotation 101: missing key 'segmentations'"),
    "segmentations length": (
        of_annotation(segmentations=[None] * 2),
        "annotation 101: segmentations has 2 entries, expected 3",
    ),
    "bboxes length": (of_annotation(bboxes=[None] * 4), "annotation 101: bboxes has 4 entries, expected 3"),
    "negative bbox": (of_annotation(bboxes=[None, None, [1, 2, -3, 4]]), "annotation 101: bboxes[2] is [1, 2, -3, 4]"),
    "infinite bbox": (
        of_annotation(bboxes=[None, None, [1, 2, 1e999, 4]]),
        "annotation 101: bboxes[2] is [1, 2, inf, 4]",
    ),
    "short bbox": (of_annotation(bboxes=[[1, 2, 3], None, None]), "annotation 101: bboxes[0] is [1, 2, 3]"),
    "negative area": (of_annotation(areas=[-1, None, None]), "annotation 101: areas[0] is -1"),
    "nan area": (of_annotation(areas=[5, None, NAN]), "annotation 101: areas[2] is nan"),
    "visible fraction": (
        of_annotation(visible_fractions=[1, None, 1.5]),
        "annotation 101: visible_fractions[2] is 1.5",
    ),
    "nan in a field of no use": (of_annotation(score=NAN), "holds NaN or Infinity"),
    "rle size": (
        of_mask({"size": [WIDTH, HEIGHT], "counts": "h6"}),
        "annotation 101: segmentations[2]: size is [18, 12]",
    ),
    "rle too short": (
        of_mask({"size": SIZE, "counts": "d0"}),
        "annotation 101: segmentations[2]: counts add up to 20 pixels",
    ),
    "rle truncated": (
        of_mask({"size": SIZE, "counts": "h"}),
        "annotation 101: segmentations[2]: counts end in the middle",
    ),
    "rle charset": (
        of_mask({"size": SIZE, "counts": "d 0"}),
        "annotation 101: segmentations[2]: counts hold a character",
    ),
    "rle list": (of_mask({"size": SIZE, "counts": [200]}), "annotation 101: segmentations[2]: counts add up to 200"),
    "rle list negative": (
        of_mask({"size": SIZE, "counts": [220, -4]}),
        "annotation 101: segmentations[2]: counts must be",
    ),
    "rle text": (of_mask("h6"), "annotation 101: segmentations[2]: expected an RLE"),
    "polygon": (of_mask([[1, 2, 3, 4]]), "annotation 101: segmentations[2]: a polygon is a list"),
    "wild polygon": (
        of_mask([[0, 0, 1e30, 0, 5, 5]]),
        "annotation 101: segmentations[2]: polygon coordinate 2 is 1e+30",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_annotations_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    spoil, told = BROKEN[name]
    file = tiny_videos.write_flat(tmp_path)
    document = tiny_videos.document()
    spoil(document)
    file.write_text(json.dumps(document))
    with pytest.raises(UserError) as caught:
        YouTubeVIS(f"{tmp_path}+whole")
    message = str(caught.value)
    assert message.startswith(str(file)) and told in message and "\n" not in message and len(message) < 400


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (json.dumps(tiny_videos.document(), indent=0)[:700], "(file truncated?)"),
        ("", "line 1 column 1"),
        ("[1, 2]", "expected an object, found [1, 2]"),
        ('{"videos": [], "videos": []}', "key 'videos' occurs twice in one object"),
        ('{"videos": [}', "line 1 column 13: Expecting value"),
        ("[" * 200_000, "no valid JSON"),
        ('{"videos": ' + "9" * 5000 + "}", "no valid JSON"),
        (b"\xff\xfe\x00{", "no valid JSON"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: str | bytes, told: str) -> None:
    file = tiny_videos.write_flat(tmp_path)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        YouTubeVIS(tmp_path)
    assert str(caught.value).startswith(str(file)) and told in str(caught.value)


def test_truncation_at_any_byte_is_refused(tmp_path: Path) -> None:
    file = tiny_videos.write_flat(tmp_path)
    content = file.read_bytes()
    for stop in np.linspace(0, len(content) - 1, 60).astype(int):
        file.write_bytes(content[:stop])
        with pytest.raises(UserError, match="no valid JSON at line 1 column"):
            YouTubeVIS(tmp_path)


def test_paths_that_hold_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data set '.*nowhere' does not exist"):
        YouTubeVIS(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no annotation file found; expected one of train.json, train/instances.json"):
        YouTubeVIS(tmp_path)
    file = tiny_videos.write_flat(tmp_path)
    with pytest.raises(UserError, match="division 'thirds' does not exist"):
        YouTubeVIS(f"{tmp_path}+thirds")
    with pytest.raises(UserError, match="num_videos is 0"):
        YouTubeVIS(tmp_path, num_videos=0)
    (tmp_path / "train.json").write_text(file.read_text())
    with pytest.raises(UserError, match="found both .*train.json and .*instances.json"):
        YouTubeVIS(tmp_path)
    (tmp_path / "train.json").unlink()
    (tmp_path / "JPEGImages").rename(tmp_path / "frames")
    with pytest.raises(UserError, match="folder with the frames not found; expected .*JPEGImages"):
        YouTubeVIS(tmp_path)


def test_one_video_cannot_be_divided(tmp_path: Path) -> None:
    tiny_videos.write_flat(tmp_path, 1)
    assert len(YouTubeVIS(tmp_path, "train")) == 1
    with pytest.raises(UserError, match=r"expected at least 2 to divide .*\+whole"):
        YouTubeVIS(tmp_path, "valid")
    assert len(YouTubeVIS(f"{tmp_path}+whole", "valid")) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read as an image"),
        (b"text", "cannot be read as an image"),
        (None, "has 5x4 pixels, expected 18x12"),
    ],
)
def test_frames_that_cannot_be_used(tmp_path: Path, content: bytes | None, told: str) -> None:
    tiny_videos.write_flat(tmp_path)
    path = tmp_path / "JPEGImages" / "clip2" / "00001.png"
    if content is None:
        tiny_videos.Image.new("RGB", (5, 4)).save(path)
    else:
        path.write_bytes(content)
    videos = YouTubeVIS(f"{tmp_path}+whole")
    index = next(i for i in range(4) if videos.info(i).name == "clip2")
    videos.frames(index, [0, 2])
    with pytest.raises(UserError, match=rf"00001.png: video 12: file_names\[1\] {told}"):
        videos.frames(index, [0, 1])


def test_truncated_image(tmp_path: Path) -> None:
    tiny_videos.write_flat(tmp_path)
    path = tmp_path / "JPEGImages" / "clip2" / "00001.png"
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    tiny_videos.Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    videos = YouTubeVIS(f"{tmp_path}+whole")
    index = next(i for i in range(4) if videos.info(i).name == "clip2")
    with pytest.raises(UserError, match="cannot be read as an image"):
        videos.frames(index, [1])


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    tiny_videos.write_flat(tmp_path)
    for path in (tmp_path / "JPEGImages").glob("*/*.png"):
        tiny_videos.Image.new("L", (WIDTH, HEIGHT), 77).save(path)
    frames = YouTubeVIS(tmp_path).frames(0, [0])
    assert frames.shape == (1, HEIGHT, WIDTH, 3) and (frames == 77).all()


def test_real_videos_decode_to_the_stored_areas(real_data: Path) -> None:
    videos = YouTubeVIS(f"{real_data / 'real-mini'}+whole")
    document = json.loads((real_data / "real-mini" / "instances.json").read_text())
    stored = {annotation["id"]: annotation for annotation in document["annotations"]}
    masks_seen = 0
    for index in range(len(videos)):
        every_frame = range(videos.info(index).length)
        found = videos.annotations(index, every_frame)
        assert np.count_nonzero(found.masks) == np.count_nonzero(found.masks.any(axis=0)), (
            "masks of a frame are disjoint"
        )
        for n, track in enumerate(found.track_ids.tolist()):
            areas = [area or 0 for area in stored[track]["areas"]]
            assert np.count_nonzero(found.masks[n], axis=(1, 2)).tolist() == areas
            assert found.present[n].tolist() == [area > 0 for area in areas]
            masks_seen += sum(found.present[n].tolist())
            for t, code in enumerate(stored[track]["segmentations"]):
                if t % 10 == 0 and code is not None:
                    assert np.array_equal(found.masks[n, t], coco_mask.decode(code))
    assert masks_seen == 974
    assert videos.frames(0, [0]).shape[1:3] == (videos.info(0).height, videos.info(0).width)


def test_real_videos_divide_into_halves(real_data: Path) -> None:
    train, valid = (YouTubeVIS(real_data / "real-mini", split) for split in ("train", "valid"))
    assert names(train) == {"schoolgirls", "bus", "surf", "lucia", "mallard-water", "rhino"}
    assert names(valid) == {"bmx-trees", "truck-street", "libby", "soccerball", "bear", "car-turn"}
