"""Folders of numbered images, and files of several pages, as clips: order and gaps by number, never by position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uscl.data.ingest.colour import is_colour
from uscl.data.ingest.frames import DecodedClip
from uscl.data.ingest.grey_levels import GreyScale
from uscl.data.ingest.masks import IMAGE_SUFFIXES
from uscl.data.ingest.numbering import Series, find_series
from uscl.data.ingest.options import ClipOptions
from uscl.data.ingest.pictures import Break, Picture, clips_from
from uscl.data.ingest.still_image import grey_of_rgb, opened_image, upright_pixels, upright_size
from uscl.data.wording import counted
from uscl.errors import DataError

LABEL_FOLDERS = frozenset(
    ("annotations", "ground_truth", "groundtruth", "gt", "label", "labels", "labelstr", "labelsts", "mask", "masks")
)
"""Names, in lower case, of folders of masks; neither they nor the images that they belong to are clips."""
IMAGE_FOLDERS = frozenset(("image", "images", "imagestr", "imagests", "img", "imgs"))
"""Names of folders of the images beside them, however their files are named."""
_GAP = "begins after a gap in the numbers of its images"
_UNREADABLE = "begins after images that cannot be read"


@dataclass(frozen=True)
class _Page:
    """Where one frame lies: a file, or a page of one."""

    path: Path
    page: int = 0
    number: int | None = None


def find_image_folders(files: Sequence[Path]) -> list[Path]:
    """Folders in which two image files or more differ by the number in their name only, masks and their images aside.

    A folder's images belong to masks where a folder of masks beside or below it has files of the same names.
    Files of several pages do not count: each is a clip of its own.
    """
    images: dict[Path, list[Path]] = {}
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            images.setdefault(file.parent, []).append(file)
    masks: dict[Path, set[str]] = {}
    for folder in [folder for folder in images if folder.name.lower() in LABEL_FOLDERS]:
        masks.setdefault(folder.parent, set()).update(file.stem for file in images.pop(folder))
    return [
        folder
        for folder, inside in sorted(images.items())
        if not _has_masks(folder, inside, masks) and _holds_series(inside)
    ]


def _has_masks(folder: Path, inside: Sequence[Path], masks: Mapping[Path, set[str]]) -> bool:
    stems = masks.get(folder, set()) | masks.get(folder.parent, set())
    return bool(stems) and (folder.name.lower() in IMAGE_FOLDERS or any(file.stem in stems for file in inside))


def find_image_stacks(files: Sequence[Path]) -> list[Path]:
    """TIFF files of more than one page."""
    return [file for file in files if _is_stack(file)]


def read_image_folder(folder: Path, options: ClipOptions) -> Iterator[DecodedClip]:
    """Each series of numbered images in `folder` as a clip, in the order of the numbers; where they jump, several.

    A constant step between numbers is one clip, and noted. Times by the options' frame rate only. An image that
    cannot be read is left out as a gap. DataError, naming the folder, where sizes are mixed, numbers double, or no
    image can be read.
    """
    try:
        series, others = find_series(_images(folder))
    except ValueError as error:
        raise DataError(f"{folder}: {error}") from error
    if not series:
        raise DataError(f"{folder}: holds no numbered images")
    notes = (f"{counted(others, 'image')} of the folder without neighbours by number: left out",) if others else ()
    for one in series:
        yield from _read(folder, list(_pages_of(one)), options, notes)


def read_image_stack(path: Path, options: ClipOptions) -> Iterator[DecodedClip]:
    """The pages of a TIFF file as one clip. DataError, naming it, where it cannot be read or pages differ in size."""
    try:
        with opened_image(path) as image:
            count = getattr(image, "n_frames", 1)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as an image: {error}") from error
    yield from _read(path, [_Page(path, page) for page in range(count)], options, ())


def _images(folder: Path) -> list[Path]:
    """Those of a folder; a link that leads out of it is none."""
    files = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    files = [file for file in files if not file.is_symlink() or file.resolve().is_relative_to(folder.resolve())]
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not _is_stack(file)]


def _holds_series(files: Iterable[Path]) -> bool:
    try:
        return bool(find_series(file for file in files if not _is_stack(file))[0])
    except ValueError:  # told when it is read
        return True


def _is_stack(file: Path) -> bool:
    if file.suffix.lower() not in (".tif", ".tiff"):
        return False
    with suppress(ValueError), opened_image(file) as image:
        image.seek(1)
        return True
    return False


def _pages_of(series: Series) -> Iterator[_Page | Break]:
    for number, run in enumerate(series.runs()):
        if number:
            yield Break(_GAP)
        yield from (_Page(file.path, number=file.number) for file in run)


def _read(
    source: Path, pages: Sequence[_Page | Break], options: ClipOptions, notes: tuple[str, ...]
) -> Iterator[DecodedClip]:
    sizes: Counter[tuple[int, int]] = Counter()
    lowest, highest, whole, depths, problem = np.inf, -np.inf, True, set(), ""
    for page in pages:
        if isinstance(page, _Page):
            try:
                size, span = _looked_at(page)
            except ValueError as error:
                problem = problem or f"{page.path.name}: {error}" if page.path != source else str(error)
                continue
            sizes[size] += 1
            depths.add(span is not None)
            if span is not None:
                lowest, highest, whole = min(lowest, span[0]), max(highest, span[1]), whole and span[2]
    _check(source, sizes, depths, problem)
    scale = GreyScale.of(lowest, highest, whole=whole) if True in depths else GreyScale()
    notes += (scale.note,) if scale.note else ()
    try:
        yield from clips_from(_pictures(pages, scale), options, notes=notes, find_stills=True)
    except ValueError as error:  # more than is read of a clip
        raise DataError(f"{source}: {error}") from error


def _looked_at(page: _Page) -> tuple[tuple[int, int], tuple[float, float, bool] | None]:
    """Upright height and width; of deep grey also the smallest and largest value, and whether they are integers."""
    with opened_image(page.path) as image:
        image.seek(page.page)
        size = upright_size(image)
        if not image.mode.startswith(("I", "F")):
            return size, None
        values = upright_pixels(image)
        return size, (float(values.min()), float(values.max()), image.mode != "F")


def _check(source: Path, sizes: Counter[tuple[int, int]], depths: set[bool], problem: str) -> None:
    if not sizes:
        raise DataError(f"{source}: none of its images can be read: {problem}")
    if len(sizes) > 1:
        listed = ", ".join(f"{height} x {width} px ({count})" for (height, width), count in sizes.most_common(5))
        more = ", ..." if len(sizes) > 5 else ""
        raise DataError(
            f"{source}: holds images of {len(sizes)} sizes: {listed}{more}; a clip has one: move each size into a "
            "folder of its own"
        )
    if len(depths) > 1:
        raise DataError(
            f"{source}: mixes images of 8 bits with deeper ones, whose grey levels cannot be compared; save all alike"
        )


def _pictures(pages: Iterable[_Page | Break], scale: GreyScale) -> Iterator[Picture | Break]:
    for page in pages:
        if isinstance(page, Break):
            yield page
            continue
        try:
            with opened_image(page.path) as image:
                image.seek(page.page)
                pixels = upright_pixels(image)
        except ValueError:
            yield Break(_UNREADABLE)
            continue
        yield _picture(pixels, page.number, scale)


def _picture(pixels: np.ndarray, number: int | None, scale: GreyScale) -> Picture:
    if pixels.ndim == 3:
        return Picture(grey_of_rgb(pixels), number=number, coloured=is_colour(pixels))
    return Picture(scale.applied(pixels), number=number)
