"""Rows appended to numbered Arrow IPC files, each of about 1 GiB."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

_FILE_BYTES = 1 << 30


class ArrowFiles:
    """Numbered Arrow IPC files of one schema, cut at about 1 GiB. `rows` counts over all of them."""

    def __init__(self, folder: Path, stem: str, schema: pa.Schema) -> None:
        self._folder, self._stem, self._schema = folder, stem, schema
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._count, self._bytes, self.rows = 0, 0, 0

    def append(self, columns: list[pa.Array]) -> None:
        """Write one record batch; begins the next file where this one is full."""
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        if self._writer is None or self._bytes + batch.nbytes > _FILE_BYTES:
            self.close()
            self._writer = pa.ipc.new_file(self._folder / f"{self._stem}-{self._count:03}.arrow", self._schema)
            self._count += 1
        self._writer.write_batch(batch)
        self._bytes += batch.nbytes
        self.rows += batch.num_rows

    def close(self) -> None:
        """Finish the file under way; the next `append` begins another."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self._bytes = None, 0
