"""`uscl data check` on single cases and clips: sizes, masks, sectors, classes, areas, raters, what is not known."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from checked_sets import box, film, findings_of, make_set, scene, write_cases

from uscl.data.checks.class_presence import robust_z
from uscl.data.checks.finding import Finding, Level, in_order, leaks, summary, to_text
from uscl.data.checks.planes import _odd_spacing
from uscl.data.dataset import open_dataset


def fill_with(**settings):
    return lambda writer, rng: write_cases(writer, rng, **settings)


def with_clip(**settings):
    """Cases and one clip of the first patient."""

    def fill(writer, rng):
        write_cases(writer, rng)
        clip = {"clip": "k", "patient": "p0", "times_ms": np.arange(20) * 40.0, "spacing_mm": (0.5, 0.5)} | settings
        frames = clip.pop("frames", None)
        writer.add_clip(film(rng) if frames is None else frames, **clip)

    return fill


def clean(tmp_path, rng):
    """What is found in a set in which nothing is wrong: little."""
    settings = {"dynamic_range_db": 60.0}
    sector = np.arange(64 * 64).reshape(64, 64) > 100

    def fill(writer, rng):
        with_clip(sector=sector)(writer, rng)
        writer.add_remarks([])

    return findings_of(make_set(tmp_path / "clean", rng, fill, **settings))


def test_a_set_in_order_has_no_finding(tmp_path, rng):
    assert clean(tmp_path, rng) == {}


@pytest.mark.parametrize(
    ("settings", "kind", "examples"),
    [
        ({"masks": {3: np.zeros((1, 96, 96), bool)}}, "empty_masks", ("c3",)),
        ({"known": lambda n: np.full((96, 96), n != 4)}, "not_annotated", ("c4",)),
        ({"sector": lambda n: np.full((96, 96), False)}, "sector_empty", ("c0", "c1", "c2", "c3", "c4")),
        ({"sector": lambda n: np.full((96, 96), True)}, "sector_everything", ("c0", "c1", "c2", "c3", "c4")),
        ({"sector": lambda n: box(side=20)[0]}, "outside_sector", None),
        ({"spacing_mm": lambda n: (10.0, 10.0) if n == 2 else (0.2, 0.2)}, "spacing", ("c2: 10 x 10 mm a pixel",)),
        ({"spacing_mm": lambda n: None if n == 7 else (0.2, 0.2)}, "spacing_unknown", ("c7",)),
        ({"masks": {5: box(side=2)}}, "area_outliers", ("c5 (0.043 %)",)),
        ({"patient": lambda n: f"unknown-c{n}" if n == 1 else f"p{n}"}, "patient_unknown", ("c1",)),
    ],
)
def test_what_is_odd_about_a_case_is_told_with_its_name(settings, kind, examples, tmp_path, rng):
    finding = findings_of(make_set(tmp_path / "d", rng, fill_with(**settings)))[kind]
    assert finding.level in (Level.WARNING, Level.NOTE) and finding.message
    assert examples is None or finding.examples == examples


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"frames": np.repeat(film(np.random.default_rng(5), 7), 3, axis=0)[:20]}, "mostly_repeated_frames"),
        ({"frames": film(np.random.default_rng(5))[[0, 0, *range(2, 20)]]}, "repeated_frames"),
        ({"times_ms": None}, "times_unknown"),
        ({"sector": np.zeros((64, 64), bool)}, "clip_sector_empty"),
        ({"sector": None}, "clip_sector_everything"),
        ({"spacing_mm": (0.5, 4.0)}, "spacing"),
        ({"patient": "unknown-k"}, "patient_unknown"),
    ],
)
def test_what_is_odd_about_a_clip_is_told_with_its_name(settings, kind, tmp_path, rng):
    finding = findings_of(make_set(tmp_path / "d", rng, with_clip(**settings)))[kind]
    assert finding.examples[0].startswith("k")


@pytest.mark.parametrize(
    ("spacing", "said"),
    [
        ((0.2, 0.2), ""),
        ((-0.2, 0.2), "-0.2 x 0.2 mm a pixel"),
        ((0.1, 0.3), "0.1 x 0.3 mm a pixel, far from square"),
        ((0.01, 0.01), "2 x 1 mm in all"),
        ((1.9, 1.9), ""),
        ((2.1, 2.1), "2.1 x 2.1 mm a pixel"),
    ],
)
def test_pixel_sizes_that_no_scanner_has(spacing, said):
    assert _odd_spacing(spacing, 200, 100) == said


def test_planes_of_another_size_than_stated_are_named_and_the_rest_is_checked(tmp_path, rng):
    path = make_set(tmp_path / "d", rng).path
    table = pq.read_table(path / "labels.parquet").to_pylist()
    schema = pq.read_schema(path / "labels.parquet")
    table[3]["height_px"] = 95
    pq.write_table(pq.read_table(path / "labels.parquet").from_pylist(table, schema), path / "labels.parquet")
    document = json.loads((path / "dataset.json").read_text())
    document["files"]["labels.parquet"]["bytes"] = (path / "labels.parquet").stat().st_size
    (path / "dataset.json").write_text(json.dumps(document))
    found = findings_of(open_dataset(path))
    assert found["size_mismatch"].examples == ("c3",) and found["size_mismatch"].count == 1


def masks_of(number, *, bob=False):
    """Class `organ` everywhere, `tip` in the first only."""
    second = box(side=9 if number == 0 or bob else 0)
    return np.concatenate([box(), second])


def test_a_class_missing_from_a_part_or_everywhere(tmp_path, rng):
    masks = {number: np.concatenate([masks_of(number), np.zeros((1, 96, 96), bool)]) for number in range(10)}
    classes = ("organ", "tip", "never")
    found = findings_of(make_set(tmp_path / "d", rng, fill_with(masks=masks), classes=classes))
    assert found["class_never"].examples == ("never",)
    assert found["class_missing_validation"].examples == found["class_missing_test"].examples == ("tip",)
    assert "class_missing_train" not in found
    masks = {number: masks_of(number, bob=True) for number in range(10)}
    found = findings_of(make_set(tmp_path / "e", rng, fill_with(masks=masks), classes=classes[:2]))
    assert not [name for name in found if name.startswith("class_")]


def test_raters_that_disagree_whether_a_class_is_there(tmp_path, rng):
    def fill(writer, rng):
        for number in range(5):
            image = scene(rng)
            for rater in ("ann", "bob"):
                masks = masks_of(number, bob=rater == "bob" and number < 3)
                who = {"rater": rater, "image_id": f"i{number}", "patient": f"p{number}"}
                writer.add_case(image, masks, case=f"i{number}@{rater}", **who)

    found = findings_of(make_set(tmp_path / "d", rng, fill, classes=("organ", "tip")))
    assert found["raters_presence"].examples == ("i1 (only bob)", "i2 (only bob)")
    assert found["raters_presence"].message == "tip: raters disagree in 2 of 5 images whether it is there"


def test_outlines_that_cross_themselves_are_told_where_the_import_kept_them(tmp_path, rng):
    def fill(writer, rng):
        write_cases(writer, rng)
        writer.add_remarks(["c2: organ crosses itself: 1 pair of its sides meets", "c3: rows disagree"])

    found = findings_of(make_set(tmp_path / "d", rng, fill))
    assert found["outlines"].examples == ("c2: organ crosses itself: 1 pair of its sides meets",)
    assert "outlines_unknown" not in found
    assert "outlines_unknown" in findings_of(make_set(tmp_path / "e", rng))


def test_the_dynamic_range_is_asked_for_where_nobody_stored_it(tmp_path, rng):
    found = findings_of(make_set(tmp_path / "d", rng))
    assert "speckle.dynamic_range_db" in found["echo_scale_unknown"].advice
    assert "echo_scale_unknown" not in findings_of(make_set(tmp_path / "e", rng, dynamic_range_db=60.0))


def test_clips_alone_are_checked_too(tmp_path, rng):
    found = findings_of(
        make_set(tmp_path / "d", rng, lambda w, r: w.add_clip(film(r), clip="k", patient="p"), classes=())
    )
    assert {"no_split", "times_unknown", "spacing_unknown"} <= set(found)


def test_a_robust_z_is_that_of_a_normal():
    values = np.random.default_rng(0).normal(3, 2, 20000)
    assert robust_z(values).std() == pytest.approx(1, abs=0.03)
    assert robust_z(np.array([1.0, 1.0, 1.0, 9.0])).tolist() == [0, 0, 0, 0]
    assert robust_z(np.array([0.0, 1.0, 2.0, 3.0, 12.0]))[4] == pytest.approx(6.745)


def test_findings_are_told_the_worst_first():
    note, stop = (
        Finding("a", Level.NOTE, 0, "by the way"),
        Finding("b", Level.STOP, 7, "it leaks", ("x", "y"), "mend it"),
    )
    ordered = in_order([note, stop])
    assert ordered == (stop, note) and leaks(ordered) and not leaks([note])
    assert to_text(ordered).splitlines() == [
        "STOP     it leaks",
        "         x; y; and 5 more",
        "         -> mend it",
        "NOTE     by the way",
    ]
    assert summary(ordered) == "1 leak, 0 warnings, 1 note"
    assert stop.to_json() == {
        "check": "b", "level": "stop", "count": 7, "message": "it leaks", "examples": ("x", "y"), "advice": "mend it",
    }  # fmt: skip
