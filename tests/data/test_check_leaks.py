"""`uscl data check` on splits that leak: by id, by hash, by looks, through clips; and on clean ones."""

import re

import numpy as np
import pytest
from checked_sets import SPLIT, box, film, findings_of, make_set, scene, write_cases
from clip_files import real_data

from uscl.data.checks.check_dataset import check_dataset
from uscl.data.checks.finding import Level, leaks
from uscl.data.checks.pictures import SIMILAR_CORRELATION
from uscl.data.checks.shortlist import coarse, coarse_agreement, nearest_pairs
from uscl.data.dataset import open_dataset
from uscl.data.ingest.drawn import read_picture
from uscl.data.ingest.mask_layout import Picture
from uscl.data.ingest.mask_values import MaskFile, MaskRules
from uscl.data.ingest.masks import parse_class_map
from uscl.data.writer import DatasetWriter

GIVEN = ("train", "train", "train", "train", "train", "train", "validation", "validation", "test", "test")


def given(number):
    return GIVEN[number]


def stops(found):
    return sorted(name for name, finding in found.items() if finding.level is Level.STOP)


def test_a_clean_set_stops_nothing(tmp_path, rng):
    def fill(writer, rng):
        write_cases(writer, rng, split=given)
        writer.add_clip(film(rng), clip="k", patient="p0", times_ms=np.arange(20) * 40.0)

    found = findings_of(make_set(tmp_path / "d", rng, fill))
    assert not [name for name in found if name.startswith(("split_", "untied_", "tied_", "like_"))]
    assert not leaks(list(found.values()))


@pytest.mark.parametrize("moved", [(0, 0), (4, 6)])
def test_a_copy_in_another_part_is_a_leak_also_where_it_was_cropped(moved, tmp_path, rng):
    wide, (down, right) = scene(rng, 140, 140), moved
    images = {0: wide[:128, :128], 8: wide[down : down + 128, right : right + 128]}
    images = {number: np.ascontiguousarray(image) for number, image in images.items()}
    masks = {0: box(128, 128), 8: box(128, 128, top=20 - down, left=20 - right)}
    dataset = make_set(tmp_path / "d", rng, lambda w, r: write_cases(w, r, images=images, masks=masks, split=given))
    found = findings_of(dataset)
    assert stops(found) == ["split_copies"]
    finding = found["split_copies"]
    assert finding.examples == ("c8 (test) and c0 (train), 1.000",) and "uscl data import" in finding.advice
    assert finding.message == "the split leaks: 1 of 2 test images have a copy in another part"


def test_a_copy_in_the_same_part_is_told_as_what_another_split_may_part(tmp_path, rng):
    image = scene(rng)
    found = findings_of(
        make_set(tmp_path / "d", rng, lambda w, r: write_cases(w, r, images={0: image, 1: image}, split=given))
    )
    assert not stops(found)
    assert found["untied_copies"].examples == ("c0 and c1 (1.000)",)


def test_a_copy_of_one_group_is_kept_together_and_noted(tmp_path, rng):
    image = scene(rng)

    def fill(writer, rng):
        write_cases(writer, rng, images={0: image, 1: image}, group=lambda n: "g" if n < 2 else "")

    found = findings_of(make_set(tmp_path / "d", rng, fill))
    assert found["tied_copies"].level is Level.NOTE and not stops(found)


def test_marked_copies_are_in_no_split_and_leak_nothing(tmp_path, rng):
    image = scene(rng)

    def fill(writer, rng):
        write_cases(writer, rng, images={0: image, 8: image}, split=given, excluded=lambda n: n == 8)

    assert not [name for name in findings_of(make_set(tmp_path / "d", rng, fill)) if "copies" in name]


def test_the_raters_of_one_picture_are_no_copies(tmp_path, rng):
    def fill(writer, rng):
        for number in range(6):
            image = scene(rng)
            for rater in ("ann", "bob"):
                options = {"rater": rater, "image_id": f"i{number}", "patient": f"p{number}"}
                writer.add_case(image, image[None] > 99, case=f"i{number}@{rater}", **options)

    assert not [name for name in findings_of(make_set(tmp_path / "d", rng, fill)) if "copies" in name]


@pytest.mark.parametrize(
    ("noise", "kind", "level"),
    [(12, "split_near_views", Level.STOP), (24, "split_similar_views", Level.WARNING), (90, "", None)],
)
def test_how_alike_two_images_of_two_parts_are_decides(noise, kind, level, tmp_path, rng):
    one = scene(rng, 128, 128)
    other = np.clip(one + rng.normal(0, noise, one.shape), 3, 250).astype(np.uint8)

    def fill(writer, rng):
        write_cases(writer, rng, count=16, images={0: one, 8: other}, split=lambda n: "test" if n == 8 else "train")

    found = findings_of(make_set(tmp_path / "d", rng, fill), validation_fraction=0.0)
    told = {name: finding.level for name, finding in found.items() if name.startswith("split_") or name == "all_alike"}
    assert told == ({kind: level} if kind else {})


def test_a_set_whose_images_all_look_alike_says_so_once(tmp_path, rng):
    base = scene(rng)
    images = {n: np.clip(base + rng.normal(0, 16, base.shape), 3, 250).astype(np.uint8) for n in range(10)}
    found = findings_of(make_set(tmp_path / "d", rng, lambda w, r: write_cases(w, r, images=images, split=given)))
    assert [name for name in found if "similar" in name or "alike" in name] == ["all_alike"]
    assert "10 of 10" in found["all_alike"].message and not stops(found)


def test_a_given_split_that_cuts_a_patient_is_a_leak(tmp_path, rng):
    def fill(writer, rng):
        write_cases(writer, rng, split=given, patient=lambda n: "same" if n in (0, 8) else f"p{n}")

    found = findings_of(make_set(tmp_path / "d", rng, fill))
    assert stops(found) == ["split_torn"]
    assert "'same' is in two splits: case c8 in test, case c0 in train" in found["split_torn"].message


def test_too_few_patients_for_a_split_is_a_warning(tmp_path, rng):
    found = findings_of(make_set(tmp_path / "d", rng, lambda w, r: write_cases(w, r, count=2)))
    assert found["no_split"].level is Level.WARNING and "2 patients" in found["no_split"].message
    assert "no_split" not in findings_of(make_set(tmp_path / "e", rng))


def add_clips(writer, frames, owners):
    for name, owner in owners.items():
        writer.add_clip(frames, clip=name, patient=owner, times_ms=np.arange(len(frames)) * 40.0)


@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        ({"k": "p0", "l": "p8"}, "split_recordings"),
        ({"k": "p0", "l": "p1"}, "untied_recordings"),
        ({"k": "p0", "l": "p0"}, "tied_recordings"),
        ({"k": "p0"}, ""),
    ],
)
def test_one_recording_under_two_names(owners, expected, tmp_path, rng):
    def fill(writer, rng):
        write_cases(writer, rng, split=given)
        add_clips(writer, film(rng), owners)

    found = findings_of(make_set(tmp_path / "d", rng, fill))
    assert [name for name in found if "recordings" in name] == ([expected] if expected else [])
    assert stops(found) == (["split_recordings"] if expected == "split_recordings" else [])


@pytest.mark.parametrize(
    ("owner", "still", "expected"),
    [
        ("p0", 8, ["split_stills_in_clips"]),
        ("stranger", 6, ["split_stills_in_clips"]),
        ("p0", 1, ["untied_stills_in_clips"]),
        ("p8", 8, []),
    ],
)
def test_a_still_that_is_a_frame_of_a_clip(owner, still, expected, tmp_path, rng):
    frames = film(rng, frames=150)

    def fill(writer, rng):
        noisy = np.kron(frames[101], np.ones((2, 2), np.uint8)) + rng.normal(0, 3, (128, 128))
        write_cases(writer, rng, images={still: np.clip(noisy, 0, 255).astype(np.uint8)}, split=given)
        add_clips(writer, frames, {"k": owner})

    found = findings_of(make_set(tmp_path / "d", rng, fill))
    assert [name for name in found if "stills" in name] == expected
    if expected:
        said = re.fullmatch(r"c(\d) \((\w+)\) in k \(frame (\d+), [\d.]+\)", found[expected[0]].examples[0])
        assert (int(said[1]), said[2]) == (still, given(still))
        assert abs(int(said[3]) - 101) <= 5  # neighbours differ by less than the noise


def test_a_still_that_says_which_clip_it_is_of_is_believed(tmp_path, rng):
    def fill(writer, rng):
        write_cases(writer, rng, split=given, clip=lambda n: "k" if n == 9 else "", frame=lambda n: 3)
        add_clips(writer, film(rng), {"k": "p0"})

    found = findings_of(make_set(tmp_path / "d", rng, fill))
    assert found["split_stills_in_clips"].examples == ("c9 (test) in k (frame 3, as the import says)",)


def test_a_still_that_only_looks_like_a_frame_is_a_warning(tmp_path, rng):
    frames = film(rng, frames=20)

    def fill(writer, rng):
        unlike = frames[9].astype(float) + rng.normal(0, 10, (64, 64))
        write_cases(writer, rng, images={8: np.clip(unlike, 0, 255).astype(np.uint8)}, split=given)
        add_clips(writer, frames, {"k": "p0"})

    found = findings_of(make_set(tmp_path / "d", rng, fill))
    assert [name for name in found if "stills" in name] == ["like_stills_in_clips"]


def test_another_seed_is_another_split(tmp_path, rng):
    image = scene(rng)
    dataset = make_set(tmp_path / "d", rng, lambda w, r: write_cases(w, r, images={0: image, 1: image}))
    torn = [bool(stops(findings_of(dataset, seed=seed))) for seed in range(8)]
    assert any(torn) and not all(torn)


def test_the_check_is_deterministic_and_tells_how_far_it_is(tmp_path, rng):
    dataset = make_set(tmp_path / "d", rng)
    said = []
    first = check_dataset(dataset, **SPLIT, progress=lambda what, done, total: said.append((what, done, total)))
    assert first == check_dataset(dataset, **SPLIT)
    assert said[0] == ("labelled images", 0, 10) and ("labelled images", 10, 10) in said
    assert {what for what, _, _ in said} >= {"labelled images", "clips", "pairs of images"}


def test_the_shortlist_finds_a_moved_picture_among_others(rng):
    wide = scene(rng, 160, 160)
    images = [scene(rng, 128, 128) for _ in range(12)] + [wide[:128, :128], wide[12:140, 9:137]]
    pairs = nearest_pairs(coarse(images), [str(n) for n in range(14)])
    assert (12, 13) in pairs
    assert (12, 13) not in nearest_pairs(coarse(images), ["same"] * 14)
    agreement = coarse_agreement(coarse(images[12:]), coarse(images))
    assert agreement.shape == (2, 14) and agreement[0, 12] == pytest.approx(1, abs=1e-5)
    assert agreement[0].argsort()[-2] == 13


@pytest.mark.slow
@pytest.mark.skipif(real_data("usgra") is None, reason="no usgra set; USCL_SHARED_DATA names the folder that holds it")
def test_the_published_split_of_usgra_leaks_seven_copies_and_two_near_views(tmp_path):
    folder = real_data("usgra")
    with DatasetWriter(tmp_path / "d", name="usgra", classes=("nerve", "vessel"), size=64) as writer:
        for part, place in (("train", folder), ("test", folder / "test")):
            for image in sorted((place / "images").iterdir()):
                picture = Picture(image, image.name, image.stem, {"": (MaskFile(place / "masks" / image.name),)})
                read = read_picture(picture, parse_class_map("1=nerve,2=vessel"), MaskRules(empty="absent")).frames[0]
                name, masks = f"{part}-{image.stem}", read.drawings[0].masks
                writer.add_case(read.grey, masks, case=name, patient=name, split=part)

    found = findings_of(open_dataset(tmp_path / "d"), validation_fraction=0.0)
    assert stops(found) == ["split_copies"]
    assert "7 of 40 test images have a copy in another part" in found["split_copies"].message
    similar = found["split_similar_views"]
    named = {example.split(" ")[0] for example in similar.examples}
    assert {"test-0114", "test-0235"} <= named and similar.count <= 4
    assert SIMILAR_CORRELATION == 0.84
