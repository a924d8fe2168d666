"""The COCO reader: images as one-frame videos, polygons and crowds, and one clear sentence for every broken file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from vislab import rle
from vislab.__main__ import main
from vislab.data import DatasetConfig, VideoDataset, load_dataset
from vislab.data.check import check
from vislab.data.coco import CocoImages
from vislab.data.layout import holds_images
from vislab.data.sampling import SamplingConfig, training_batch
from vislab.data.synthetic import SyntheticVideos, export_images
from vislab.data.youtube_vis import YouTubeVIS
from vislab.errors import UserError
from vislab.metrics import evaluate

Document = dict[str, Any]
HEIGHT, WIDTH = 20, 30
SQUARE = [4.0, 3.0, 12.0, 3.0, 12.0, 9.0, 4.0, 9.0]


def document(num_images: int = 4) -> Document:
    """Images with a polygon each; the first also has a crowd, the last one nothing at all. Category ids with a gap."""
    images = [{"id": 50 + i, "file_name": f"{i:03d}.png", "height": HEIGHT, "width": WIDTH} for i in range(num_images)]
    annotations = [
        {
            "id": 900 - i,
            "image_id": 50 + i,
            "category_id": (90, 13)[i % 2],
            "iscrowd": 0,
            "area": 48.0,
            "bbox": [4, 3, 8, 6],
            "segmentation": [SQUARE],
        }
        for i in range(num_images - 1)
    ]
    crowd = {"size": [HEIGHT, WIDTH], "counts": [400, 100, 100]}
    annotations.append(annotations[0] | {"id": 7, "iscrowd": 1, "segmentation": crowd, "area": 100})
    return {
        "images": images,
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 13, "name": "stop sign"}],
        "annotations": annotations,
    }


def write(folder: Path, content: Document | None = None, name: str = "train2017", images: str = "{}") -> Path:
    """The data set as COCO lays it out; returns the annotation file."""
    content = content or document()
    place = folder / images.format(name)
    place.mkdir(parents=True)
    for number in range(len(content["images"])):
        pixels = np.full((HEIGHT, WIDTH, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(place / f"{number:03d}.png")
    (folder / "annotations").mkdir(exist_ok=True)
    file = folder / "annotations" / f"instances_{name}.json"
    file.write_text(json.dumps(content))
    return file


def whole(path: Path) -> CocoImages:
    found = load_dataset(DatasetConfig(f"{path}+whole"), "train")
    assert isinstance(found, CocoImages)
    return found


def test_images_are_videos_of_one_frame(tmp_path: Path) -> None:
    write(tmp_path)
    images = whole(tmp_path)
    assert isinstance(images, VideoDataset) and len(images) == 4 and images.name == tmp_path.name
    assert images.info(1) == (51, "001", HEIGHT, WIDTH, 1)
    assert [category.id for category in images.categories] == [90, 13]
    frames = images.frames(2, [0, 0])
    assert frames.shape == (2, HEIGHT, WIDTH, 3) and frames.dtype == np.uint8 and (frames == 20).all()


def test_polygons_and_crowds_become_masks(tmp_path: Path) -> None:
    write(tmp_path)
    images = whole(tmp_path)
    square = np.zeros((HEIGHT, WIDTH), bool)
    square[3:9, 4:12] = True
    first = images.annotations(0, [0])
    assert first.track_ids.tolist() == [900, 7] and first.labels.tolist() == [0, 0]
    assert first.iscrowd.tolist() == [False, True]
    np.testing.assert_array_equal(first.masks[0, 0], square)
    assert first.masks[1].sum() == 100 and first.masks[1, 0].T.ravel()[400:500].all()
    assert first.boxes[0, 0].tolist() == [4, 3, 12, 9]
    second = images.annotations(1, [0, 0, 0])
    assert second.masks.shape == (1, 3, HEIGHT, WIDTH) and second.labels.tolist() == [1]
    assert second.present.all() and (second.visible_fraction == 1).all()
    for nothing in (images.annotations(3, [0]), images.annotations(0, [])):
        assert nothing.masks.shape == (0, nothing.masks.shape[1], HEIGHT, WIDTH) and not len(nothing.labels)
        assert nothing.boxes.dtype == np.float32 and nothing.present.shape == nothing.masks.shape[:2]


def test_ground_truth_is_youtube_vis_json_with_the_files_areas(tmp_path: Path) -> None:
    content = document()
    content["annotations"][1]["area"] = 47.25
    del content["annotations"][2]["area"], content["annotations"][2]["bbox"]
    write(tmp_path, content)
    truth = json.loads(json.dumps(whole(tmp_path).ground_truth()))
    assert truth["categories"] == content["categories"]
    assert truth["videos"][1] == {"id": 51, "height": 20, "width": 30, "length": 1, "file_names": ["001.png"]}
    entries = {entry["id"]: entry for entry in truth["annotations"]}
    assert [entries[i]["areas"] for i in (900, 899, 898, 7)] == [[48.0], [47.25], [48], [100]]
    assert entries[899]["video_id"] == 51 and entries[899]["category_id"] == 13 and entries[7]["iscrowd"] == 1
    assert entries[898]["bboxes"] == [[4, 3, 8, 6]]
    results = [
        {key: entry[key] for key in ("video_id", "category_id", "segmentations")} | {"score": 0.9}
        for entry in truth["annotations"]
        if not entry["iscrowd"]
    ]
    found = evaluate(truth, results, ("ap",), replicates=0).query("scope == 'all'").set_index("metric")["value"]
    assert found["AP"] == pytest.approx(1)


@pytest.mark.parametrize("images", ["{}", "images/{}", "annotations/images", "annotations/JPEGImages", "annotations"])
def test_images_are_found_in_the_usual_places(tmp_path: Path, images: str) -> None:
    file = write(tmp_path, images=images)
    assert len(load_dataset(DatasetConfig(str(file)), "valid")) == 2
    assert whole(file).fingerprint() == whole(tmp_path).fingerprint()


def test_splits(tmp_path: Path) -> None:
    """Two labelled files are two splits; one is divided by name; an unlabelled one does not count."""
    write(tmp_path / "two")
    write(tmp_path / "two", document(3), "val2017")
    sizes = [len(load_dataset(DatasetConfig(str(tmp_path / "two")), split)) for split in ("train", "valid")]  # type: ignore[arg-type]
    assert sizes == [4, 3]
    write(tmp_path / "one")
    write(tmp_path / "one", document(3) | {"annotations": []}, "val2017")
    halves = [load_dataset(DatasetConfig(str(tmp_path / "one")), split) for split in ("train", "valid")]  # type: ignore[arg-type]
    names = [{part.info(i).name for i in range(len(part))} for part in halves]
    assert [len(part) for part in names] == [2, 2] and not names[0] & names[1]
    assert len({part.fingerprint() for part in [*halves, whole(tmp_path / "one")]}) == 3
    assert len(load_dataset(DatasetConfig(f"{tmp_path / 'one'}+whole", num_videos=1), "train")) == 1


def test_videos_are_told_from_images(tmp_path: Path) -> None:
    write(tmp_path / "coco")
    assert holds_images(tmp_path / "coco") and holds_images(f"{tmp_path / 'coco'}+whole")
    for name, text in {
        "both": '{"images": [], "videos": []}',
        "late": '{"images": [{"file_name": "videos"}], "videos" : []}',
        "empty": "",
        "neither": "{}",
    }.items():
        (tmp_path / name).write_text(text)
        assert not holds_images(tmp_path / name)
    (tmp_path / "named").write_text('{"images": [{"file_name": "videos"}], "annotations": []}')
    assert holds_images(tmp_path / "named")
    with pytest.raises(UserError, match="missing key 'videos'"):
        YouTubeVIS(tmp_path / "coco")


def test_two_years_side_by_side_must_be_named(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, name="train2014")
    with pytest.raises(UserError, match="found both .*instances_train2014.json and .*name the file"):
        load_dataset(DatasetConfig(str(tmp_path)), "train")


def test_training_clips_of_one_frame_and_pseudo_video(tmp_path: Path) -> None:
    write(tmp_path)
    images = whole(tmp_path)
    batch = training_batch(images, SamplingConfig(clip_length=1), batch_size=3, seed=0, step=0)
    assert batch.images.shape[:3] == (3, 1, 3) and all(len(target.labels) == 1 for target in batch.targets)
    turned = SamplingConfig(clip_length=3, rotation_degrees=20.0)
    assert training_batch(images, turned, batch_size=1, seed=0, step=0).images.shape[1] == 3


@pytest.mark.parametrize("lossless", [False, True])
def test_synthetic_stills_round_trip(tmp_path: Path, lossless: bool) -> None:
    config = DatasetConfig("synthetic-coco", num_videos=4, height=48, width=80)
    for split in ("train", "valid"):
        export_images(SyntheticVideos(config, split), tmp_path, progress=False, lossless=lossless)  # type: ignore[arg-type]
    ours, read = SyntheticVideos(config, "valid"), load_dataset(DatasetConfig(str(tmp_path)), "valid")
    assert isinstance(read, CocoImages) and read.categories == ours.categories and len(read) == 4
    for index in range(4):
        assert read.info(index) == ours.info(index)
        difference = np.abs(read.frames(index, [0]).astype(int) - ours.frames(index, [0]))
        assert difference.max() == 0 if lossless else difference.mean() < 4
        a, b = read.annotations(index, [0]), ours.annotations(index, [0])
        for field in ("labels", "masks", "boxes", "present", "iscrowd"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    theirs, mine = (found.ground_truth()["annotations"] for found in (read, ours))
    assert [entry["segmentations"] for entry in theirs] == [entry["segmentations"] for entry in mine]
    coco = COCO(str(tmp_path / "annotations" / "instances_valid.json"))
    np.testing.assert_array_equal(coco.annToMask(coco.anns[1]), ours.annotations(0, [0]).masks[0, 0])


def test_export_of_stills_refuses_videos_and_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="videos of up to 3 frames"):
        export_images(SyntheticVideos(DatasetConfig("synthetic-ovis", 2, 48, 80, 3), "train"), tmp_path, progress=False)
    dataset = SyntheticVideos(DatasetConfig("synthetic-coco", 1, 48, 80), "train")
    export_images(dataset, tmp_path, progress=False)
    with pytest.raises(UserError, match="exists already"):
        export_images(dataset, tmp_path, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations", "train"]


def test_command_line_writes_and_checks_stills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--num-videos", "3", "--height", "48", "--width", "80", "--layout", "coco", "--out", str(tmp_path)]
    assert main(["data", "synth", "synthetic-coco", *arguments]) == 0
    capsys.readouterr()
    assert main(["data", "check", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "images       6" in lines and "sizes        80x48 (6)" in lines and "categories   80" in lines
    assert not any(line.startswith(("videos", "frames", "masks", "warning")) for line in lines)


def test_check_counts_and_warns(tmp_path: Path) -> None:
    content = document()
    content["annotations"][1] |= {"area": 400.0}
    content["annotations"][2] |= {"segmentation": [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]], "area": 0.01}
    write(tmp_path, content)
    summary = check(tmp_path)
    assert (summary.videos, summary.annotations, summary.crowd, summary.noun) == (4, 4, 1, "images")
    assert summary.categories == {"toothbrush": 3, "stop sign": 1} and summary.sizes == {(30, 20): 4}
    assert [warning.split(": ", 1)[1] for warning in summary.warnings] == [
        "annotation 899: area is 400, but the mask has 48 pixels",
        "annotation 898: segmentation has no pixel",
    ]
    found = whole(tmp_path)
    assert not len(found.annotations(2, [0]).labels)


def of(place: str, **changes: Any) -> Callable[[Document], None]:
    return lambda content: content[place][1].update(changes)


def without(place: str, name: str) -> Callable[[Document], None]:
    return lambda content: content[place][1].pop(name)


NAN = float("nan")
RUNS = {"size": [HEIGHT, WIDTH], "counts": [600]}

BROKEN: dict[str, tuple[Callable[[Document], Any], str]] = {
    "no categories key": (lambda d: d.pop("categories"), "missing key 'categories'"),
    "no annotations key": (lambda d: d.pop("annotations"), "missing key 'annotations'"),
    "no images": (lambda d: d.update(images=[]), "images is an empty array"),
    "no annotations": (lambda d: d.update(annotations=[]), "annotations is an empty array"),
    "image no object": (lambda d: d.update(images=[3]), "images[0]: expected an object, found 3"),
    "annotation no object": (lambda d: d.update(annotations=[[]]), "annotations[0]: expected an object, found []"),
    "image id twice": (of("images", id=50), "images[1]: id 50 occurs twice"),
    "image id text": (of("images", id="51"), "images[1]: id is '51', expected an integer"),
    "image without size": (without("images", "height"), "image 51: missing key 'height'"),
    "zero size": (of("images", width=0), "image 51: width is 0, expected an integer from 1"),
    "huge size": (of("images", width=10**6), "image 51: width is 1000000, expected an integer from 1"),
    "no file name": (without("images", "file_name"), "image 51: missing key 'file_name'"),
    "outside": (of("images", file_name="../x.png"), "image 51: file_name is '../x.png'"),
    "missing file": (of("images", file_name="x.png"), "image 51: file_name is 'x.png', expected a file in"),
    "annotation id twice": (of("annotations", id=900), "annotations[1]: id 900 occurs twice"),
    "unknown image": (of("annotations", image_id=1), "annotation 899: image_id is 1, expected the id of an entry of"),
    "unknown category": (of("annotations", category_id=1), "annotation 899: category_id is 1, expected the id of an"),
    "iscrowd": (of("annotations", iscrowd=2), "annotation 899: iscrowd is 2, expected 0 or 1"),
    "negative area": (of("annotations", area=-1), "annotation 899: area is -1, expected a finite number"),
    "short box": (of("annotations", bbox=[1, 2, 3]), "annotation 899: bbox is [1, 2, 3]"),
    "no segmentation": (without("annotations", "segmentation"), "annotation 899: missing key 'segmentation'"),
    "null": (of("annotations", segmentation=None), "annotation 899: segmentation: expected an RLE"),
    "no polygon": (of("annotations", segmentation=[]), "annotation 899: segmentation: found an empty list"),
    "two points": (of("annotations", segmentation=[[1, 2, 3, 4]]), "annotation 899: segmentation: a polygon is a list"),
    "odd": (of("annotations", segmentation=[[1] * 7]), "annotation 899: segmentation: a polygon is a list"),
    "text in a polygon": (
        of("annotations", segmentation=[[1, 2, 3, 4, "5", 6]]),
        "annotation 899: segmentation: polygon coordinate 4 is",
    ),
    "true in a polygon": (
        of("annotations", segmentation=[SQUARE, [1, 2, 3, 4, 5, True]]),
        "annotation 899: segmentation: polygon coordinate 5 is true in polygon 1",
    ),
    "wild polygon": (
        of("annotations", segmentation=[SQUARE, [1, 2, 1e30, 4, 5, 6]]),
        "annotation 899: segmentation: polygon coordinate 2 is 1e+30 in polygon 1",
    ),
    "endless integer": (
        of("annotations", segmentation=[[1, 2, 10**400, 4, 5, 6]]),
        "annotation 899: segmentation: polygon coordinate 2 is",
    ),
    "nan in a polygon": (
        of("annotations", segmentation=[[1, 2, NAN, 4, 5, 6]]),
        "holds NaN or Infinity",
    ),
    "endless outline": (
        of("annotations", segmentation=[[0, 0, 60, 0, 0, 40] * 8000]),
        "annotation 899: segmentation: the outline is",
    ),
    "nan elsewhere": (of("annotations", score=NAN), "holds NaN or Infinity"),
    "rle size": (
        of("annotations", segmentation=RUNS | {"size": [WIDTH, HEIGHT]}),
        "annotation 899: segmentation: size is [30, 20]",
    ),
    "rle sum": (
        of("annotations", segmentation=RUNS | {"counts": [601]}),
        "annotation 899: segmentation: counts add up to 601",
    ),
    "rle text": (
        of("annotations", segmentation=RUNS | {"counts": "h"}),
        "annotation 899: segmentation: counts end in the middle",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    spoil, told = BROKEN[name]
    content = copy.deepcopy(document())
    spoil(content)
    file = write(tmp_path)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        whole(file)
    message = str(caught.value)
    assert message.startswith(str(file)) and told in message and "\n" not in message and len(message) < 400
    with pytest.raises(UserError):
        check(file)


def test_truncated_and_missing_files(tmp_path: Path) -> None:
    file = write(tmp_path)
    file.write_text(file.read_text()[:-40])
    with pytest.raises(UserError, match="no valid JSON at line 1 .*truncated"):
        whole(file)
    with pytest.raises(UserError, match="no annotation file found; expected one of .*instances_train"):
        load_dataset(DatasetConfig(str(tmp_path / "train2017")), "train")
    moved = tmp_path / "elsewhere" / "annotations" / file.name
    moved.parent.mkdir(parents=True)
    moved.write_text(json.dumps(document()))
    with pytest.raises(UserError, match="image 50: file_name is '000.png', expected a file in"):
        whole(moved)


def test_images_of_another_size_or_none_at_all(tmp_path: Path) -> None:
    write(tmp_path)
    images = whole(tmp_path)
    Image.new("L", (WIDTH, HEIGHT + 1)).save(tmp_path / "train2017" / "000.png")
    (tmp_path / "train2017" / "001.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="000.png: image 50: file_name has 30x21 pixels, expected 30x20"):
        images.frames(0, [0])
    with pytest.raises(UserError, match="001.png: image 51: file_name cannot be read as an image"):
        images.frames(1, [0])
    with pytest.raises(UserError, match="000.png: image 50"):
        check(tmp_path)
    with pytest.raises(IndexError, match="frame 0 only"):
        images.annotations(0, [1])


def test_grey_images_are_read_as_colour(tmp_path: Path) -> None:
    write(tmp_path)
    Image.fromarray(np.full((HEIGHT, WIDTH), 77, np.uint8)).save(tmp_path / "train2017" / "002.png")
    frames = whole(tmp_path).frames(2, [0])
    assert frames.shape == (1, HEIGHT, WIDTH, 3) and (frames == 77).all()


def test_real_annotations_are_those_of_pycocotools(tmp_path: Path, real_data: Path) -> None:
    """100 images of val2014 with 839 annotations; the images themselves are blank here."""
    source = real_data / "metric-real" / "coco-fake100" / "instances_val2014_100.json"
    if not source.exists():
        pytest.skip(f"{source} not found")
    content = json.loads(source.read_text())
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "instances_val2014.json"
    file.write_text(source.read_text())
    (tmp_path / "val2014").mkdir()
    for image in content["images"]:
        Image.new("1", (image["width"], image["height"])).save(tmp_path / "val2014" / image["file_name"], "png")
    images = whole(file)
    coco = COCO(str(source))
    assert len(images) == 100 and len(images.categories) == len(content["categories"])
    for index in range(0, 100, 7):
        found = images.annotations(index, [0])
        for position, annotation_id in enumerate(found.track_ids.tolist()):
            expected = coco.anns[annotation_id]
            np.testing.assert_array_equal(found.masks[position, 0], coco.annToMask(expected).astype(bool))
            assert images.categories[found.labels[position]].id == expected["category_id"]
            assert bool(found.iscrowd[position]) == bool(expected["iscrowd"])
    truth = images.ground_truth()["annotations"]
    assert len(truth) == 839 and {entry["id"]: entry["areas"] for entry in truth} == {
        key: [value["area"]] for key, value in coco.anns.items()
    }
    assert all(rle.area(entry["segmentations"][0]) >= 0 for entry in truth)
