"""`uscl report`: by name and by file, every format, the bytes that the sweep left in its folder."""

import pytest
from click.testing import CliRunner

from uscl.cli.main import uscl
from uscl.cli.sweep import _print_table
from uscl.errors import SpecError, StoreError
from uscl.records import Outcome
from uscl.report.page import FORMATS
from uscl.spec.reader import load_sweep
from uscl.store.stages import StageStore
from uscl.store.sweeps import SweepFolder
from uscl.sweep.plan import plan_sweep

TEXT = """\
name: small
recipe: demo
data: phantom
rows:
  - {label: baseline, contrast.loss: infonce}
  - {label: other, contrast.loss: pairwise}
grid:
  labels.fraction: [0.5, 1.0]
report: {rows: [label], columns: labels.fraction, reference: baseline}
"""


class Quiet:
    """A console that says nothing."""

    def print(self, *args, **kwargs):
        pass


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A store with a finished sweep `small`, and its file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    (tmp_path / "small.yaml").write_text(TEXT)
    plan = plan_sweep(load_sweep(tmp_path / "small.yaml"), store_root=tmp_path / "runs")
    store = StageStore(tmp_path / "runs")
    for planned in plan.cells:
        for name, ref in planned.plan.stages.items():
            store.publish(
                ref, attempt="a", files={}, outcome=Outcome.DONE, inputs={}, parent=None, flags=(), provenance={},
                metrics={"test/dsc": 0.5 + planned.plan.number / 100} if name == "evaluate/test" else {},
            )  # fmt: skip
    folder = SweepFolder(tmp_path / "runs", "small")
    folder.write_sweep(plan.spec.to_json())
    folder.write_cells([planned.plan for planned in plan.cells])
    _print_table(plan, Quiet())
    return tmp_path


def call(*arguments):
    result = CliRunner().invoke(uscl, ["report", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("chosen", list(FORMATS))
def test_a_report_is_the_bytes_that_the_sweep_left(place, chosen):
    kept = (place / "runs/sweeps/small/report" / FORMATS[chosen][0]).read_text()
    assert call("small", "--format", chosen) == kept == call("small.yaml", "--format", chosen)
    assert call("small", "--format", chosen, "--output", place / "new" / "file") == ""
    assert (place / "new" / "file").read_text() == kept


def test_the_files_report_block_counts_where_the_file_is_given(place):
    (place / "small.yaml").write_text(TEXT.replace("reference: baseline", "reference: other"))
    assert "difference to baseline" in call("small")
    assert "difference to other" in call("small.yaml")


def test_the_sweep_folder_has_the_figure_and_what_is_known_of_the_dataset(place):
    folder = SweepFolder(place / "runs", "small")
    assert (folder.path / "report" / "label_efficiency.png").read_bytes().startswith(b"\x89PNG")
    assert folder.read_dataset().name == "phantom"
    assert "labelled training cases by labels.fraction: 0.5 -> 48, 1.0 -> 96; scored on 32 validation" in call("small")
    call("small", "--figures", place / "figures")
    assert (place / "figures" / "label_efficiency.png").exists()


def test_a_report_changes_nothing_but_what_it_is_told_to_write(place):
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    call("small")
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_sweep_that_is_not_there(place):
    with pytest.raises(StoreError, match="no such sweep in this store"):
        call("smal")
    with pytest.raises(SpecError, match="cannot be read"):
        call("other.yaml")
    assert not (place / "runs/sweeps/smal").exists()


def test_a_report_block_that_changed_is_written_down_though_every_cell_is_finished(place):
    (place / "small.yaml").write_text(TEXT.replace("reference: baseline", "reference: other"))
    result = CliRunner().invoke(uscl, ["sweep", "small.yaml", "--no-mlflow"], catch_exceptions=False)
    assert "nothing to do" in result.output
    assert "difference to other" in call("small")
