"""Two datasets become one, with nothing lost and nobody doubled."""

import numpy as np
import pytest
from clip_files import make_dataset

from uscl.data.dataset import open_dataset
from uscl.data.ingest.merge import merge_datasets
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
    assert summary.remarks == ("3 patients or groups occur in both and are taken to be the same: p0, p1, p2",)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {"classes": ("a", "c"), "prefix": "x"}, "labelled sets can be merged when classes"),
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
