import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import ndimage

from uscl.data import phantom_anatomy as anatomy
from uscl.data.dataset import open_dataset
from uscl.data.phantom import TRUTH_FILE, build_phantom, phantom_fingerprint, phantom_index
from uscl.data.phantom_render import Renderer, render_patient
from uscl.errors import DataError
from uscl.spec.phantom import PhantomSpec

SMALL = PhantomSpec(patients=3, clips_per_patient=2, frames_per_clip=5, labels_per_patient=4, size=32)
DEMO = PhantomSpec(patients=24, clips_per_patient=2, frames_per_clip=32, labels_per_patient=3, size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "built"
    build_phantom(SMALL, path)
    return path


@pytest.fixture(scope="module")
def demo_cases():
    """(acquisition, masks) of every labelled frame at demo size, at its first moment; renders nothing."""
    cases = []
    for number in range(DEMO.patients):
        patient = anatomy.make_patient(DEMO, number)
        for label in range(DEMO.labels_per_patient):
            acquisition = anatomy.make_acquisition(DEMO, patient, stream=1, number=label)
            scene = Renderer(acquisition, 64, times_s=np.array([0.0]))
            cases.append((acquisition, np.stack([scene.masks(time) for time in (0.0, 0.6, 1.2)])))
    return cases


def test_the_index_is_known_before_building(folder):
    dataset = open_dataset(folder)
    assert dataset.index == phantom_index(SMALL)
    assert dataset.classes == ("capsule", "cortex", "medulla", "cec")
    assert dataset.index.leaf_classes == ("cortex", "medulla", "cec")


def test_frames_on_disk_are_those_rendered(folder):
    dataset, patient = open_dataset(folder), render_patient(SMALL, 2)
    for clip, frames in patient.clips.items():
        entry = dataset.clip_table[clip]
        np.testing.assert_array_equal(dataset.frames(entry.first_row + np.arange(5)), frames)
        np.testing.assert_allclose(entry.times_ms, np.arange(5) * 40.0)
    for name, frame in patient.cases.items():
        case = dataset.case(name)
        np.testing.assert_array_equal(case.image, frame.image)
        np.testing.assert_array_equal(case.masks, frame.masks)


def test_two_workers_build_the_same_files(folder, tmp_path):
    seen = []
    build_phantom(SMALL, tmp_path / "two", workers=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in (tmp_path / "two").iterdir())
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_an_existing_folder_is_refused(folder):
    with pytest.raises(DataError, match="exists already"):
        build_phantom(SMALL, folder)


def test_a_patient_depends_on_seed_and_number_alone():
    more = SMALL.model_copy(update={"patients": 9})
    first, again = render_patient(SMALL, 1), render_patient(more, 1)
    for clip, frames in first.clips.items():
        np.testing.assert_array_equal(frames, again.clips[clip])
    other = render_patient(SMALL.model_copy(update={"seed": 1}), 1)
    assert all((frames != other.clips[clip]).mean() > 0.3 for clip, frames in first.clips.items())


def test_every_setting_changes_the_fingerprint():
    changes = {"patients": 4, "clips_per_patient": 3, "frames_per_clip": 6, "labels_per_patient": 5, "size": 48}
    changes |= {"seed": 1, "frame_rate_hz": 20.0, "difficulty": 1.5}
    assert set(changes) == set(PhantomSpec.model_fields)
    prints = {phantom_fingerprint(SMALL.model_copy(update={name: value})) for name, value in changes.items()}
    assert len(prints | {phantom_fingerprint(SMALL)}) == len(changes) + 1


def test_classes_nest_and_do_not_overlap(demo_cases):
    for _, masks in demo_cases:
        capsule, *inner = masks.transpose(1, 0, 2, 3)
        assert (sum(plane.astype(int) for plane in inner) == capsule).all()


def test_presence_is_as_planned_and_never_small(demo_cases):
    for acquisition, masks in demo_cases:
        areas = dict(zip(anatomy.CLASSES, masks.sum((2, 3)).min(0), strict=True))
        assert {name for name, area in areas.items() if area} == acquisition.present, acquisition.name
        assert all(area >= 150 for area in areas.values() if area), (acquisition.name, areas)


def test_a_third_of_the_frames_lack_a_class_and_each_class_is_lacking_somewhere():
    shown = [case.classes for case in phantom_index(DEMO).cases]
    lacking = [classes for classes in shown if len(classes) < 4]
    assert len(lacking) / len(shown) == pytest.approx(1 / 3, abs=0.02)
    assert set(lacking) == set(anatomy.LACKING)


def test_any_five_patients_show_and_lack_every_leaf_class():
    cases = phantom_index(DEMO).cases
    for first in range(DEMO.patients - 4):
        names = {f"p{number:03d}" for number in range(first, first + 5)}
        shown = [case.classes for case in cases if case.patient in names]
        for name in ("cortex", "medulla", "cec"):
            assert 1 <= sum(name not in classes for classes in shown) <= len(shown) // 2


def test_an_absent_class_is_absent_from_the_tissue(demo_cases):
    z, x = np.mgrid[0:64, 0:64].astype(np.float32) / 64
    for acquisition, _ in demo_cases:
        code = anatomy.tissue_at(acquisition, x, z)
        for name in ("cortex", "medulla", "cec"):
            assert (code == anatomy.Tissue[name.upper()]).any() == (name in acquisition.present)


def test_masks_follow_the_motion(demo_cases):
    moved = [(masks[0] != masks[2]).any() for acquisition, masks in demo_cases if acquisition.present]
    assert np.mean(moved) > 0.9


def test_resting_position_inverts_the_displacement():
    acquisition = anatomy.make_acquisition(DEMO, anatomy.make_patient(DEMO, 5), stream=0, number=0)
    z, x = np.mgrid[0:32, 0:32].astype(np.float32) / 32
    rest_x, rest_z = anatomy.resting_position(acquisition, x, z, 1.1)
    dx, dz = anatomy.displacement(acquisition, rest_x, rest_z, 1.1)
    assert abs(dx).max() > 0.01
    np.testing.assert_allclose(rest_x + dx, x, atol=1e-3)
    np.testing.assert_allclose(rest_z + dz, z, atol=1e-3)


def test_neighbouring_frames_are_similar_and_not_equal():
    spec = DEMO.model_copy(update={"labels_per_patient": 1, "clips_per_patient": 1})
    near, far = [], []
    for number in range(4):
        (frames,) = render_patient(spec, number).clips.values()
        pixels = frames[:, 16:56, 20:44].reshape(len(frames), -1).astype(float)
        near.append(np.corrcoef(pixels[10], pixels[11])[0, 1])
        far.append(np.corrcoef(pixels[0], pixels[-1])[0, 1])
    assert min(near) > 0.75 and max(near) < 0.9999
    assert np.mean(near) > np.mean(far) + 0.3


def test_truth_matches_the_envelope():
    """Power and m inside each tissue, over many frames: the truth is the generator's, the measurement the image's.

    Pixels at a boundary mix two tissues through the point-spread function: they are eroded away.
    """
    spec = PhantomSpec(patients=8, clips_per_patient=1, frames_per_clip=2, labels_per_patient=8, size=96)
    power: dict[str, list[np.ndarray]] = {}
    wanted_m: dict[str, list[float]] = {}
    for number in range(spec.patients):
        patient = render_patient(spec, number)
        for row in patient.truth:
            frame = patient.cases[row.case]
            mask = frame.masks[anatomy.CLASSES.index(row.class_name)]
            assert row.pixels == mask.sum()
            inner = ndimage.binary_erosion(mask, iterations=3)
            power.setdefault(row.class_name, []).append(frame.envelope[inner].astype(np.float64) ** 2 / row.omega)
            wanted_m.setdefault(row.class_name, []).append(row.nakagami_m)
    measured = {name: np.concatenate(values) for name, values in power.items()}
    for name, values in measured.items():
        assert values.mean() == pytest.approx(1.0, rel=0.08), name
        assert values.mean() ** 2 / values.var() == pytest.approx(np.mean(wanted_m[name]), abs=0.06), name


def test_tissues_differ_as_the_truth_says(folder):
    rows = pq.read_table(folder / TRUTH_FILE).to_pylist()
    index = phantom_index(SMALL)
    assert {(row["case"], row["class_name"]) for row in rows} == {
        (case.case, name) for case in index.cases for name in case.classes - {"capsule"}
    }
    by_class = {name: [row for row in rows if row["class_name"] == name] for name in ("cortex", "medulla", "cec")}
    assert all(0.95 < row["nakagami_m"] < 1 for row in by_class["cortex"])
    assert all(row["nakagami_m"] < 0.93 for row in by_class["cec"])
    assert max(row["omega"] for row in by_class["medulla"]) < min(row["omega"] for row in by_class["cec"])
