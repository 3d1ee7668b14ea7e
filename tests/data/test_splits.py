"""Splits and label fractions: no unit is cut, classes reach every part, fractions are nested."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uscl.data.schema import CaseEntry, ClipEntry, DatasetIndex
from uscl.data.splits import cases_of, labelled_cases, pretraining_clips, split_units
from uscl.errors import DataError

CLASSES = ("a", "b", "c")


def case(name, patient, classes="abc", *, group="", split="", excluded=False):
    return CaseEntry(name, patient, group or patient, frozenset(classes), f"hash of {name}", excluded, split)


def clip(name, patient, *, group=""):
    return ClipEntry(name, patient, group or patient, 10, f"hash of {name}", True, 40.0)


def index(cases, clips=()):
    return DatasetIndex("made", "f" * 64, CLASSES, {}, 32, tuple(clips), tuple(cases))


def split(made, seed=0, validation=0.2, test=0.2):
    return split_units(made, seed=seed, validation_fraction=validation, test_fraction=test)


def patients(count, per_patient=4):
    return [case(f"{p}-{n}", f"p{p}") for p in range(count) for n in range(per_patient)]


random_cases = st.lists(
    st.tuples(st.integers(0, 11), st.sets(st.sampled_from("abc")), st.sampled_from(["", "g", "h"])), min_size=1
)


def test_fractions_are_met_exactly_where_patients_are_alike():
    parts = split(index(patients(10)))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (6, 2, 2)
    assert parts.unit == "patient"


@settings(max_examples=150, deadline=None)
@given(random_cases, st.integers(0, 3))
@example([(p, set(), "") for p in (0, 0, 1, 1, 2)], 0)  # no class anywhere, units above the quota
def test_parts_are_disjoint_complete_and_independent_of_order(drawn, seed):
    cases = [case(str(n), f"p{p}", c, group=g) for n, (p, c, g) in enumerate(drawn)]
    made = index(cases)
    try:
        parts = split(made, seed)
    except DataError as error:
        assert "needs at least 3" in str(error)
        return
    named = [set(cases_of(made, parts, part)) for part in ("train", "validation", "test")]
    assert all(named)
    assert sum(map(len, named)) == len(cases) == len(set().union(*named))
    holders = [{c.patient for c in cases if c.case in part} for part in named]
    groups = [{c.group for c in cases if c.case in part} for part in named]
    for sets in (holders, groups):
        assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]
    assert split(index(cases[::-1]), seed) == parts


@settings(max_examples=100, deadline=None)
@given(random_cases)
def test_training_keeps_every_class_that_two_units_own_and_others_get_it_where_three_do(drawn):
    cases = [case(str(n), f"p{p}", c) for n, (p, c, _) in enumerate(drawn)]
    made = index(cases)
    if len({c.patient for c in cases}) < 6:
        return
    parts = split(made)
    lookup = {c.case: c for c in cases}
    for name in CLASSES:
        owners = {c.patient for c in cases if name in c.classes}
        if len(owners) >= 2:
            assert any(name in lookup[c].classes for c in cases_of(made, parts, "train"))
        if len(owners) >= 6:
            for part in ("validation", "test"):
                assert any(name in lookup[c].classes for c in cases_of(made, parts, part)), (name, part)


def test_a_rare_class_reaches_all_three_parts():
    cases = [case(f"{p}-{n}", f"p{p}", "abc" if p in (3, 7, 11) else "ab") for p in range(20) for n in range(3)]
    for seed in range(5):
        parts = split(index(cases), seed)
        for part in ("train", "validation", "test"):
            assert any(name.split("-")[0] in ("3", "7", "11") for name in cases_of(index(cases), parts, part))


def test_seed_changes_the_split():
    assert len({split(index(patients(12)), seed).test for seed in range(8)}) > 3


def test_units_join_what_patient_or_group_ties():
    cases = [case("one", "p1", group="g1"), case("two", "p2", group="g1"), case("three", "p2", group="g2")]
    made = index([*cases, *patients(6)])
    parts = split(made)
    assert parts.unit == "group"
    homes = {
        part for part in ("train", "validation", "test") if {"one", "two", "three"} & set(cases_of(made, parts, part))
    }
    assert len(homes) == 1


def test_excluded_cases_are_in_no_part():
    made = index([*patients(6), case("copy", "p0", excluded=True)])
    parts = split(made)
    assert not any("copy" in cases_of(made, parts, part) for part in ("train", "validation", "test"))


def test_pretraining_never_reads_a_held_out_patient():
    clips = [clip(f"clip-{p}", f"p{p}") for p in range(8)] + [clip("alone", "q")]
    made = index(patients(8), clips)
    parts = split(made)
    read = set(pretraining_clips(made, parts))
    assert read == {f"clip-{unit[1:]}" for unit in parts.train} | {"alone"}


def test_held_out_patient_is_found_through_its_group():
    clips = [clip(f"clip-{p}", f"other-{p}", group=f"p{p}") for p in range(8)]
    made = index(patients(8), clips)
    parts = split(made)
    assert len(pretraining_clips(made, parts)) == len(parts.train)


def test_a_given_split_wins_and_validation_is_carved_from_the_rest():
    cases = [case(f"{p}-{n}", f"p{p}", split="test" if p < 3 else "train") for p in range(10) for n in range(2)]
    parts = split(index(cases))
    assert parts.test == {"p0", "p1", "p2"}
    assert len(parts.validation) == 2 and not parts.validation & parts.test


def test_a_patient_in_two_given_splits_is_an_error():
    cases = [*patients(5), case("x", "p1", split="train"), case("y", "p1", split="test")]
    with pytest.raises(DataError) as caught:
        split(index(cases))
    assert str(caught.value) == (
        "dataset made: patient or group 'p1' is in two splits: case y in test, case x in train; "
        "give it one split, or import without the split column"
    )


def test_too_few_patients_is_an_error():
    with pytest.raises(DataError) as caught:
        split(index(patients(2)))
    assert str(caught.value) == (
        "dataset made: 2 patients or groups with labelled cases; splitting into train, test, validation "
        "needs at least 3"
    )


def test_label_fractions_are_nested_patient_by_patient():
    made = index(patients(10))
    parts = split(made)
    kept = [labelled_cases(made, parts, fraction=f, draw=1) for f in (0.1, 0.25, 0.5, 1.0)]
    assert [len(names) for names in kept] == [2, 6, 12, 24]
    for small, large in itertools.pairwise(kept):
        assert large[: len(small)] == small
    assert len({name.split("-")[0] for name in kept[2]}) == 3
    assert set(kept[3]) == set(cases_of(made, parts, "train"))


def test_draws_differ_and_agree_at_full_fraction():
    made = index(patients(10))
    parts = split(made)
    assert len({labelled_cases(made, parts, fraction=0.1, draw=d) for d in range(6)}) > 2
    assert len({frozenset(labelled_cases(made, parts, fraction=1.0, draw=d)) for d in range(6)}) == 1


def test_classes_are_covered_as_early_as_possible():
    cases = [case(f"{p}-{n}", f"p{p}", "c" if n == 3 and p % 2 else "ab") for p in range(10) for n in range(4)]
    made = index(cases)
    names = labelled_cases(made, split(made), fraction=0.1, draw=0)
    assert {letter for c in cases if c.case in names for letter in c.classes} == {"a", "b", "c"}
    assert len(names) == 2


def test_a_fraction_that_leaves_a_class_unlabelled_is_an_error():
    cases = [case(f"{p}-{n}", f"p{p}", "abc"[n % 3]) for p in range(10) for n in range(3)]
    made = index(cases)
    parts = split(made)
    with pytest.raises(DataError) as caught:
        labelled_cases(made, parts, fraction=0.1, draw=0)
    text = str(caught.value)
    assert text.startswith("dataset made: labels.fraction 0.1 keeps 2 of 18 training cases and leaves class '")
    assert text.endswith("' unlabelled; 3 cases would do (labels.fraction 0.167)")
    assert len(labelled_cases(made, parts, fraction=0.167, draw=0)) == 3


def test_a_class_without_training_cases_is_named():
    made = index([case(f"{p}", f"p{p}", "ab") for p in range(6)])
    with pytest.raises(DataError, match="class 'c' occurs in none of the 4 training cases"):
        labelled_cases(made, split(made), fraction=1.0, draw=0)


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 4), (0.1, 41), (0.5, 206), (1.0, 411)])
def test_fractions_of_the_papers_411_training_images(fraction, count):
    """Oracle 12 of science.md 11: 1 % of 411 images are 4, 10 % are 41, and each holds the smaller."""
    made = index([case(f"c{n:03}", f"p{n:03}") for n in range(411 + 103 + 1)])
    parted = split(made, validation=1 / 515, test=103 / 515)
    assert len(parted.train) == 411 and len(parted.test) == 103
    chosen = labelled_cases(made, parted, fraction=fraction, draw=0)
    assert len(chosen) == count
    assert set(labelled_cases(made, parted, fraction=0.01, draw=0)) <= set(chosen)
