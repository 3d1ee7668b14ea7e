"""Inputs of the methods that contrast pixels: PixPro and labelled pixels, without what they never read.

Settings that one of them makes moot stand at their defaults here, so that equal experiments have equal keys.
"""

from __future__ import annotations

from typing import TypeVar

from uscl.data.schema import DatasetIndex
from uscl.spec.section import Section
from uscl.spec.trial import ContrastSpec, NetworkSpec, TrialSpec
from uscl.stages.inputs import ContrastInputs, PixelInputs

_Settings = TypeVar("_Settings", bound=Section)


def pixpro_inputs(contrast: ContrastSpec) -> ContrastInputs:
    """What PixPro reads of the contrastive loss's settings."""
    return ContrastInputs(
        loss="pixpro",
        form=None,
        temperature=None,
        margin=None,
        distance=None,
        pixpro_power=contrast.pixpro_power,
        pixpro_distance=contrast.pixpro_distance,
        momentum=contrast.momentum,
    )


def pixel_inputs(spec: TrialSpec, *, network: NetworkSpec, index: DatasetIndex) -> PixelInputs:
    """What contrast of labelled pixels reads; where it starts from is said by the stage's parent."""
    depths = (sum(name in inner for inner in index.contains.values()) for name in index.classes)
    return PixelInputs(
        seed=spec.seed.pretrain,
        image=spec.image,
        network=network,
        pixel=_with_defaults(spec.pixel, "start"),
        classes=index.classes,
        depths=tuple(depths),
    )


def _with_defaults(section: _Settings, *names: str) -> _Settings:
    return section.model_copy(update={name: type(section).model_fields[name].default for name in names})
