"""Grey levels of any depth -> 0 to 255, by one rule for a whole clip, so that brightness never jumps between frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BYTE = 255


@dataclass(frozen=True)
class GreyScale:
    """`(value - offset) * factor`, rounded and cut to 0..255."""

    offset: float = 0.0
    factor: float = 1.0
    note: str = ""
    """What was done, for the clip's notes; empty where values are taken as they are."""

    @classmethod
    def of(cls, lowest: float, highest: float, *, whole: bool) -> GreyScale:
        """The rule for values of a clip from `lowest` to `highest`; `whole` for integer types.

        Within 0..255: as they are. Integers from 0 up to more: divided by 2^(bits - 8), bits the fewest that hold the
        largest. Fractions within 0..1: times 255. Anything else: lowest to 0, highest to 255.
        """
        if not whole and lowest >= 0 and 0 < highest <= 1:
            return cls(0.0, _BYTE, "fractions, taken times 255")
        if lowest >= 0 and highest <= _BYTE:
            return cls()
        if whole and lowest >= 0:
            bits = int(highest).bit_length()
            return cls(0.0, 2.0 ** (8 - bits), f"{bits} bits of grey, reduced to 8")
        return cls(lowest, _BYTE / (highest - lowest), "grey levels stretched from smallest and largest to 0 and 255")

    def applied(self, values: np.ndarray) -> np.ndarray:
        """`values` of any type -> uint8 of the same shape."""
        if values.dtype == np.uint8 and not self.note:
            return values
        scaled = (values.astype(np.float64) - self.offset) * self.factor
        rounded = np.floor(scaled) if self.factor < 1 and not self.offset else np.rint(scaled)
        return np.clip(rounded, 0, _BYTE).astype(np.uint8)
