"""Labelled pictures that are alike: copies, near views and similar views, across the split and within its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uscl.data.checks.finding import Finding, Level, found
from uscl.data.checks.parts import Parts
from uscl.data.checks.shortlist import coarse, nearest_pairs
from uscl.data.checks.survey import PictureSurvey, Progress
from uscl.data.dataset import Dataset
from uscl.data.ingest.copies import NEAR_CORRELATION, aligned_correlation, find_likenesses

SIMILAR_CORRELATION = 0.84
"""From here a person should look: on `usgra` the near views that people confirmed begin at .845, and every other pair
stays below .83 at small shifts (data-formats.md 4)."""

ALIKE_FRACTION = 0.15
"""Share of the images with a similar view of somebody else, above which it is the set that is alike: 5 % of `usgra`,
most of the phantom, whose kidneys are all drawn alike."""

_TIE = "give both one patient or group (columns patient and group of the CSV) and import again"
_COPY = f"import again with `uscl data import`, which marks copies and groups near views, or {_TIE}"


@dataclass(frozen=True)
class AlikePictures:
    """Two pictures, by position, `kind` being copies, near views or similar views."""

    first: int
    second: int
    correlation: float
    kind: str


def find_alike(
    dataset: Dataset, pictures: Sequence[PictureSurvey], parts: Parts, progress: Progress
) -> list[AlikePictures]:
    """Every pair of copies and of near views, and of similar views of different units, most alike first."""
    thumbnails = [picture.thumbnail for picture in pictures]
    likenesses = find_likenesses(thumbnails, lambda position: dataset.case(pictures[position].case).image)
    alike = {
        (pair.first, pair.second): (pair.correlation, "copies" if pair.copy else "near views") for pair in likenesses
    }
    units = [parts.picture_units[picture.picture] for picture in pictures]
    pairs = nearest_pairs(coarse([thumbnail.grey for thumbnail in thumbnails]), units)
    for number, pair in enumerate(pairs):
        progress("pairs of images", number, len(pairs))
        if pair not in alike:
            one, other = (thumbnails[position].grey for position in pair)
            alike[pair] = (aligned_correlation(one, other)[0], "")
    progress("pairs of images", len(pairs), len(pairs))
    told = [
        AlikePictures(*pair, correlation, kind or _kind(correlation)) for pair, (correlation, kind) in alike.items()
    ]
    told = [pair for pair in told if pair.kind]
    return sorted(told, key=lambda pair: (-round(pair.correlation, 4), pair.first, pair.second))


def check_pictures(pictures: Sequence[PictureSurvey], alike: Sequence[AlikePictures], parts: Parts) -> list[Finding]:
    """Leaks between the parts; pairs that another split could tear apart; pairs that their unit keeps together."""
    findings: list[Finding] = []
    for kind in ("copies", "near views", "similar views"):
        pairs = [pair for pair in alike if pair.kind == kind]
        if kind == "similar views" and (said := _all_alike(pairs, pictures)):
            findings += said
            continue
        across = [pair for pair in pairs if _across(pair, pictures, parts)]
        findings += _leaking(kind, across, pictures, parts)
        rest = [pair for pair in pairs if not _across(pair, pictures, parts)]
        tied = [pair for pair in rest if _is_tied(pair, pictures, parts)]
        findings += _untied(kind, [pair for pair in rest if not _is_tied(pair, pictures, parts)], pictures)
        examples = [_named(pair, pictures) for pair in tied if kind != "similar views"]
        word = kind.replace(" ", "_")
        message = f"{len(examples)} pairs of labelled images are {kind}; patient or group keeps them in one part"
        advice = "mark one of each as a copy (`uscl data import labels` does), or they count twice"
        findings += found(f"tied_{word}", Level.NOTE, message, examples, advice=advice * (kind == "copies"))
    return findings


def _all_alike(pairs: Sequence[AlikePictures], pictures: Sequence[PictureSurvey]) -> list[Finding]:
    """One note, where so many images look like somebody else's that this tells nothing of any pair."""
    involved = {position for pair in pairs for position in (pair.first, pair.second)}
    if len(involved) <= ALIKE_FRACTION * len(pictures):
        return []
    message = (
        f"the images of this set look alike whoever they are of: {len(involved)} of {len(pictures)} correlate at "
        f"{SIMILAR_CORRELATION} or more with one of another patient or group, so only copies and near views are told"
    )
    return found("all_alike", Level.NOTE, message, [_named(pair, pictures) for pair in pairs], count=len(pairs))


def _leaking(
    kind: str, pairs: Sequence[AlikePictures], pictures: Sequence[PictureSurvey], parts: Parts
) -> list[Finding]:
    """One finding, with how many images of test and validation have a twin elsewhere."""
    hit = {part: _hit(part, pairs, pictures, parts) for part in ("test", "validation")}
    counts = " and ".join(
        f"{len(names)} of {sum(one == part for one in parts.pictures.values())} {part} images"
        for part, names in hit.items()
        if names
    )
    examples = [_placed(pair, pictures, parts) for pair in pairs]
    word = kind.replace(" ", "_")
    if kind == "similar views":
        message = f"{counts} look much like an image of another part (correlation {SIMILAR_CORRELATION} or more)"
        advice = f"look at them; where they show one scene, {_TIE}"
        return found(f"split_{word}", Level.WARNING, message, examples, advice=advice)
    message = f"the split leaks: {counts} have {'a copy' if kind == 'copies' else 'a near view'} in another part"
    return found(f"split_{word}", Level.STOP, message, examples, advice=_COPY)


def _untied(kind: str, pairs: Sequence[AlikePictures], pictures: Sequence[PictureSurvey]) -> list[Finding]:
    examples = [_named(pair, pictures) for pair in pairs]
    message = f"{len(pairs)} pairs of labelled images are {kind} and nothing ties them: another split may part them"
    level = Level.NOTE if kind == "similar views" else Level.WARNING
    advice = f"look at them; where they show one scene, {_TIE}" if kind == "similar views" else _COPY
    return found(f"untied_{kind.replace(' ', '_')}", level, message, examples, advice=advice)


def _kind(correlation: float) -> str:
    if correlation >= NEAR_CORRELATION:
        return "near views"
    return "similar views" if correlation >= SIMILAR_CORRELATION else ""


def _hit(part: str, pairs: Sequence[AlikePictures], pictures: Sequence[PictureSurvey], parts: Parts) -> set[str]:
    names = {pictures[position].picture for pair in pairs for position in (pair.first, pair.second)}
    return {name for name in names if parts.pictures.get(name) == part}


def _across(pair: AlikePictures, pictures: Sequence[PictureSurvey], parts: Parts) -> bool:
    one, other = (parts.pictures.get(pictures[position].picture, "") for position in (pair.first, pair.second))
    return bool(one and other and one != other)


def _is_tied(pair: AlikePictures, pictures: Sequence[PictureSurvey], parts: Parts) -> bool:
    one, other = (parts.picture_units[pictures[position].picture] for position in (pair.first, pair.second))
    return one == other


def _named(pair: AlikePictures, pictures: Sequence[PictureSurvey]) -> str:
    names = [pictures[position].picture for position in (pair.first, pair.second)]
    return f"{names[0]} and {names[1]} ({pair.correlation:.3f})"


def _placed(pair: AlikePictures, pictures: Sequence[PictureSurvey], parts: Parts) -> str:
    names = [pictures[position].picture for position in (pair.first, pair.second)]
    names.sort(key=lambda name: ("test", "validation", "train").index(parts.pictures[name]))
    placed = [f"{name} ({parts.pictures[name]})" for name in names]
    return f"{placed[0]} and {placed[1]}, {pair.correlation:.3f}"
