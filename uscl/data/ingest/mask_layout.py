"""Which mask files belong to which image, by name: side by side, after a pattern, in a folder per class or rater."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from uscl.data.ingest.found import find_files
from uscl.data.ingest.label_volumes import is_volume, stem_of
from uscl.data.ingest.mask_values import MaskFile
from uscl.data.ingest.masks import IMAGE_SUFFIXES
from uscl.data.ingest.naming import Naming, file_id
from uscl.data.ingest.problems import BadFile, bad_file
from uscl.data.wording import listed
from uscl.errors import DataError

_SHOWN = 3
"""Problems that a message spells out."""

STEM = "{stem}"
"""Stands in a pattern for the image's name without its suffix."""


@dataclass(frozen=True)
class Picture:
    """An image, or a volume of frames, and the mask files of each rater."""

    image: Path
    name: str
    """The image's path below the folder."""
    case: str
    """A plain word for it."""
    masks: Mapping[str, tuple[MaskFile, ...]] = field(default_factory=dict)
    """Rater (empty: nobody in particular) -> files; empty where there is no mask."""
    split: str = ""
    """The part that the layout gives it, if any."""


@dataclass(frozen=True)
class MaskLayout:
    """How masks are told from images and from each other."""

    pattern: str = ""
    """`{stem}_mask*.png`: masks lie beside their image (or in `masks` beside `images`), named after it. Empty: masks
    have the image's name and lie in `masks` beside `images`."""
    subfolders: Literal["", "class", "rater"] = ""
    """What folders within `masks` are."""


SIDE_BY_SIDE = MaskLayout()
"""`images` and `masks`, one mask of each name."""


@dataclass(frozen=True)
class FoundPictures:
    """What lies below a folder."""

    pictures: tuple[Picture, ...]
    """Images with their masks, sorted; an image without any is among them."""
    strays: tuple[BadFile, ...] = ()
    """Masks without an image."""
    remarks: tuple[str, ...] = ()
    """What was passed over."""


def find_pictures(folder: Path, layout: MaskLayout = SIDE_BY_SIDE) -> FoundPictures:
    """Images at or below `folder` with their masks.

    By name, never by position: a missing file would shift every later pair. Links that lead out of the folder are not
    followed. DataError where there is no image, or it is not clear which is meant.
    """
    found = find_files(folder)
    tree = _by_folder(found.files)
    strays: list[BadFile] = []
    if layout.pattern:
        pictures = _by_pattern(folder, tree, layout.pattern)
    else:
        pictures = _side_by_side(folder, tree, layout.subfolders, strays)
    if not pictures:
        told = f"; {strays[0]}" if strays else ""
        raise DataError(f"{folder}: holds no image with a mask{told}")
    return FoundPictures(tuple(pictures), tuple(strays), found.remarks)


def class_folders(folder: Path) -> list[str]:
    """The names of the folders within every `masks` at or below `folder`, sorted. DataError where there are none."""
    tree = _by_folder(find_files(folder).files)
    homes = sorted({path.parent for path in tree if path.parent.name == "masks"})
    names = sorted({name for home in homes for name in _mask_folders(home, tree, "class")})
    if not names:
        raise DataError(f"{folder}: holds no folder `masks` with a folder per class")
    return names


def named_pictures(pictures: Sequence[Picture], naming: Naming) -> list[Picture]:
    """The same pictures; with pseudonyms in place of their plain words, where file names are hidden."""
    if not naming.hides_names:
        return list(pictures)
    return [replace(picture, case=naming.of_file(Path(picture.name), "case")) for picture in pictures]


def lonely(images: Sequence[Path]) -> str:
    """What to say of images without a mask, where nobody decided what that means."""
    said = listed_problems([f"{image} has no mask" for image in images])
    return (
        f"{said}; each image needs the mask of the same name "
        "(--unlisted skip leaves such images out, --unlisted absent takes them as showing none of the classes)"
    )


def listed_problems(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more


def _by_folder(files: Iterable[Path]) -> dict[Path, list[Path]]:
    """Images and volumes by the folder they lie in."""
    tree: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in IMAGE_SUFFIXES or is_volume(path):
            tree.setdefault(path.parent, []).append(path)
    return tree


def _side_by_side(
    folder: Path, tree: Mapping[Path, Sequence[Path]], subfolders: str, strays: list[BadFile]
) -> list[Picture]:
    homes = sorted((home for home in tree if home.name == "images"), key=lambda home: (home != folder / "images", home))
    if not homes:
        empty = (folder / "images").is_dir()
        what = "its folder `images` is empty" if empty else "holds no folder `images` (with `masks` beside it)"
        raise DataError(f"{folder}: {what}")
    pictures: list[Picture] = []
    for home in homes:
        images, masks = by_stem(tree[home]), _mask_folders(home.with_name("masks"), tree, subfolders)
        for stem in sorted({stem for files in masks.values() for stem in files} - set(images)):
            stray = next(files[stem] for files in masks.values() if stem in files)
            strays.append(bad_file(stray, folder, "has no image of the same name"))
        pictures += [_picture(path, folder, _of_stem(masks, stem, subfolders)) for stem, path in sorted(images.items())]
    return pictures


def _mask_folders(masks: Path, tree: Mapping[Path, Sequence[Path]], subfolders: str) -> dict[str, dict[str, Path]]:
    """Name of a folder within `masks` (empty: itself) -> its files by stem."""
    inner = sorted(path for path in tree if path.parent == masks)
    if not subfolders:
        if inner and masks not in tree:
            names = listed([path.name for path in inner], shown=4)
            raise DataError(
                f"{masks}: holds folders ({names}) and no masks; --subfolders class takes each as one class, "
                "--subfolders rater as one rater"
            )
        return {"": by_stem(tree.get(masks, ()))}
    if not inner:
        raise DataError(f"{masks}: holds no folder with masks; --subfolders {subfolders} expects one per {subfolders}")
    return {path.name: by_stem(tree[path]) for path in inner}


def _of_stem(masks: Mapping[str, Mapping[str, Path]], stem: str, subfolders: str) -> dict[str, tuple[MaskFile, ...]]:
    found = {name: files[stem] for name, files in masks.items() if stem in files}
    if subfolders == "rater":
        return {rater: (MaskFile(path),) for rater, path in found.items()}
    return {"": tuple(MaskFile(path, name) for name, path in found.items())} if found else {}


def _by_pattern(folder: Path, tree: Mapping[Path, Sequence[Path]], pattern: str) -> list[Picture]:
    if pattern.count(STEM) != 1 or "/" in pattern or "\\" in pattern or pattern == STEM:
        raise DataError(
            f"--mask-pattern: cannot read {pattern!r}; expected a file name with {STEM}, like {STEM}_mask.png "
            f"({STEM}_mask*.png where an image has several)"
        )
    files = sorted(path for members in tree.values() for path in members)
    owners: dict[Path, list[Path]] = {}
    for home, members in tree.items():
        beside = tree.get(home.with_name("masks"), ()) if home.name == "images" else []
        for mask in (*members, *beside):
            owners.setdefault(mask, []).extend(_owners(mask, members, pattern))
    masks = {mask for mask, images in owners.items() if images}
    of_image: dict[Path, list[Path]] = {}
    for mask in sorted(masks):
        for image in owners[mask]:
            of_image.setdefault(image, []).append(mask)
    images = [path for path in files if path not in masks and (path in of_image or path.parent.name != "masks")]
    return [_picture(path, folder, _beside(of_image.get(path, ()))) for path in images]


def _owners(mask: Path, images: Sequence[Path], pattern: str) -> list[Path]:
    """Images of which the file is a mask by its name: the one of the longest name, where several could be meant."""
    before, after = pattern.split(STEM)
    if not mask.name.startswith(before):
        return []
    rest = mask.name[len(before) :]
    stems = {stem_of(image): image for image in images if image != mask and rest.startswith(stem_of(image))}
    fitting = [stem for stem in stems if fnmatchcase(rest[len(stem) :], after)]
    return [stems[max(fitting, key=len)]] if fitting else []


def _beside(masks: Iterable[Path]) -> dict[str, tuple[MaskFile, ...]]:
    files = tuple(MaskFile(path) for path in masks)
    return {"": files} if files else {}


def _picture(path: Path, folder: Path, masks: Mapping[str, tuple[MaskFile, ...]]) -> Picture:
    relative = path.relative_to(folder)
    return Picture(path, relative.as_posix(), case_name(relative), masks)


def case_name(relative: Path) -> str:
    """A plain word for an image or volume: its folder (without `images`) and stem."""
    home = relative.parent
    return file_id((home.parent if home.name == "images" else home) / f"{stem_of(relative)}.file")


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Images and volumes of a folder by name without suffix. DataError where two have one name."""
    found: dict[str, Path] = {}
    for path in sorted(files):
        stem = stem_of(path)
        if stem in found:
            raise DataError(f"{path} and {found[stem].name} have the same stem; which is meant?")
        found[stem] = path
    return found
