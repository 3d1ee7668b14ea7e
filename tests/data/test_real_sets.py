"""pocus and usgra, where they are at hand: the counts that their README states."""

import csv

import numpy as np
import pytest
from clip_files import real_data

from uscl.data.dataset import open_dataset
from uscl.data.ingest.clips import import_clips
from uscl.data.ingest.labels import import_labels
from uscl.data.ingest.masks import parse_class_map
from uscl.data.ingest.merge import merge_datasets
from uscl.data.ingest.table import find_table
from uscl.data.splits import cases_of, pretraining_clips, split_units

POCUS, USGRA = real_data("pocus"), real_data("usgra")
needs_pocus = pytest.mark.skipif(POCUS is None, reason="no pocus set; USCL_SHARED_DATA names the folder that holds it")
needs_usgra = pytest.mark.skipif(USGRA is None, reason="no usgra set; USCL_SHARED_DATA names the folder that holds it")
CLASSES = parse_class_map("1=nerve,2=vessel")


@pytest.fixture(scope="module")
def pocus(tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "pocus"
    import_clips(POCUS, out, size=64, table=find_table(POCUS, given=None))
    return open_dataset(out)


@pytest.fixture(scope="module")
def usgra(tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "usgra"
    import_labels(USGRA, out, class_map=CLASSES, size=64, table=find_table(USGRA, given=None))
    return open_dataset(out)


@pytest.mark.slow
@needs_pocus
def test_pocus_is_counted_by_decoding(pocus):
    clips = pocus.index.clips
    assert (len(clips), len({clip.group for clip in clips}), sum(clip.num_frames for clip in clips)) == (44, 13, 11208)
    with (POCUS / "clips.csv").open(newline="") as file:
        stated = {row["file"].rsplit(".", 1)[0]: row for row in csv.DictReader(file)}
    for clip in clips:
        assert clip.num_frames == int(stated[clip.clip]["frames"])
        assert 1000 / clip.frame_time_ms == pytest.approx(float(stated[clip.clip]["fps"]), rel=0.1)
    notes = [row["note"] for row in pocus.clip_rows if "same " in row["note"]]
    assert notes == ["same recording as Vir_or_Pneu_prospective_file4"]
    assert pocus.licence == "CC BY 2.0 (5 files), CC BY 4.0 (39 files)"


@pytest.mark.slow
@needs_pocus
def test_pocus_repeats_frames_where_its_readme_says(pocus):
    share = {name: clip.duplicate.mean() for name, clip in pocus.clip_table.items()}
    assert all(0.4 < value < 0.55 for name, value in share.items() if "volpecelli" in name)
    assert all(0.5 < value < 0.65 for name, value in share.items() if "prospective" in name)
    assert share["Cov_recommendations_lightbeam_mov6"] == pytest.approx(0.27, abs=0.02)
    assert share["Vir_whitelung_h1n1"] == pytest.approx(0.20, abs=0.02)


@pytest.mark.slow
@needs_pocus
def test_pocus_leaves_dates_and_scanners_behind(pocus):
    for name in ("clips.parquet", "dataset.json"):
        content = (pocus.path / name).read_bytes().lower()
        assert not any(
            word in content for word in (b"creation_time", b"encoder", b"philips", b"clarius", b"butterfly iq")
        )


@pytest.mark.slow
@needs_usgra
def test_usgra_has_214_distinct_images(usgra):
    cases = usgra.index.cases
    assert (len(cases), sum(case.excluded for case in cases)) == (244, 30)
    with (USGRA / "pairs.csv").open(newline="") as file:
        stated = list(csv.DictReader(file))
    expected = {
        row["image"] for row in stated if row["near_duplicate_group"].startswith("copy") and row["channels"] == "1"
    }
    expected = {name.replace("test/images/", "test-").replace("images/", "").removesuffix(".png") for name in expected}
    excluded = {case.case for case in cases if case.excluded}
    assert excluded == expected | {"0077"}
    kept = [case for case in cases if not case.excluded]
    assert (
        sum("nerve" in case.classes for case in cases) == 244 and sum("vessel" in case.classes for case in cases) == 219
    )
    assert len(kept) == 214


@pytest.mark.slow
@needs_usgra
def test_usgra_copies_are_found_without_its_table(tmp_path):
    remarks = import_labels(USGRA, tmp_path / "out", class_map=CLASSES, size=64).remarks
    assert any(
        "1 copy has another mask" in said and "0077.png and images/0043.png (Dice 0.65" in said for said in remarks
    )
    assert sum(case.excluded for case in open_dataset(tmp_path / "out").index.cases) == 30


@pytest.mark.slow
@needs_usgra
def test_usgra_groups_stay_in_one_split(usgra):
    for seed in range(5):
        split = split_units(usgra.index, seed=seed, validation_fraction=0.2, test_fraction=0.2)
        home = {case: part for part in ("train", "validation", "test") for case in cases_of(usgra.index, split, part)}
        assert len(home) == 214
        homes: dict[str, set[str]] = {}
        for case in usgra.index.cases:
            if case.case in home:
                homes.setdefault(case.group, set()).add(home[case.case])
        assert all(len(parts) == 1 for parts in homes.values())


@pytest.mark.slow
@needs_usgra
def test_usgra_masks_are_palette_indices(usgra):
    areas = np.array([usgra.case(row["case"]).masks.mean(axis=(1, 2)) for row in usgra.case_rows])
    means = [column[column > 0].mean() for column in areas.T]
    assert means == pytest.approx([0.031, 0.046], abs=0.001)


@pytest.mark.slow
@needs_pocus
@needs_usgra
def test_both_become_one(pocus, usgra, tmp_path):
    merge_datasets(pocus.path, usgra.path, tmp_path / "out")
    index = open_dataset(tmp_path / "out").index
    split = split_units(index, seed=0, validation_fraction=0.2, test_fraction=0.2)
    assert len(pretraining_clips(index, split)) == 44
