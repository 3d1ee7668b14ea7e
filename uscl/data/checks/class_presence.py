"""Classes: missing from a part of the split, of odd area in some case, seen by one rater and not by another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uscl.data.checks.finding import Finding, Level, found
from uscl.data.checks.parts import Parts
from uscl.data.checks.survey import CaseSurvey
from uscl.data.schema import CONSENSUS, CaseEntry, DatasetIndex

OUTLIER_Z = 5.0
"""Robust z of the log area (0.6745 x distance to the median / median distance) from which a case is named. Iglewicz
and Hoaglin 1993 take 3.5 for one sample; areas of a structure at many depths and views have heavier tails."""
MIN_CASES = 10
"""Fewer areas say nothing of what is usual."""


def check_presence(index: DatasetIndex, chosen: Sequence[CaseEntry], parts: Parts) -> list[Finding]:
    """Classes that no case holds, and that no case of a part holds; `chosen` are the cases that training reads."""
    everywhere = frozenset().union(*(case.classes for case in chosen)) if chosen else frozenset()
    never = [name for name in index.classes if name not in everywhere] if chosen else []
    advice = "leave the class out of the class map, or look why no mask holds it: training refuses it"
    findings = found("class_never", Level.WARNING, "no labelled image holds these classes", never, advice=advice)
    for part in ("train", "validation", "test"):
        within = [case for case in chosen if parts.pictures.get(case.picture) == part]
        held = frozenset().union(*(case.classes for case in within)) if within else frozenset()
        missing = [name for name in index.classes if name in everywhere and name not in held] if within else []
        message = f"none of the {len(within)} {part} images holds these classes"
        advice = "another split.seed or a larger fraction of this part; a class nobody is measured on has no score"
        findings += found(f"class_missing_{part}", Level.WARNING, message, missing, advice=advice)
    return findings


def check_areas(index: DatasetIndex, cases: Sequence[CaseSurvey]) -> list[Finding]:
    """Per class, cases whose share of the image is far from what is usual in this set."""
    findings: list[Finding] = []
    for number, name in enumerate(index.classes):
        within = [case for case in cases if not case.entry.excluded and case.area_px[number]]
        shares = np.array([case.area_px[number] / (case.row["height_px"] * case.row["width_px"]) for case in within])
        scores = robust_z(np.log(shares)) if len(within) >= MIN_CASES else np.zeros(len(within))
        odd = sorted((n for n in range(len(within)) if abs(scores[n]) >= OUTLIER_Z), key=lambda n: -abs(scores[n]))
        named = [f"{within[n].entry.case} ({_percent(shares[n])})" for n in odd]
        message = (
            f"{name}: {len(odd)} of {len(within)} areas are far from the usual {_percent(_median(shares))} of the image"
        )
        advice = "look at them: a stray stroke, a class that swallowed another, an image at another scale"
        findings += found("area_outliers", Level.WARNING, message, named, advice=advice)
    return findings


def check_raters(index: DatasetIndex) -> list[Finding]:
    """Per class, pictures where one rater sees it and another does not."""
    by_picture: dict[str, list[CaseEntry]] = {}
    for case in index.cases:
        if case.rater and case.rater != CONSENSUS and not case.excluded:
            by_picture.setdefault(case.picture, []).append(case)
    shared = {picture: cases for picture, cases in by_picture.items() if len(cases) > 1}
    findings: list[Finding] = []
    for name in index.classes:
        split = {picture: cases for picture, cases in shared.items() if _disagree(cases, name)}
        named = [f"{picture} ({_who(cases, name)})" for picture, cases in split.items()]
        message = f"{name}: raters disagree in {len(split)} of {len(shared)} images whether it is there"
        advice = "how empty masks are scored decides much there: `uscl data agreement` gives every rule"
        findings += found("raters_presence", Level.NOTE, message, named, advice=advice)
    return findings


def robust_z(values: np.ndarray) -> np.ndarray:
    """(N,) distances to the median in units of the median distance, scaled to a normal's sigma; 0 without spread."""
    if not len(values):
        return values
    distance = values - np.median(values)
    typical = float(np.median(np.abs(distance)))
    return 0.6745 * distance / typical if typical > 0 else np.zeros_like(values)


def _disagree(cases: Sequence[CaseEntry], name: str) -> bool:
    return len({name in case.classes for case in cases}) > 1


def _who(cases: Sequence[CaseEntry], name: str) -> str:
    return "only " + ", ".join(case.rater for case in cases if name in case.classes)


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
