"""Folders of numbered images and files of pages as clips: order, gaps, depth, turns, and what is no clip."""

import cv2
import numpy as np
import pytest
from clip_files import speckle
from PIL import Image

from uscl.data.ingest.formats import CLIP_FORMATS
from uscl.data.ingest.grey_levels import GreyScale
from uscl.data.ingest.image_folder import find_image_folders, find_image_stacks, read_image_folder, read_image_stack
from uscl.data.ingest.numbering import find_series, names_a_mask
from uscl.data.ingest.options import ClipOptions
from uscl.errors import DataError

OPTIONS = ClipOptions(32)


def save(folder, names, images):
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    return folder


def flat(levels, shape=(32, 32)):
    return [np.full(shape, level, np.uint8) for level in levels]


def read(folder, options=OPTIONS):
    return list(read_image_folder(folder, options))


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def levels_of(clip):
    return clip.frames[:, 16, 16].tolist()


def test_unpadded_names_are_sorted_as_numbers(tmp_path):
    folder = save(tmp_path / "a", [f"frame_{n}.png" for n in range(1, 13)], flat(range(10, 130, 10)))
    (clip,) = read(folder)
    assert levels_of(clip) == list(range(10, 130, 10))
    assert clip.times_ms is None and "frame times missing or unsorted: unknown" in clip.notes
    assert not any("number" in note for note in clip.notes)


def test_the_given_rate_makes_times(tmp_path):
    folder = save(tmp_path / "a", [f"{n}.bmp" for n in range(5)], flat(range(10, 60, 10)))
    (clip,) = read(folder, ClipOptions(32, frame_rate_hz=20))
    assert clip.times_ms.tolist() == [0, 50, 100, 150, 200]


def test_a_constant_step_is_one_clip_and_its_frames_are_further_apart(tmp_path):
    folder = save(tmp_path / "a", [f"x_{n}.png" for n in (100, 40, 10, 70)], flat((40, 20, 10, 30)))
    (clip,) = read(folder, ClipOptions(32, frame_rate_hz=25))
    assert levels_of(clip) == [10, 20, 30, 40]
    assert "frame numbers from 10 in steps of 30" in clip.notes
    assert clip.times_ms.tolist() == [0, 1200, 2400, 3600]
    (told,) = read(folder, ClipOptions(32, frame_rate_hz=25, index_step=30))
    assert told.times_ms.tolist() == [0, 40, 80, 120] and "frame numbers from 10 in steps of 30" in told.notes


def test_a_jump_begins_another_clip(tmp_path):
    numbers = [1, 2, 3, 7, 8, 20]
    folder = save(tmp_path / "a", [f"{n:03}.png" for n in numbers], flat([10 * n for n in numbers]))
    clips = read(folder, ClipOptions(32, frame_rate_hz=10))
    assert [levels_of(clip) for clip in clips] == [[10, 20, 30], [70, 80], [200]]
    gap = "begins after a gap in the numbers of its images"
    assert [gap in clip.notes for clip in clips] == [False, True, True]
    assert "frame numbers from 7 in steps of 1" in clips[1].notes
    assert clips[1].times_ms.tolist() == [0, 100]


def test_numbers_that_are_dates_are_not_repeated(tmp_path):
    folder = save(tmp_path / "a", [f"{20210315 + n}.png" for n in range(3)], flat((10, 20, 30)))
    (clip,) = read(folder)
    assert "frame numbers in steps of 1" in clip.notes and not any("2021" in note for note in clip.notes)


def test_each_name_is_a_series_of_its_own(tmp_path):
    names = [f"{word}_{n}.png" for word in ("left", "right") for n in range(3)] + ["cover1.png", "logo.png"]
    folder = save(tmp_path / "a", names, flat((10, 20, 30, 110, 120, 130, 1, 2)))
    clips = read(folder)
    assert [levels_of(clip) for clip in clips] == [[10, 20, 30], [110, 120, 130]]
    assert "2 images of the folder without neighbours by number: left out" in clips[0].notes


def test_one_number_twice_is_refused(tmp_path):
    folder = save(tmp_path / "a", ["a1.png", "a01.png", "a2.png"], flat((10, 20, 30)))
    with pytest.raises(DataError, match=r"a: a01\.png and a1\.png have the same frame number; keep one"):
        read(folder)
    assert find_image_folders(files_below(tmp_path)) == [folder]


def test_mixed_sizes_are_refused_with_counts(tmp_path):
    images = flat((1, 2, 3)) + flat((4,), (20, 30))
    folder = save(tmp_path / "a", [f"{n}.png" for n in range(4)], images)
    with pytest.raises(DataError, match=r"a: holds images of 2 sizes: 32 x 32 px \(3\), 20 x 30 px \(1\); a clip"):
        read(folder)


def test_an_image_that_cannot_be_read_is_a_gap(tmp_path):
    folder = save(tmp_path / "a", [f"{n}.png" for n in range(6)], flat(range(10, 70, 10)))
    (folder / "2.png").write_bytes(b"no image")
    content = (folder / "4.png").read_bytes()
    (folder / "4.png").write_bytes(content[: len(content) - 30])
    clips = read(folder)
    assert [levels_of(clip) for clip in clips] == [[10, 20], [40], [60]]
    assert all("begins after images that cannot be read" in clip.notes for clip in clips[1:])


def test_a_folder_of_damaged_images_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    for n in range(3):
        (tmp_path / "a" / f"{n}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a: none of its images can be read: 0\.png: is damaged"):
        read(tmp_path / "a")


def test_a_folder_without_numbers_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no numbered images"):
        read(save(tmp_path / "a", ["x.png", "y.png"], flat((1, 2))))


def test_deep_grey_is_reduced_by_one_rule_for_the_clip(tmp_path):
    images = [np.full((32, 32), level, np.uint16) for level in (0, 1024, 2048, 4095)]
    (clip,) = read(save(tmp_path / "a", [f"{n}.png" for n in range(4)], images))
    assert levels_of(clip) == [0, 64, 128, 255] and "12 bits of grey, reduced to 8" in clip.notes
    fractions = [np.full((32, 32), level, np.float32) for level in (0, 0.5, 1)]
    (clip,) = read(save(tmp_path / "b", [f"{n}.tif" for n in range(3)], fractions))
    assert levels_of(clip) == [0, 128, 255] and "fractions, taken times 255" in clip.notes


def test_values_that_are_no_numbers_are_a_gap(tmp_path):
    images = [np.full((32, 32), level, np.float32) for level in (0.5, np.nan, 1)]
    folder = save(tmp_path / "a", [f"{n}.tif" for n in range(3)], images)
    with pytest.raises(DataError, match=r"none of its images can be read: 0\.tif: holds values that are not numbers"):
        read(save(tmp_path / "b", ["0.tif", "1.tif"], images[1:2] * 2))
    assert [len(clip.frames) for clip in read(folder)] == [1, 1]


def test_mixed_depths_are_refused(tmp_path):
    images = [np.full((32, 32), 9, np.uint8), np.full((32, 32), 900, np.uint16)]
    with pytest.raises(DataError, match="mixes images of 8 bits with deeper ones"):
        read(save(tmp_path / "a", ["0.png", "1.png"], images))


@pytest.mark.parametrize(
    ("span", "scale"),
    [
        ((0, 255, True), GreyScale()),
        ((0.0, 200.0, False), GreyScale()),
        ((0, 65535, True), GreyScale(0, 1 / 256, "16 bits of grey, reduced to 8")),
        ((0.0, 1.0, False), GreyScale(0, 255, "fractions, taken times 255")),
        ((-10, 41, True), GreyScale(-10, 5, "grey levels stretched from smallest and largest to 0 and 255")),
    ],
)
def test_the_rule_for_grey_levels(span, scale):
    assert GreyScale.of(span[0], span[1], whole=span[2]) == scale
    values = np.array(span[:2])
    assert scale.applied(values)[0] == max(0, span[0]) * (span[0] >= 0) and scale.applied(values)[1] in (200, 255)


def test_turned_transparent_and_palette_images(tmp_path):
    image = np.full((24, 32), 60, np.uint8)
    image[:12, :16] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    (tmp_path / "a").mkdir()
    for n in range(2):
        Image.fromarray(image).save(tmp_path / "a" / f"{n}.jpg", exif=exif, quality=100)
    (clip,) = read(tmp_path / "a")
    assert clip.source_size == (32, 24) and clip.frames[0, 4, 24] > 180 > 100 > clip.frames[0, 28, 24]
    rgba = np.full((32, 32, 4), 255, np.uint8)
    rgba[:, :16, 3] = 0
    (clip,) = read(save(tmp_path / "b", ["0.png", "1.png"], [rgba, rgba]))
    assert (clip.frames[0, :, :16] == 0).all() and (clip.frames[0, :, 16:] == 255).all()
    picture = Image.fromarray(np.full((32, 32), 1, np.uint8), "L").convert("P")
    picture.putpalette([0, 0, 0, 90, 90, 90])
    (tmp_path / "c").mkdir()
    for n in range(2):
        picture.save(tmp_path / "c" / f"{n}.png")
    assert levels_of(read(tmp_path / "c")[0]) == [90, 90]


def test_colour_is_told(tmp_path):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    (clip,) = read(save(tmp_path / "a", ["0.png", "1.png", "2.png"], [red, red, np.full((32, 32, 3), 9, np.uint8)]))
    assert "colour (Doppler?) in 2 of 3 frames" in clip.notes and clip.duplicate.tolist() == [False, True, False]


def textures(rng, count, drift):
    """Views of a wide texture; `drift` columns from one to the next."""
    wide = cv2.GaussianBlur(rng.normal(size=(64, 64 + drift * count)).astype(np.float32), (0, 0), 3) * 300 + 120
    return [np.clip(wide[:, n * drift : n * drift + 64], 0, 255).astype(np.uint8) for n in range(count)]


def test_stills_are_told_from_a_clip(tmp_path, rng):
    said = "neighbouring frames are unlike: stills or steps rather than a clip?"
    names = [f"{n}.png" for n in range(8)]
    (clip,) = read(save(tmp_path / "clip", names, textures(rng, 8, 1)))
    assert said not in clip.notes
    (stills,) = read(save(tmp_path / "stills", names, textures(rng, 8, 64)))
    assert said in stills.notes


def test_masks_and_the_images_they_belong_to_are_no_clips(tmp_path):
    names = ["1.png", "2.png", "3.png"]
    for place in ("images", "masks", "clip"):
        save(tmp_path / "set" / place, names if place != "clip" else [f"f{name}" for name in names], flat((1, 2, 3)))
    save(tmp_path / "beside", names, flat((1, 2, 3)))
    save(tmp_path / "beside" / "labels", names, flat((1, 2, 3)))
    save(tmp_path / "imagesTr", ["a_1_0000.png", "a_2_0000.png"], flat((1, 2)))
    assert find_image_folders(files_below(tmp_path)) == [tmp_path / "set" / "clip"]


def test_files_that_are_masks_by_name_are_passed_over(tmp_path):
    names = ["a_1.png", "a_1_mask.png", "a_2.png", "a_2_mask.png"]
    (clip,) = read(save(tmp_path / "a", names, flat((10, 255, 20, 255))))
    assert levels_of(clip) == [10, 20]
    assert not names_a_mask(tmp_path / "unmasked_1.png") and not names_a_mask(tmp_path / "segment_1.png")


def test_series_of_a_folder(tmp_path):
    paths = [tmp_path / name for name in ("x9.png", "x10.png", "y.png", "z_1_b.png", "X11.png")]
    series, others = find_series(paths)
    assert [[file.number for file in one.files] for one in series] == [[9, 10, 11]] and others == 2


def test_a_tiff_of_pages_is_a_clip(tmp_path):
    pages = [Image.fromarray(image) for image in flat((10, 20, 30))]
    pages[0].save(tmp_path / "a1.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "a2.tif")
    pages[0].save(tmp_path / "a3.tiff")
    files = files_below(tmp_path)
    assert find_image_stacks(files) == [tmp_path / "a1.tif"]
    assert find_image_folders(files) == [tmp_path]
    (clip,) = read_image_stack(tmp_path / "a1.tif", ClipOptions(32, frame_rate_hz=10))
    assert levels_of(clip) == [10, 20, 30] and clip.times_ms.tolist() == [0, 100, 200]
    (folder,) = read(tmp_path)
    assert levels_of(folder) == [10, 10]


def test_pages_of_two_sizes_are_refused(tmp_path):
    pages = [Image.fromarray(np.zeros(shape, np.uint8)) for shape in ((32, 32), (16, 16))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"a\.tif: holds images of 2 sizes"):
        list(read_image_stack(tmp_path / "a.tif", OPTIONS))
    (tmp_path / "b.tif").write_bytes(b"II*\0" + bytes(40))
    with pytest.raises(DataError, match=r"b\.tif: cannot be read as an image"):
        list(read_image_stack(tmp_path / "b.tif", OPTIONS))


@pytest.mark.parametrize("side", [12_000, 40_000])
def test_a_huge_image_is_refused_before_decoding(tmp_path, side):
    folder = save(tmp_path / "a", ["0.bmp", "1.bmp"], flat((1, 2)))
    for name in ("0.bmp", "1.bmp"):
        content = bytearray((folder / name).read_bytes())
        content[18:26] = np.array([side, side], "<i4").tobytes()
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=r"none of its images can be read: 0\.bmp: .* 100 million pixels"):
        read(folder)


def test_every_kind_of_clip_has_its_reader(tmp_path):
    save(tmp_path / "a", ["1.png", "2.png"], flat((10, 20)))
    for name in ("b.mp4", "c.nii.gz", "d.dcm"):
        (tmp_path / name).write_bytes(b"")
    found = {entry.name: [path.name for path in entry.find(files_below(tmp_path))] for entry in CLIP_FORMATS}
    assert found == {
        "DICOM": ["d.dcm"],
        "video": ["b.mp4"],
        "volume": ["c.nii.gz"],
        "image stack": [],
        "image folder": ["a"],
    }


def test_a_strip_above_is_blanked(tmp_path, rng):
    (clip,) = read(
        save(tmp_path / "a", ["0.png", "1.png"], list(speckle(rng, 2, 40, 40))), ClipOptions(40, blank_top=0.1)
    )
    assert not clip.frames[:, :4].any() and clip.frames[:, 4:].all()
