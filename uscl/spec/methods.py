"""Which settings a method reads: the others are moot, make no new experiment, and stand as `-` in tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHOD_SECTIONS: Mapping[str, frozenset[str]] = {
    "contrastive": frozenset({"network", "contrast", "encoder", "decoder", "temporal", "finetune"}),
    "supervised": frozenset({"network", "finetune"}),
    "pixel_supcon": frozenset({"network", "contrast", "encoder", "temporal", "pixel", "finetune"}),
    "nnunet2d": frozenset({"nnunet"}),
    "nnunetv2": frozenset({"nnunet"}),
}
"""Sections that a method reads, besides those that every method reads."""

MOOT_SETTINGS: Mapping[str, frozenset[str]] = {
    "nnunet2d": frozenset({"image.norm", "seed.pretrain", "evaluate.tta", "nnunet.longest_px"}),
    "nnunetv2": frozenset({"image.size", "image.norm", "seed.pretrain", "evaluate.tta"}),
    "supervised": frozenset({"seed.pretrain"}),
}
"""Single settings that a method does not read, of sections that it does: nnU-Net's recipe fixes them."""

CLIP_SECTIONS = frozenset({"contrast", "encoder", "decoder", "temporal"})
"""Sections of pretraining on clips; `pixel_supcon` reads them only where it starts from an encoder."""


BUDGET_SETTINGS = frozenset({"encoder.steps", "decoder.steps"})
"""What `finetune.budget: total` adds up under `supervised`, though that reads nothing else of their sections."""


def sections_read(method: str, pixel_start: str) -> frozenset[str]:
    """Sections that a method reads; `pixel_start` (pixel.start) counts under `pixel_supcon` only."""
    read = METHOD_SECTIONS.get(method, frozenset())
    return read - CLIP_SECTIONS if method == "pixel_supcon" and pixel_start == "random" else read


READ_BY_LOSS: Mapping[str, str] = {
    "contrast.form": "infonce",
    "contrast.temperature": "infonce",
    "contrast.margin": "pairwise",
    "contrast.distance": "pairwise",
    "contrast.pixpro_power": "pixpro",
    "contrast.pixpro_distance": "pixpro",
    "contrast.momentum": "pixpro",
}
"""The contrastive loss that alone reads a setting."""


def is_moot(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a trial with these settings, by dotted name, never reads `name` (`contrast.loss` under `supervised`)."""
    loss = settings.get("contrast.loss")
    if loss is not None and READ_BY_LOSS.get(name, loss) != loss:
        return True
    if name in MOOT_SETTINGS.get(settings.get("method", ""), frozenset()):
        return True
    if name in BUDGET_SETTINGS and settings.get("method") == "supervised":
        return bool(settings.get("finetune.budget", "own") != "total")
    if name.startswith("speckle.") and name != "speckle.weight" and settings.get("speckle.weight") == 0:
        return True
    section = name.split(".")[0]
    read = sections_read(settings.get("method", ""), settings.get("pixel.start", "random"))
    return section not in read and any(section in sections for sections in METHOD_SECTIONS.values())
