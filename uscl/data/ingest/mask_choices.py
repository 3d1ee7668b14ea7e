"""Images without a mask, or without one of some class: what that means is the user's decision, never a guess."""

from __future__ import annotations

from collections.abc import Sequence

from uscl.data.ingest.mask_layout import Picture, lonely
from uscl.data.ingest.mask_values import MaskRules
from uscl.data.wording import counted, listed
from uscl.errors import DataError


def with_masks(pictures: Sequence[Picture], rules: MaskRules) -> tuple[list[Picture], tuple[str, ...]]:
    """The pictures to read, and what to say of those without a mask. DataError where nobody decided about these."""
    bare = [picture for picture in pictures if not picture.masks]
    if not bare:
        return with_all_classes(pictures, rules)
    if not rules.unlisted:
        raise DataError(lonely([picture.image for picture in bare]))
    count = counted(len(bare), "image has no mask", "images have no mask")
    example = listed([picture.name for picture in bare], shown=1)
    if rules.unlisted == "skip":
        masked, said = with_all_classes([picture for picture in pictures if picture.masks], rules)
        return masked, (f"{count} ({example}): left out, as --unlisted skip says", *said)
    if any(rater for picture in pictures for rater in picture.masks):
        raise DataError(f"{count} ({example}): --unlisted absent cannot say by which rater; take --unlisted skip")
    masked, said = with_all_classes(pictures, rules)
    return masked, (f"{count} ({example}): taken as showing none of the classes, as --unlisted absent says", *said)


def with_all_classes(pictures: Sequence[Picture], rules: MaskRules) -> tuple[list[Picture], tuple[str, ...]]:
    """Where each class has files of its own: what to do with images that have files of some classes only."""
    shown = {
        picture.name: {file.class_name for files in picture.masks.values() for file in files} for picture in pictures
    }
    every = set().union(*shown.values())
    partial = [picture.name for picture in pictures if shown[picture.name] and shown[picture.name] != every]
    if not partial:
        return list(pictures), ()
    lacking = f"{listed(partial, shown=1)} lacks {listed(sorted(every - shown[partial[0]]), shown=1)}"
    count = counted(len(partial), "image has", "images have") + f" masks of some classes only ({lacking})"
    if not rules.missing:
        raise DataError(
            f"{count}: is the class not there, or did nobody annotate it? --missing absent takes it as not there, "
            "--missing skip-image leaves such images out"
        )
    if rules.missing == "absent":
        return list(pictures), (f"{count}: the others are taken as not there, as --missing absent says",)
    left = [picture for picture in pictures if picture.name not in set(partial)]
    return left, (f"{count}: left out, as --missing skip-image says",)
