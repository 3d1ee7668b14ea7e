"""What a report is told of a dataset: its name, its raters, and who counts as one."""

import json

import pytest
from clip_files import make_dataset

from uscl.data.dataset import open_dataset
from uscl.data.facts import dataset_facts
from uscl.data.ingest.merge import merge_datasets
from uscl.data.schema import CaseEntry, DatasetIndex
from uscl.errors import DataError
from uscl.records import DatasetFacts

AGREEMENT = {"dsc": 0.836, "dsc/a": 0.728}


def index_of(*cases):
    """An index of cases given as (patient, group)."""
    entries = [CaseEntry(f"c{n}", patient, group, frozenset("a"), str(n)) for n, (patient, group) in enumerate(cases)]
    return DatasetIndex("set", "f", ("a",), cases=tuple(entries))


def test_known_patients_are_the_unit():
    assert dataset_facts(index_of(("p", "p"), ("q", "g"))) == DatasetFacts("set")


def test_groups_stand_for_unknown_patients():
    facts = dataset_facts(index_of(("unknown-c0", "g"), ("unknown-c1", "g"), ("p", "p")))
    assert (facts.unit, facts.units) == ("group", {"c0": "g", "c1": "g", "c2": "p"})


def test_a_case_alone_stands_for_itself_and_names_the_unit():
    facts = dataset_facts(index_of(("unknown-c0", "g"), ("unknown-c1", "unknown-c1"), ("unknown-c2", "g")))
    assert (facts.unit, facts.units) == ("case", {"c0": "g", "c1": "unknown-c1", "c2": "g"})


def test_the_agreement_of_raters_is_read_and_changes_no_fingerprint(tmp_path):
    plain = open_dataset(make_dataset(tmp_path / "set")).index
    rated = open_dataset(make_dataset(tmp_path / "rated", agreement=AGREEMENT)).index
    assert (plain.agreement, rated.agreement) == ({}, AGREEMENT)
    assert plain.fingerprint == rated.fingerprint
    assert dataset_facts(rated).agreement == AGREEMENT


def test_a_merge_keeps_the_agreement_of_the_labelled_set(tmp_path):
    make_dataset(tmp_path / "clips", cases=0)
    make_dataset(tmp_path / "labels", clips=0, agreement=AGREEMENT)
    merge_datasets(tmp_path / "clips", tmp_path / "labels", tmp_path / "both")
    assert open_dataset(tmp_path / "both").index.agreement == AGREEMENT
    make_dataset(tmp_path / "more", seed=1, clips=0, prefix="x", agreement={"dsc": 0.1})
    merge_datasets(tmp_path / "labels", tmp_path / "more", tmp_path / "two")
    assert open_dataset(tmp_path / "two").index.agreement == {}


@pytest.mark.parametrize("agreement", [["dsc"], {"dsc": "high"}])
def test_an_agreement_that_is_no_numbers_is_damage(tmp_path, agreement):
    path = make_dataset(tmp_path / "set")
    document = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps(document | {"agreement": agreement}))
    with pytest.raises(DataError, match="agreement: expected numbers by measurement"):
        open_dataset(path)


def test_raters_are_a_fact_and_come_back_from_json():
    cases = [CaseEntry(f"c{n}", "p", "p", frozenset("a"), str(n), rater=who, image="i") for n, who in enumerate("ba")]
    facts = dataset_facts(DatasetIndex("set", "f", ("a",), cases=tuple(cases)))
    assert facts.raters == ("a", "b")
    assert DatasetFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    older = {"name": "x", "agreement": {}, "unit": "patient", "units": {}}
    assert DatasetFacts.from_json(older) == DatasetFacts("x")
