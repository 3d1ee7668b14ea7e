"""nnU-Net's labels for our classes: one label a pixel, and a region of labels for each class that holds others."""

# K classes, H x W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uscl.errors import DataError
from uscl.spec.regions import all_within

LOST_FRACTION_MAX = 0.01
"""Share of a class's pixels that one label a pixel may change (kidneyUS: 0.03 % of regions lie outside the capsule)."""
IGNORED = "ignore"
BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class LabelScheme:
    """Labels 1 .. K in the order of `order`; a class's region is its own label and those of all classes within it."""

    classes: tuple[str, ...]
    """In the dataset's order: the order of mask planes."""
    order: tuple[str, ...]
    """Outer classes before inner ones: the order of nnU-Net's labels, and of its output channels under regions."""
    within: Mapping[str, frozenset[str]]
    """Class -> classes inside it, directly or not."""

    @classmethod
    def of(cls, classes: Sequence[str], contains: Mapping[str, Sequence[str]]) -> LabelScheme:
        """The scheme of a dataset's classes; DataError where a class would lie within itself."""
        within = {name: all_within(name, contains) for name in classes}
        circular = [name for name in classes if name in within[name]]
        if circular:
            raise DataError(f"class '{circular[0]}' lies within itself; correct what contains what")
        depth = {name: sum(name in inner for inner in within.values()) for name in classes}
        return cls(tuple(classes), tuple(sorted(classes, key=lambda name: depth[name])), within)

    @property
    def nested(self) -> bool:
        """Whether a class lies within another: nnU-Net then trains regions (sigmoid), else labels (softmax)."""
        return any(self.within.values())

    @property
    def ignore_label(self) -> int:
        """The label of pixels whose annotation is unknown: the highest, as nnU-Net wants it."""
        return len(self.order) + 1

    def label(self, name: str) -> int:
        """The label of pixels whose innermost class is `name`."""
        return self.order.index(name) + 1

    def region(self, name: str) -> tuple[int, ...]:
        """The labels that lie within a class, ascending."""
        return tuple(sorted(self.label(each) for each in (name, *self.within[name])))

    def document(self, *, ignore: bool) -> dict[str, Any]:
        """`labels` and, for nested classes, `regions_class_order` of nnU-Net's dataset.json."""
        regions = {name: self.region(name) for name in self.order}
        labels: dict[str, Any] = {BACKGROUND: 0}
        labels |= {name: list(region) if len(region) > 1 else region[0] for name, region in regions.items()}
        if ignore:
            labels[IGNORED] = self.ignore_label
        if not self.nested:
            return {"labels": labels}
        return {"labels": labels, "regions_class_order": [self.label(name) for name in self.order]}

    def encode(self, masks_KHW: NDArray[np.bool_], known_HW: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """A label map (H, W): inner classes drawn over outer ones, unknown pixels ignored."""
        labels = np.zeros(known_HW.shape, np.uint8)
        for name in self.order:
            labels[masks_KHW[self.classes.index(name)]] = self.label(name)
        labels[~known_HW] = self.ignore_label
        return labels

    def decode(self, labels_HW: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Masks (K, H, W) of a label map, in the dataset's order; what is ignored is in no class."""
        return np.stack([np.isin(labels_HW, self.region(name)) for name in self.classes])


class LossCount:
    """How many pixels of each class one label a pixel changes, over all cases it is shown."""

    def __init__(self, scheme: LabelScheme) -> None:
        self._scheme = scheme
        self._changed = np.zeros(len(scheme.classes), np.int64)
        self._all = np.zeros(len(scheme.classes), np.int64)

    def add(self, masks_KHW: NDArray[np.bool_], labels_HW: NDArray[np.uint8], known_HW: NDArray[np.bool_]) -> None:
        """Count one case."""
        changed = (self._scheme.decode(labels_HW) != masks_KHW) & known_HW
        self._changed += changed.sum((1, 2))
        self._all += (masks_KHW & known_HW).sum((1, 2))

    @property
    def fractions(self) -> dict[str, float]:
        """Changed pixels of each class over its own pixels."""
        shares = self._changed / np.maximum(self._all, 1)
        return dict(zip(self._scheme.classes, shares.tolist(), strict=True))

    def refuse_overlaps(self) -> None:
        """DataError where a class loses or gains more than LOST_FRACTION_MAX of its pixels: classes that overlap."""
        name, share = max(self.fractions.items(), key=lambda each: each[1])
        if share > LOST_FRACTION_MAX:
            raise DataError(
                f"nnU-Net gives each pixel one label, and that would change {100 * share:.1f} % of class '{name}': it "
                "partly overlaps another class; declare which class contains which, or use method: nnunet2d"
            )
