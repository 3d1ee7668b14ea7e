"""Figures: drawn where there is something to draw, PNG, the same bytes again, and matplotlib only then."""

import itertools
import subprocess
import sys

import pytest
from report_store import make_store, plan_cell

from uscl.report.figures import draw_figures, figure_names
from uscl.report.page import build_report
from uscl.spec.sweep import ReportSpec

REPORT = ReportSpec(rows=("temporal.polarity",), columns="labels.fraction", values=("test/dsc",))
EMBEDDING = {"val/embedding/separability": 2.0, "val/embedding/compactness": 0.5}


def report_of(root, *, fractions=(0.1, 1.0), seeds=(0,), report=REPORT, embedding=None):
    grid = itertools.product(("none", "positive"), fractions, seeds)
    cells = [plan_cell(n, row, fraction=fraction, seed=seed) for n, (row, fraction, seed) in enumerate(grid, 1)]
    extra = (lambda cell: embedding) if embedding else None
    store = make_store(root, cells, lambda cell: lambda p, i, name: {"dsc": 0.1 * cell.number}, extra=extra)
    return build_report(store, cells, report)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ("label_efficiency.png",)),
        ({"fractions": (0.1,)}, ()),
        ({"report": ReportSpec(rows=("labels.fraction",), columns="temporal.polarity")}, ()),
        ({"report": ReportSpec(rows=("labels.fraction",)), "embedding": EMBEDDING}, ("embedding.png",)),
        (
            {"report": ReportSpec(rows=("temporal.polarity",), columns="seed.pretrain"), "seeds": (0, 3)},
            ("curves.png",),
        ),
        ({"embedding": EMBEDDING}, ("label_efficiency.png", "embedding.png")),
    ],
)
def test_what_there_is_to_draw(tmp_path, settings, names):
    assert figure_names(report_of(tmp_path, **settings)) == names


def test_figures_are_png_and_the_same_bytes_again(tmp_path):
    report = report_of(tmp_path, embedding=EMBEDDING)
    figures = draw_figures(report)
    assert list(figures) == ["label_efficiency.png", "embedding.png"]
    assert all(content.startswith(b"\x89PNG") and len(content) < 100_000 for content in figures.values())
    assert draw_figures(report) == figures
    other = report_of(tmp_path / "other", fractions=(0.1, 0.5), embedding=EMBEDDING)
    assert draw_figures(other)["label_efficiency.png"] != figures["label_efficiency.png"]


def test_an_unfinished_sweep_draws_what_is_there(tmp_path):
    cells = [plan_cell(n, row, fraction=f) for n, (row, f) in enumerate(itertools.product("ab", (0.1, 1.0)), 1)]
    store = make_store(tmp_path, cells[:1], lambda cell: lambda p, i, name: {"dsc": 0.5}, extra=lambda cell: EMBEDDING)
    assert list(draw_figures(build_report(store, cells, REPORT))) == ["label_efficiency.png", "embedding.png"]


def test_importing_figures_brings_no_matplotlib():
    code = "import sys, uscl.report.figures; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
