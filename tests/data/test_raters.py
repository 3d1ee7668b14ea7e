"""Several raters of one picture: stored side by side, chosen by name, split together, merged by majority."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from clip_files import make_dataset, speckle

from uscl.data.dataset import open_dataset
from uscl.data.describe import describe, to_text
from uscl.data.ingest.merge import merge_datasets
from uscl.data.preview import contact_sheet
from uscl.data.raters import choose_cases, majority, raters_of
from uscl.data.schema import RATING_COLUMNS, CaseEntry, DatasetIndex
from uscl.data.splits import cases_of, split_units
from uscl.data.writer import DatasetWriter
from uscl.errors import DataError, SpecError

FRACTIONS = {"seed": 0, "validation_fraction": 0.2, "test_fraction": 0.2}


def write_rated(path, rng, *, raters=("ann", "bob"), pictures=8, skip=(), qualities=("Fair", "Poor")):
    """Every rater draws another square on each picture; `skip` holds (picture, rater) that nobody drew."""
    with DatasetWriter(path, name="rated", classes=("kidney",), size=32) as writer:
        for number in range(pictures):
            image = speckle(rng, 20, 20)
            for place, rater in enumerate(raters):
                mask = np.zeros((1, 20, 20), bool)
                mask[0, 4 : 10 + place, 4:12] = True
                if (number, rater) not in skip:
                    rating = {"rater": rater, "image_id": f"i{number}", "quality": qualities[number % 2]}
                    rating |= {"view": "Transverse", "origin": "human", "patient": f"p{number}"}
                    writer.add_case(image, mask, case=f"i{number}@{rater}", **rating)
    return path


def entry(name, picture, rater, *, patient="", group="", quality=""):
    who = patient or f"p{picture}"
    return CaseEntry(name, who, group or who, frozenset("a"), name, rater=rater, image=picture, quality=quality)


def chosen(index, **choice):
    return [case.case for case in choose_cases(index, **choice).cases if not case.excluded]


def test_raters_are_kept_apart_and_come_back(tmp_path, rng):
    dataset = open_dataset(write_rated(tmp_path / "d", rng, pictures=2))
    assert raters_of(dataset.index) == ("ann", "bob")
    assert [(c.case, c.rater, c.image, c.quality) for c in dataset.index.cases[:3]] == [
        ("i0@ann", "ann", "i0", "Fair"), ("i0@bob", "bob", "i0", "Fair"), ("i1@ann", "ann", "i1", "Poor"),
    ]  # fmt: skip
    assert (dataset.case_rows[0]["view"], dataset.case_rows[0]["origin"]) == ("Transverse", "human")
    assert dataset.case("i0@bob").rater == "bob"
    assert dataset.case("i0@bob").masks.sum() - dataset.case("i0@ann").masks.sum() == 8


def test_a_dataset_without_raters_is_written_as_before_and_opens_with_empty_ones(tmp_path):
    path = make_dataset(tmp_path / "d")
    assert not set(RATING_COLUMNS) & set(pq.read_schema(path / "labels.parquet").names)
    dataset = open_dataset(path)
    assert all(row[name] == "" for row in dataset.case_rows for name in RATING_COLUMNS)
    assert {(case.rater, case.image, case.quality) for case in dataset.index.cases} == {("", "", "")}
    assert choose_cases(dataset.index) is dataset.index


@pytest.mark.parametrize("skip", [[], [(0, "ann"), (3, "ann")]])
def test_one_rater_is_chosen_and_no_split_cuts_a_picture(tmp_path, rng, skip):
    index = open_dataset(write_rated(tmp_path / "d", rng, skip=skip)).index
    drawn_by_ann = [f"i{n}@ann" for n in range(8) if (n, "ann") not in skip]
    assert chosen(index) == chosen(index, rater="ann") == drawn_by_ann
    assert chosen(index, rater="bob") == [f"i{n}@bob" for n in range(8)]
    split = split_units(index, **FRACTIONS)
    parts = [{case.split("@")[0] for case in cases_of(index, split, part)} for part in ("train", "validation", "test")]
    assert all(parts) and sum(map(len, parts)) == 8 == len(set().union(*parts))


def test_a_split_is_the_same_for_every_rater_of_the_same_pictures(tmp_path, rng):
    index = open_dataset(write_rated(tmp_path / "d", rng)).index
    splits = [split_units(choose_cases(index, rater=rater), **FRACTIONS) for rater in ("ann", "bob")]
    assert splits[0] == splits[1]


def test_a_picture_that_nobody_chose_still_ties_its_patient_to_its_group():
    """i1 is poor, shares its patient with i0 and its group with i2: one unit, whatever is asked for."""
    ties = [entry("a", "i0", "ann", patient="p", quality="Good"), entry("c", "i2", "ann", group="g", quality="Good")]
    poor = entry("b", "i1", "ann", patient="p", group="g", quality="Poor")
    others = [entry(f"o{n}", f"j{n}", "ann", quality="Good") for n in range(4)]
    index = choose_cases(DatasetIndex("d", "f", ("a",), cases=(*ties, poor, *others)), quality=("Good",))
    for seed in range(20):
        split = split_units(index, **FRACTIONS | {"seed": seed})
        parts = [set(cases_of(index, split, part)) & {"a", "c"} for part in ("train", "validation", "test")]
        assert sorted(map(len, parts)) == [0, 0, 2]


def test_qualities_are_chosen(tmp_path, rng):
    index = open_dataset(write_rated(tmp_path / "d", rng, pictures=4)).index
    assert chosen(index, quality=("Poor",)) == ["i1@ann", "i3@ann"]
    assert len(chosen(index, quality=("Poor", "Fair"), rater="bob")) == 4


def test_cases_without_a_rater_count_before_those_of_the_first():
    cases = (entry("a", "i0", ""), entry("b", "i0", "ann"), entry("c", "i1", "ann"), entry("d", "i1", "bob"))
    index = DatasetIndex("d", "f", ("a",), cases=cases)
    assert chosen(index) == ["a", "c"]
    assert chosen(index, rater="ann") == ["b", "c"]


def test_the_consensus_is_never_the_first_rater():
    cases = (entry("a", "i0", "consensus"), entry("b", "i0", "zoe"))
    index = DatasetIndex("d", "f", ("a",), cases=cases)
    assert raters_of(index) == ("zoe", "consensus")
    assert (chosen(index), chosen(index, rater="consensus")) == (["b"], ["a"])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"rater": "eve"}, "labels.rater: 'eve' is no rater of dataset 'rated'; it has ann, bob"),
        ({"rater": "consensus"}, "labels.rater: 'consensus' is no rater of dataset 'rated'; it has ann, bob"),
        ({"quality": ("fair",)}, "labels.quality: 'fair' is no quality of dataset 'rated'; it has Fair, Poor"),
    ],
)
def test_unknown_raters_and_qualities_are_refused(tmp_path, rng, choice, message):
    index = open_dataset(write_rated(tmp_path / "d", rng)).index
    with pytest.raises(SpecError) as refused:
        choose_cases(index, **choice)
    assert str(refused.value) == message


def test_a_dataset_that_names_nobody_says_so(tmp_path):
    index = open_dataset(make_dataset(tmp_path / "set")).index
    with pytest.raises(SpecError, match=r"^labels.rater: 'a' is no rater of dataset 'set'; it names no rater$"):
        choose_cases(index, rater="a")


def test_a_majority_is_more_than_half():
    votes = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool)[:, None, None]
    assert majority(votes)[0, 0].tolist() == [True, True, False, False, False]  # 2 of 4 is no majority
    assert majority(votes[1:])[0, 0].tolist() == [True, True, False, False, False]
    assert majority(votes[:2])[0, 0].tolist() == [True, True, True, False, False]
    assert majority(votes[:1])[0, 0].tolist() == votes[0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"patient": "q"}, "case b: another case of image i has another patient or group"),
        ({"group": "h"}, "case b: another case of image i has another patient or group"),
        ({"rater": "ann"}, "case b: image i has a case of rater 'ann' already; one case per rater"),
        (
            {"origin": "me"},
            "case b: unknown origin 'me'; expected one of human, interpolated, tracked, model",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, rng, second, message):
    image, masks = speckle(rng, 9, 9), np.ones((1, 9, 9), bool)
    rating = {"patient": "p", "rater": "ann", "image_id": "i"}
    with pytest.raises(DataError) as refused, DatasetWriter(tmp_path / "d", name="d", classes="a", size=32) as writer:
        writer.add_case(image, masks, case="a", **rating)
        writer.add_case(image, masks, case="b", **rating | {"rater": "bob"} | second)
    assert str(refused.value) == message


def test_a_merge_keeps_raters(tmp_path, rng):
    write_rated(tmp_path / "rated", rng, pictures=3)
    make_dataset(tmp_path / "clips", cases=0)
    merge_datasets(tmp_path / "clips", tmp_path / "rated", tmp_path / "both")
    both, before = (open_dataset(tmp_path / name) for name in ("both", "rated"))
    assert [{name: row[name] for name in RATING_COLUMNS} for row in both.case_rows] == [
        {name: row[name] for name in RATING_COLUMNS} for row in before.case_rows
    ]


def test_info_says_raters_and_qualities(tmp_path, rng):
    facts = describe(open_dataset(write_rated(tmp_path / "d", rng, skip=[(0, "bob")])), **FRACTIONS)
    assert (facts["cases"]["raters"], facts["cases"]["qualities"]) == ({"ann": 8, "bob": 7}, {"Poor": 8, "Fair": 7})
    assert "raters      ann 8, bob 7; of 8 images\nquality     Poor 8, Fair 7\n" in to_text(facts)
    assert json.loads(json.dumps(facts))["cases"]["pictures"] == 8


def test_info_splits_what_a_trial_would_use(tmp_path, rng):
    facts = describe(open_dataset(write_rated(tmp_path / "d", rng)), **FRACTIONS)
    assert sum(facts["splits"][part]["cases"] for part in ("train", "validation", "test")) == 8  # of 16


def test_the_preview_names_the_raters(tmp_path, rng):
    """The legend of a rated dataset is longer than that of the same one without raters."""
    rated = contact_sheet(open_dataset(write_rated(tmp_path / "d", rng, pictures=3)))
    nameless = contact_sheet(open_dataset(write_rated(tmp_path / "e", rng, raters=("",), pictures=3)))
    inked = [np.flatnonzero((sheet[:24] > 60).any(axis=(0, 2))).max() for sheet in (rated, nameless)]
    assert inked[0] > inked[1] + 7 * len(", raters ann, bob") - 14
