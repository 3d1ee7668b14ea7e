"""Which annotated images become cases: what was not drawn is a decision of the user's, never a guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uscl.data.ingest.annotation import Annotation
from uscl.data.ingest.class_names import ClassNames
from uscl.data.ingest.found import find_files
from uscl.data.ingest.masks import IMAGE_SUFFIXES
from uscl.data.ingest.video import VIDEO_SUFFIXES
from uscl.data.wording import counted, listed
from uscl.errors import DataError
from uscl.spec.regions import all_within

_SHOWN = 3


@dataclass(frozen=True)
class Choices:
    """What the user says of regions that are not there, and of those that nobody drew."""

    empty: str | None = None
    """Images that are listed without any region: `absent` (seen, nothing there) or `skip`; None: not said."""
    missing: str | None = None
    """Classes lacking on an image that has others: `absent` or `skip-image`; None: not said."""
    interpolated: bool = False
    """Take frames with outlines between keyframes, which nobody drew."""


@dataclass(frozen=True)
class Chosen:
    """Annotations of the images that become cases, and what is said of the others."""

    annotations: tuple[Annotation, ...]
    remarks: tuple[str, ...]
    """Left out as the user chose."""
    problems: tuple[str, ...]
    """Left out because something is wrong with them."""


def choose(annotations: Sequence[Annotation], class_names: ClassNames, choices: Choices) -> Chosen:
    """Sort out what cannot or shall not be a case.

    DataError where a decision is needed and not made, with how many images it concerns and what can be said.
    """
    problems = [problem for annotation in annotations for problem in annotation.problems]
    whole = [annotation for annotation in annotations if not annotation.problems]
    drawn = [a for a in whole if choices.interpolated or all(r.origin != "interpolated" for r in a.regions)]
    remarks = []
    if len(drawn) < len(whole):
        remarks.append(f"{counted(len(whole) - len(drawn), 'frame')} between keyframes, which nobody drew: left out")
    present = [classes_on(annotation, class_names) for annotation in drawn]
    empty = [not found for found in present]
    partial = [bool(found) and len(found) < len(class_names.classes) for found in present]
    _ask(drawn, present, class_names, empty=empty, partial=partial, choices=choices)
    kept = []
    for annotation, is_empty, is_partial in zip(drawn, empty, partial, strict=True):
        if not ((is_empty and choices.empty == "skip") or (is_partial and choices.missing == "skip-image")):
            kept.append(annotation)
    if any(empty):
        remarks.append(f"{counted(sum(empty), 'image')} listed without a region: {_said(choices.empty)}")
    if any(partial):
        remarks.append(f"{counted(sum(partial), 'image')} without some class: {_said(choices.missing)}")
    return Chosen(tuple(kept), tuple(remarks), tuple(problems))


def classes_on(annotation: Annotation, class_names: ClassNames) -> frozenset[str]:
    """Classes that the image's regions name, with those that contain them."""
    named = {class_names.names[region.name] for region in annotation.regions if region.name in class_names.names}
    outer = {name for name in class_names.contains if named & all_within(name, class_names.contains)}
    return frozenset(named | outer)


def _said(choice: str | None) -> str:
    return "left out" if choice != "absent" else "taken as seen, with nothing there"


def _ask(
    annotations: Sequence[Annotation],
    present: Sequence[frozenset[str]],
    class_names: ClassNames,
    *,
    empty: Sequence[bool],
    partial: Sequence[bool],
    choices: Choices,
) -> None:
    """DataError where a decision lacks: both questions at once."""
    questions = []
    if any(empty) and choices.empty is None:
        example = annotations[empty.index(True)].image
        questions.append(
            f"{counted(sum(empty), 'image is', 'images are')} listed without any region ({example}): --empty absent "
            "takes them as looked at with nothing there, --empty skip leaves them out"
        )
    if any(partial) and choices.missing is None:
        counts = Counter(
            name
            for found, is_partial in zip(present, partial, strict=True)
            for name in class_names.classes
            if is_partial and name not in found
        )
        lacking = ", ".join(f"{name} on {count}" for name, count in counts.items())
        questions.append(
            f"{counted(sum(partial), 'image lacks', 'images lack')} a class while having others ({lacking}): --missing "
            "absent takes it as not there, --missing skip-image leaves them out"
        )
    if questions:
        raise DataError("what was not drawn is absent or not annotated, which only you know. " + "; ".join(questions))


def find_images(folder: Path) -> dict[str, Path]:
    """Every image and video below `folder` by its path relative to it, with forward slashes. DataError if none."""
    suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    files = [path for path in find_files(folder).files if path.suffix.lower() in suffixes]
    found = {path.relative_to(folder).as_posix(): path for path in files}
    if not found:
        raise DataError(f"{folder}: holds no image and no video")
    return found


def match_images(annotations: Sequence[Annotation], found: Mapping[str, Path]) -> tuple[dict[str, str], list[str]]:
    """Which file each annotated name means, and what is wrong with the others.

    The file of that path, else the only one of that name. A name that no file has, or several, is not matched; nor is
    one with two annotations, or whose file another means.
    """
    by_base: dict[str, list[str]] = {}
    for path in found:
        by_base.setdefault(path.rsplit("/", 1)[-1], []).append(path)
    asked = Counter((annotation.image, annotation.frame) for annotation in annotations if annotation.image)
    meant: dict[str, str] = {}
    problems: dict[str, list[str]] = {}
    for name in dict.fromkeys(image for image, _ in asked):
        alike = [name] if name in found else by_base.get(name.rsplit("/", 1)[-1], [])
        if len(alike) == 1:
            meant[name] = alike[0]
        else:
            why = "could be one of several files" if alike else "not found below the folder of images"
            problems.setdefault(why, []).append(name)
    files = Counter(meant.values())
    again = {image for (image, _), number in asked.items() if number > 1}
    twice = [name for name, path in meant.items() if name in again or files[path] > 1]
    problems |= {"annotated twice (two raters are two imports)": twice} if twice else {}
    said = [
        f"{counted(len(names), 'annotated image')} {why}: {listed(names, shown=_SHOWN)}"
        for why, names in problems.items()
    ]
    return {name: path for name, path in meant.items() if name not in twice}, said
