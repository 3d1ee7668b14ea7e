"""The fakes of tests/sweep and tests/tracking are used here too."""

import sys
from pathlib import Path

for room in ("tracking", "sweep"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))
