"""How much work one stage is: what settles the time of a step, and how many steps. From its inputs as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uscl.stages.canonical import digest

_SECTIONS = ("encoder", "decoder", "pixel", "finetune", "nnunet")
# Settings that change numbers, not the time of a step; `steps` is counted by itself.
_FREE = frozenset(
    (
        *("seed", "lr", "steps", "part", "pairs", "temperature", "margin", "form", "distance", "momentum"),
        *("pixpro_power", "pixpro_distance", "weight", "balance", "min_pixels", "warmup", "permuted", "band_px"),
    )
)
_BINNED = ("GDminus", "GD", "LD")


@dataclass(frozen=True, slots=True)
class Workload:
    """The work of one stage; two of one `shape` take the same time per unit, two of one `family` in proportion."""

    kind: str
    shape: str
    """Digest of kind, network, image, batch and all else that settles the time of a unit."""
    family: str
    """Digest of kind, network and what is done with it, without the sizes of image and batch."""
    units: int
    """Optimiser steps; of an evaluation, cases."""
    batch: int
    """Frames of a unit, as the settings count them (views are not counted)."""
    pixels: int
    """Of a unit, over all its frames; only good for comparing two of one family."""


def workload(kind: str, inputs: Mapping[str, Any], *, num_cases: int) -> Workload | None:
    """The work of a stage by its inputs as its manifest has them; None where they do not say.

    `num_cases` are those that an evaluation scores.
    """
    name = next((name for name in _SECTIONS if isinstance(inputs.get(name), Mapping)), "")
    section = inputs.get(name, {})
    units = num_cases if kind == "evaluate" else section.get("steps", 0)
    if not isinstance(units, int) or units < 1:
        return None
    batch = 1 if kind == "evaluate" else _batch(section)
    size = (inputs.get("image") or {}).get("size", 1)
    settled = _without_free(inputs)
    loose = {"kind": kind, "engine": inputs.get("engine"), "section": name, "variant": section.get("variant")}
    loose |= {"network": inputs.get("network"), "width": section.get("base_width"), "tta": inputs.get("tta")}
    return Workload(kind, digest([kind, settled]), digest(loose), units, batch, batch * size * size)


def _batch(section: Mapping[str, Any]) -> int:
    if section.get("batch"):
        return int(section["batch"])
    # `parts` at its default is left out of the JSON
    per_clip = section.get("parts", 4) if section.get("variant") in _BINNED else section.get("frames", 1)
    return int(section.get("clips", 1)) * int(per_clip)


def _without_free(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_free(member) for name, member in value.items() if name not in _FREE}
    return value
