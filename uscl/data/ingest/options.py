"""What a reader of clips is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClipOptions:
    """The same for every file of an import."""

    size: int
    """Side of the stored square frames, px."""
    frame_rate_hz: float | None = None
    """Given by the user, for files that do not say; what a file says comes first. None: unknown stays unknown."""
    blank_top: float = 0.0
    """Share of the height, in [0, 1), that is blanked from above before anything else: a strip with a name in it."""
    keep_overlay: bool = False
    """The user has looked: text burned into pixels is accepted as it is."""
    index_step: int = 1
    """Of numbered image files: how far the numbers of neighbours in time lie apart."""
