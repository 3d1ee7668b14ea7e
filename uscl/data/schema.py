"""What a dataset folder holds: file names, Arrow schemas, and the index that plans and splits are made from.

dataset.json        name, classes, containment, size, licence, sources, sha256 and bytes of each file, fingerprint;
                    where two raters were compared, `agreement`: {"dsc": .., "dsc/cortex": .., "delta_snr": ..};
                    where known, `dynamic_range_db` between black and white, and `remarks` of an import of outlines
clips.parquet       one row per clip: who, where its frames lie, frame times, duplicates, sector, source size, spacing
frames-NNN.arrow    square uint8 frames, one fixed-size binary per frame, Arrow IPC, read through a memory map
labels.parquet      one row per labelled case: who, where its planes lie, classes present, copies, spacing
labels-NNN.arrow    native-size image, class bit planes, known and sector planes of each case
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

DATASET_FORMAT = "uscl dataset"
DATASET_VERSION = 1
"""Raised when a reader of the old version would misread the new one."""

DATASET_FILE = "dataset.json"
CLIPS_FILE = "clips.parquet"
LABELS_FILE = "labels.parquet"

MAX_CLASSES = 8
"""One bit plane per class in a uint8 image."""

UNKNOWN_PATIENT = "unknown-"
"""Starts the name of a patient that stands for nobody in particular: one per clip or case of unknown patient."""

SAME_FRAMES = "same frames as "
SAME_RECORDING = "same recording as "
"""Start the note of a clip that is another one's copy, exact or in another crop or encoding; its name follows."""

SPLIT_PARTS = ("train", "validation", "test")

CLIP_SCHEMA = pa.schema(
    [
        ("clip", pa.string()),
        ("patient", pa.string()),
        ("group", pa.string()),
        ("num_frames", pa.int64()),
        ("first_row", pa.int64()),
        ("times_ms", pa.list_(pa.float64())),
        ("frame_time_ms", pa.float64()),
        ("duplicate", pa.list_(pa.bool_())),
        ("sector", pa.binary()),
        ("source_height_px", pa.int32()),
        ("source_width_px", pa.int32()),
        ("spacing_mm", pa.list_(pa.float64())),
        ("note", pa.string()),
        ("content", pa.string()),
    ]
)
"""`times_ms` is null where unknown; `sector` is the S x S mask in packed bits; `spacing_mm` (row, column) of a
stored pixel; the source size gives the letterbox transform."""

LABEL_SCHEMA = pa.schema(
    [
        ("case", pa.string()),
        ("patient", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("excluded", pa.bool_()),
        ("copy_of", pa.string()),
        ("classes", pa.list_(pa.string())),
        ("row", pa.int64()),
        ("height_px", pa.int32()),
        ("width_px", pa.int32()),
        ("spacing_mm", pa.list_(pa.float64())),
        ("clip", pa.string()),
        ("frame", pa.int64()),
        ("content", pa.string()),
        ("rater", pa.string()),
        ("image", pa.string()),
        ("quality", pa.string()),
        ("view", pa.string()),
        ("origin", pa.string()),
    ]
)
"""`clip` and `frame` say where a labelled frame was taken from: empty and -1 where it stands alone. `image` names the
picture, the same for all its raters: empty where the case is its only one. Of the columns from `rater` on, a file holds
those that say something: a dataset that names no rater is byte for byte what it was before there were any."""

RATING_COLUMNS = ("rater", "image", "quality", "view", "origin")
"""Empty where nothing is known, and in datasets without the column."""

CONSENSUS = "consensus"
"""The rater of a case that several raters' masks were merged into."""

ORIGINS = ("", "human", "interpolated", "tracked", "model")
"""Who drew a mask, as far as the source tells."""

PLANE_SCHEMA = pa.schema(
    [
        ("image", pa.large_binary()),
        ("planes", pa.large_binary()),
        ("known", pa.large_binary()),
        ("sector", pa.large_binary()),
    ]
)
"""`image` and `planes` H x W bytes (bit k of a plane byte: class k); `known` and `sector` packed bits."""


def frame_schema(size: int) -> pa.Schema:
    """Schema of a frame file: one column, `size` x `size` bytes a row."""
    return pa.schema([("pixels", pa.binary(size * size))])


@dataclass(frozen=True)
class ClipEntry:
    """A clip as splits, keys and checks see it."""

    clip: str
    patient: str
    group: str
    num_frames: int
    content: str
    """sha256 of everything a stage may read of it: frames, times, duplicates, sector."""
    has_times: bool
    frame_time_ms: float
    """Median time between frames, ms; NaN where unknown."""


@dataclass(frozen=True)
class CaseEntry:
    """A labelled frame as splits, keys and checks see it."""

    case: str
    patient: str
    group: str
    classes: frozenset[str]
    """Classes with at least one pixel."""
    content: str
    """sha256 of image, planes, known, sector and spacing."""
    excluded: bool = False
    """A marked copy of another case: used in no split."""
    split: str = ""
    """Given by the importer: train, validation or test; empty where the split is ours to make."""
    rater: str = ""
    """Whose mask it is; empty where the dataset names nobody."""
    image: str = ""
    """The picture's name, which the cases of its raters share; empty where this is its only case."""
    quality: str = ""
    """Of the picture, as its rater judged it: `Fair`, `Poor`, ...; empty where nobody did."""

    @property
    def picture(self) -> str:
        """What the raters of one picture have in common."""
        return self.image or self.case


@dataclass(frozen=True)
class DatasetIndex:
    """All that is known of a dataset without its pixels. Clips and cases in stored order."""

    name: str
    fingerprint: str
    classes: tuple[str, ...]
    contains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class -> classes that lie within it."""
    size: int = 0
    """Side of the stored square frames, px."""
    clips: tuple[ClipEntry, ...] = ()
    cases: tuple[CaseEntry, ...] = ()
    agreement: Mapping[str, float] = field(default_factory=dict)
    """Scores between two raters, by measurement (`dsc`, `dsc/<class>`); in no fingerprint and no key."""

    @property
    def leaf_classes(self) -> tuple[str, ...]:
        """Classes that contain no other class, in order."""
        return tuple(name for name in self.classes if not self.contains.get(name))
