"""Run as a program of its own: SimpleITK reads one volume, which may crash on a damaged header without harm to others.

volume_pixels.py FILE OUT.npy MAX_BYTES: says on standard output, as JSON, the `size` (x, y, ...), `components` and
`bytes` that the header declares, and the `spacing` per axis; then, unless they are more than MAX_BYTES, saves the
array, its axes reversed and components last. Imports nothing of uscl. Exit code 1 where it cannot be read.
"""

from __future__ import annotations

import json
import math
import sys

import numpy as np


def declared(path: str) -> dict[str, object]:
    """What the header says. RuntimeError where it cannot be read."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    one = SimpleITK.Image([1] * reader.GetDimension(), reader.GetPixelID(), reader.GetNumberOfComponents())
    size = [int(length) for length in reader.GetSize()]
    return {
        "size": size,
        "components": reader.GetNumberOfComponents(),
        "bytes": math.prod(size) * SimpleITK.GetArrayViewFromImage(one).nbytes,
        "spacing": list(reader.GetSpacing()),
    }


def save_pixels(path: str, out: str) -> None:
    """Write the array as NumPy's format. RuntimeError where it cannot be read."""
    import SimpleITK

    image = SimpleITK.ReadImage(path)  # owns the array
    np.save(out, SimpleITK.GetArrayViewFromImage(image))


def main(path: str, out: str, max_bytes: int) -> None:
    """The program. RuntimeError where the file cannot be read."""
    facts = declared(path)
    print(json.dumps(facts), flush=True)
    if int(str(facts["bytes"])) <= max_bytes:
        save_pixels(path, out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
