"""A driver of a search in a process of its own: `python search_driver.py ROOT OPTIONS-AS-JSON`.

`search` are fields of the search, `script` is that of its fake trials. Prints the outcome as JSON on the last line.
"""

import json
import logging
import sys
from pathlib import Path

from search_fakes import search_plan, search_spec
from sweep_fakes import NAME

from uscl.records import Progress
from uscl.sweep import runner
from uscl.sweep.proposals import grown
from uscl.sweep.study import study_of


class Said:
    """A sink that prints a line per event."""

    def on_event(self, event):
        if not isinstance(event.event, Progress):
            print("event", type(event.event).__name__, flush=True)

    def on_cells(self, cells):
        print("cells", len(cells), flush=True)

    def close(self):
        pass


def main():
    """Run the search as told."""
    root, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    logging.basicConfig(level=logging.WARNING)
    runner.have_data = lambda plan, say: None
    plan = search_plan(root, search_spec(**options.get("search", {})), **options.get("script", {}))
    study = study_of([grown(plan)])
    outcome = runner.run_study(
        study, lambda: [Said()], options=runner.RunOptions(workers=options.get("workers", 1), run_trial=NAME),
        say=lambda line: print("say", line, flush=True),
    )  # fmt: skip
    (stands,) = outcome.sweeps
    said = {"finished": len(stands.finished), "trained": dict(outcome.trained), "exit_code": outcome.exit_code}
    print(json.dumps(said | {"ray": "ray" in sys.modules}), flush=True)


if __name__ == "__main__":
    main()
