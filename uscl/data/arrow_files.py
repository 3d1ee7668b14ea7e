"""Numbered Arrow files of one kind within a dataset folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

FILE_BYTES = 1 << 30
"""About where a file ends and the next begins."""
BATCH_FRAMES = 512


class ArrowFiles:
    """Numbered Arrow IPC files of one schema, cut at about 1 GiB. `rows` counts over all of them."""

    def __init__(self, folder: Path, stem: str, schema: pa.Schema) -> None:
        self._folder, self._stem, self._schema = folder, stem, schema
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._count, self._bytes, self.rows = 0, 0, 0

    def append(self, columns: list[pa.Array]) -> None:
        """Write one record batch; begins the next file where this one is full."""
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        if self._writer is None or self._bytes + batch.nbytes > FILE_BYTES:
            self.close()
            self._writer = pa.ipc.new_file(self.next_path(), self._schema)
        self._writer.write_batch(batch)
        self._bytes += batch.nbytes
        self.rows += batch.num_rows

    def next_path(self) -> Path:
        """Where the next file goes; the one under way is finished."""
        self.close()
        self._count += 1
        return self._folder / f"{self._stem}-{self._count - 1:03}.arrow"

    def close(self) -> None:
        """Finish the file under way; the next `append` begins another."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self._bytes = None, 0


def frame_column(frames: np.ndarray) -> pa.Array:
    """(T, S, S) uint8 as one fixed-size binary per frame, without copying where they lie together."""
    width = frames.shape[1] * frames.shape[2]
    buffer = pa.py_buffer(np.ascontiguousarray(frames).reshape(-1))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(frames), [None, buffer])


def frame_batches(frames: np.ndarray) -> Iterator[pa.Array]:
    """`frames` (T, S, S) uint8 as columns of record batches."""
    return (frame_column(frames[start : start + BATCH_FRAMES]) for start in range(0, len(frames), BATCH_FRAMES))
