"""Two datasets become one, with nothing lost and nobody doubled."""

import numpy as np
import pytest
from clip_files import make_dataset, speckle

from uscl.data.dataset import open_dataset
from uscl.data.ingest.merge import merge_datasets
from uscl.data.splits import unit_names
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError


def test_clips_and_cases_come_along_unchanged(tmp_path):
    one = open_dataset(make_dataset(tmp_path / "one", cases=0, classes=()))
    two = open_dataset(make_dataset(tmp_path / "two", seed=1, clips=0, size=64, prefix="x", contains={"a": ["b"]}))
    summary = merge_datasets(tmp_path / "one", tmp_path / "two", tmp_path / "out")
    out = open_dataset(tmp_path / "out")
    assert (summary.clips, summary.frames, summary.cases, summary.remarks) == (3, 15, 6, ())
    assert [(c.clip, c.content, c.has_times) for c in out.index.clips] == [
        (c.clip, c.content, c.has_times) for c in one.index.clips
    ]
    assert out.index.cases == two.index.cases
    assert (out.classes, out.index.contains, out.size, out.name) == (("a", "b"), {"a": ("b",)}, 32, "out")
    assert np.array_equal(out.frames(np.arange(15)), one.frames(np.arange(15)))
    assert np.array_equal(out.case("xcase3").masks, two.case("xcase3").masks)


def test_a_patient_of_one_name_is_one_patient_and_it_is_said(tmp_path):
    make_dataset(tmp_path / "one", cases=0)
    make_dataset(tmp_path / "two", clips=0)
    summary = merge_datasets(tmp_path / "one", tmp_path / "two", tmp_path / "out")
    assert summary.remarks == ("3 patients or groups occur in both and taken to be the same: p0, p1, p2",)


def test_a_long_list_ends_with_an_ellipsis_and_one_patient_is_singular(tmp_path):
    make_dataset(tmp_path / "one", cases=0, clips=6)
    make_dataset(tmp_path / "two", clips=0, cases=6)
    summary = merge_datasets(tmp_path / "one", tmp_path / "two", tmp_path / "out")
    assert summary.remarks[0].endswith("the same: p0, p1, p2, p3, p4, ...")
    make_dataset(tmp_path / "three", clips=0, cases=1)
    summary = merge_datasets(tmp_path / "one", tmp_path / "three", tmp_path / "other")
    assert summary.remarks == ("1 patient or group occurs in both and taken to be the same: p0",)


def test_a_clip_in_both_is_one_group_and_it_is_said(tmp_path):
    make_dataset(tmp_path / "one", cases=0, clips=3)
    make_dataset(tmp_path / "two", cases=6, clips=2, prefix="x")  # the same noise
    summary = merge_datasets(tmp_path / "one", tmp_path / "two", tmp_path / "out")
    assert summary.remarks == ("2 clips are copies across the two, kept in one group: xclip0, xclip1",)
    index = open_dataset(tmp_path / "out").index
    names = unit_names(index)
    units = {(clip.clip): names[clip.patient, clip.group] for clip in index.clips}
    assert units["clip0"] == units["xclip0"] != units["clip1"] == units["xclip1"] != units["clip2"]
    cases = {case.case: names[case.patient, case.group] for case in index.cases}
    assert cases["xcase0"] == units["clip0"] and cases["xcase2"] not in units.values()


def test_a_patient_given_two_splits_by_the_two_is_refused(tmp_path, rng):
    for name, part in (("one", "train"), ("two", "test")):
        with DatasetWriter(tmp_path / name, name=name, classes=("a",), size=32) as writer:
            writer.add_case(speckle(rng, 9, 9), np.ones((1, 9, 9), bool), case=name, patient="p", split=part)
    with pytest.raises(DataError, match="'p' is in two splits: case two in test, case one in train"):
        merge_datasets(tmp_path / "one", tmp_path / "two", tmp_path / "out")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {"classes": ("a", "c"), "prefix": "x"}, "labelled sets can be merged when classes"),
        (
            {"contains": {"a": ["b"]}},
            {"prefix": "x"},
            r"^class a contains b in .*one and nothing in .*two \(--contains\); labelled sets can be merged when",
        ),
        ({"size": 32}, {"size": 64, "prefix": "x"}, "import both with the same --size"),
        ({}, {}, "two clips are called 'clip0'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, first, second, message):
    make_dataset(tmp_path / "one", **first)
    make_dataset(tmp_path / "two", **second)
    with pytest.raises(DataError, match=message):
        merge_datasets(tmp_path / "one", tmp_path / "two", tmp_path / "out")
    assert not (tmp_path / "out").exists()
