"""events.jsonl and proposals.jsonl cut at every byte of their last record: at most that record is lost (T8)."""

import pytest

from uscl.records import Proposal
from uscl.store.sweeps import SweepFolder


def events(folder):
    """Two records; what reads them."""
    for number in (1, 2):
        folder.append_event({"event": "Drained", "cell": f"c{number}", "message": "ü" * number})
    return folder.read_events


def proposals(folder):
    """Two records; what reads them."""
    for index in (0, 1):
        folder.append_proposal(Proposal(index, {"temporal.window": index}, {}, {"nsga2:generation": 0}, (f"c{index}",)))
    return folder.read_proposals


@pytest.mark.parametrize(("name", "write"), [("events.jsonl", events), ("proposals.jsonl", proposals)])
def test_the_last_record_cut_at_every_byte(tmp_path, name, write):
    folder = SweepFolder(tmp_path, "torn")
    read = write(folder)
    path = tmp_path / "sweeps" / "torn" / name
    whole, both = path.read_bytes(), list(read())
    assert len(both) == 2
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        found = list(read())
        assert found == both[:1] or (cut == len(whole) - 1 and found == both), cut
        write(folder)
        assert list(read())[-1] == both[-1], "what is appended behind a torn record is read"
        path.write_bytes(whole)
