"""Names, presets, dials, categories of the synthetic benchmark."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vislab.data import DatasetConfig, VideoDataset, load_dataset
from vislab.data.synthetic import PRESETS, RANGES, Dials, SyntheticVideos, parse_name
from vislab.data.synthetic.config import categories, category_grid, resolve, split_labels
from vislab.errors import UserError

COUNTS = {  # youtube-vos.org/dataset/vis, songbai.site/ovis, cocodataset.org
    "synthetic-ytvis19": (2238, 302, 40),
    "synthetic-ytvis21": (2985, 421, 40),
    "synthetic-ovis": (607, 140, 25),
    "synthetic-coco": (118287, 5000, 80),
}


@pytest.mark.parametrize("name", COUNTS)
def test_presets_have_the_counts_of_the_sets_they_stand_for(name: str) -> None:
    train, valid, num_categories = COUNTS[name]
    assert len(SyntheticVideos(DatasetConfig(name), "train")) == train
    dataset = load_dataset(DatasetConfig(name), "valid")
    assert (len(dataset), len(dataset.categories)) == (valid, num_categories)
    assert isinstance(dataset, VideoDataset)
    info = dataset.info(len(dataset) - 1)
    assert (info.id, info.height, info.width) == (valid, 360, 640)
    low, high = PRESETS[name].length
    assert low <= info.length <= high


def test_overrides_replace_the_presets_own() -> None:
    dataset = SyntheticVideos(DatasetConfig("synthetic-ovis", 7, 48, 80, 5, 8), "valid")
    assert len(dataset) == 7
    assert dataset.info(6)[2:] == (48, 80, 5)
    assert [c.name for c in dataset.categories] == [
        f"{texture} {shape}" for shape in ("disc", "square", "triangle", "star") for texture in ("plain", "striped")
    ]
    assert [c.id for c in dataset.categories] == list(range(1, 9))


def test_every_dial_has_a_range_that_holds_all_presets() -> None:
    assert list(RANGES) == [f.name for f in fields(Dials)]
    for preset in PRESETS.values():
        for dial, (low, high) in RANGES.items():
            assert low <= getattr(preset.dials, dial) <= high


@given(
    st.sampled_from(sorted(PRESETS)),
    st.dictionaries(st.sampled_from([d for d in RANGES if d != "objects"]), st.floats(0, 1), max_size=4),
)
@settings(max_examples=50, deadline=None)
def test_names_round_trip(preset: str, values: dict[str, float]) -> None:
    dials = replace(PRESETS[preset].dials, **values)
    name = "+".join([preset, *(f"{dial}={value!r}" for dial, value in values.items())])
    assert parse_name(name) == (preset, dials)
    again = parse_name(resolve(DatasetConfig(name)).name)[1]
    for dial in RANGES:
        assert getattr(again, dial) == pytest.approx(getattr(dials, dial), rel=1e-14)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("synthetic-ytvis20", ["'synthetic-ytvis20'", "synthetic-ytvis19", "synthetic-coco"]),
        ("synthetic-ovis+fog=1", ["'fog'", "occlusion", "noise_frames"]),
        ("synthetic-ovis+faint=2", ["faint='2'", "from 0 to 1"]),
        ("synthetic-ovis+faint", ["faint=''", "a number from 0 to 1"]),
        ("synthetic-ovis+speed=fast", ["speed='fast'", "from 0 to 4"]),
        ("synthetic-ovis+speed=nan", ["speed='nan'"]),
        ("synthetic-ovis+objects=2.5", ["objects='2.5'", "an integer from 0 to 12"]),
        ("synthetic-ovis+blur=1+blur=1", ["'blur'", "twice"]),
    ],
)
def test_bad_names_are_told_in_one_sentence(name: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load_dataset(DatasetConfig(name), "train")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("option", "value"), [("num_videos", 0), ("height", 8), ("width", -1), ("length", 0), ("num_categories", 0)]
)
def test_bad_overrides_name_option_and_value(option: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{option}={value}"):
        load_dataset(DatasetConfig("synthetic-ovis", **{option: value}), "train")


def test_impossible_number_of_categories_and_split() -> None:
    with pytest.raises(UserError, match="num_categories=11 .*possible: 1, 2, 3"):
        load_dataset(DatasetConfig("synthetic-ovis", num_categories=11), "train")
    with pytest.raises(UserError, match="'test'"):
        load_dataset(DatasetConfig("synthetic-ovis"), "test")  # type: ignore[arg-type]


def test_synthetic_options_do_not_apply_to_a_path() -> None:
    with pytest.raises(UserError, match="length=5"):
        load_dataset(DatasetConfig("somewhere", length=5), "train")


@pytest.mark.parametrize(("number", "grid"), [(1, (1, 1)), (8, (4, 2)), (25, (5, 5)), (40, (10, 4)), (80, (10, 8))])
def test_category_grid(number: int, grid: tuple[int, int]) -> None:
    assert category_grid(number) == grid
    names = [category.name for category in categories(number)]
    assert len(set(names)) == number
    for label, name in enumerate(names):
        shape, texture = split_labels(label, number)  # type: ignore[arg-type]
        assert names[int(shape) * grid[1] + int(texture)] == name


def test_fingerprints_tell_everything_apart_that_changes_the_data() -> None:
    base = DatasetConfig("synthetic-ovis", 5, 48, 80, 4, 8)
    variants = [
        replace(base, name="synthetic-ovis+faint=0.1"),
        replace(base, name="synthetic-ytvis19"),
        *(replace(base, **{option: 64}) for option in ("num_videos", "height", "width", "length", "seed")),
        replace(base, num_categories=4),
    ]
    prints = [SyntheticVideos(config, "train").fingerprint() for config in [base, *variants]]
    prints.append(SyntheticVideos(base, "valid").fingerprint())
    assert len(set(prints)) == len(prints)
    assert SyntheticVideos(replace(base, name="synthetic-ovis+scale=0.2"), "train").fingerprint() == prints[0]


RECORDED = {  # fingerprints that finished runs were recorded with; a new dial must not change them
    "synthetic-ytvis19": ("0d7e4071d6f6eee5", "9238a41389393540"),
    "synthetic-ytvis21": ("759dcd46b92cec93", "d0af2e2cc8ebb577"),
    "synthetic-ovis": ("b6efd460795698eb", "e8f1494538b59416"),
    "synthetic-coco": ("8a4f0a16b59403f3", "8303690d5f7e63bc"),
    "synthetic-ytvis19+faint=0.1": ("a52261fc13ac3cfe", "bcf80e82de006643"),
    "synthetic-ovis+lookalike=0.5+leave=1+objects=3": ("ea6b12f57db80277", "858289d2f7f56683"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_fingerprints_are_those_that_runs_were_recorded_with(name: str) -> None:
    found = tuple(load_dataset(DatasetConfig(name), split).fingerprint() for split in ("train", "valid"))
    assert found == RECORDED[name]
