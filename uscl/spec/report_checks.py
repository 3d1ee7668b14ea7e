"""What the `report` block of a sweep file must hold: settings, measurements, a reference row, a paper's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uscl.errors import SpecError
from uscl.spec.positions import Located
from uscl.spec.rows import reference_row, row_names, row_titles, rows_called, rows_hint
from uscl.spec.settings import Given, checked, did_you_mean, require_known, shown, trial_fields
from uscl.spec.sweep import EMBEDDING_MEASURES, MEASURES, OVERALL_MEASURES, Cell, ReportSpec
from uscl.spec.trial import flatten

REFERENCE, PUBLISHED = "report.reference", "report.published.values"
PUBLISHED_COLUMNS = "report.published.columns"


@dataclass(frozen=True, slots=True)
class _Declared:
    """A cell of the file as rows.py reads it."""

    label: str
    axes: Mapping[str, Any]
    settings: Mapping[str, Any]


def check_shape(given: Mapping[str, Given]) -> None:
    """SpecError, with the line, where published numbers are not `{measurement: {row: [number or null, ...]}}`."""
    if PUBLISHED not in given:
        return
    place = given[PUBLISHED].place
    for where, row, numbers in _published(given[PUBLISHED]):
        items = numbers.value if numbers.is_list else (numbers,)
        if not numbers.is_list or not all(_is_number(item.value) for item in items):
            at = place.at(f"{where}: {row}", numbers.line)
            raise SpecError(f"{at}: expected a list of numbers (null where none), got '{shown(numbers.plain())}'")


def check_names(report: ReportSpec, given: Mapping[str, Given]) -> None:
    """SpecError where rows or columns name no setting, or a value is no measurement."""
    for key, listed in (("rows", report.rows), ("columns", (report.columns,))):
        for name in listed:
            if name and (name != "label" or key == "columns") and name not in trial_fields():
                where = given[f"report.{key}"].at(f"report.{key}")
                raise SpecError(f"{where}: '{name}' is no setting{did_you_mean(name, trial_fields())}")
    for value in report.values:
        require_measurement(value, given["report.values"].at("report.values") if "report.values" in given else "")
    for value in report.published.values:
        require_measurement(value, given[PUBLISHED].at(PUBLISHED))


def check_rows(report: ReportSpec, given: Mapping[str, Given], cells: Sequence[Cell], *, changed: bool) -> None:
    """SpecError where the reference is no row or several, or published numbers do not fit rows or columns.

    `changed`: `--set` has changed settings of the cells, so a published row may be gone; it is then not printed.
    """
    if not report.reference and not report.published.values:
        return
    declared = [_Declared(cell.label, cell.axes, flatten(cell.spec)) for cell in cells]
    rows = row_names(declared, report.rows, report.columns)
    if report.reference:
        where = given[REFERENCE].at(REFERENCE)
        if isinstance(report.reference, dict):
            _check_settings(report.reference, where)
        try:
            reference_row(declared, rows, report.reference)
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
    if report.published.values:
        _check_numbers(report, given)
        _check_published_rows(given[PUBLISHED], declared, rows, changed=changed)


def check_rows_of_search(report: ReportSpec, given: Mapping[str, Given]) -> None:
    """What can be said of rows that are still to be proposed: the settings of the reference, and how many numbers."""
    if isinstance(report.reference, dict):
        _check_settings(report.reference, given[REFERENCE].at(REFERENCE))
    if report.published.values:
        _check_numbers(report, given)


def _check_settings(reference: Mapping[str, Any], where: str) -> None:
    for name, value in reference.items():
        require_known(name, f"{where}: {name}", known=trial_fields())
        checked(name, value, f"{where}: {name}", field=trial_fields()[name])


def _check_numbers(report: ReportSpec, given: Mapping[str, Given]) -> None:
    columns = report.published.columns
    if bool(columns) != bool(report.columns):
        at = given[PUBLISHED_COLUMNS if columns else PUBLISHED].at(PUBLISHED_COLUMNS)
        wrong = "report.columns is empty: one number a row" if columns else f"missing; the values of {report.columns}"
        raise SpecError(f"{at}: {wrong}")
    expected = max(1, len(columns))
    for where, row, numbers in _published(given[PUBLISHED]):
        if len(numbers.value) != expected:
            at = given[PUBLISHED].place.at(f"{where}: {row}", numbers.line)
            raise SpecError(f"{at}: expected {expected} numbers, one per column, got {len(numbers.value)}")


def _check_published_rows(given: Given, cells: Sequence[_Declared], rows: Sequence[str], *, changed: bool) -> None:
    titles = row_titles(cells, rows)
    for where, row, numbers in _published(given):
        found, at = rows_called(row, titles), given.place.at(f"{where}: {row}", numbers.line)
        if len(found) > 1:
            raise SpecError(f"{at}: is {len(found)} rows of this sweep; name one of them")
        if not found and not changed:
            raise SpecError(f"{at}: is no row of this sweep{rows_hint(row, titles)}")


def _published(given: Given) -> Iterator[tuple[str, str, Located]]:
    """(the measurement's place, row, numbers) of every published row; SpecError where they are not nested so."""
    if not given.node.is_mapping:
        raise SpecError(f"{given.at(PUBLISHED)}: expected {{measurement: {{row: [number, ...]}}}}")
    for measurement, rows in given.node.value.items():
        where = f"{PUBLISHED}: {measurement}"
        if not rows.is_mapping:
            at = given.place.at(where, rows.line)
            raise SpecError(f"{at}: expected {{row: [number, ...]}}, got '{shown(rows.plain())}'")
        for row, numbers in rows.value.items():
            yield where, row, numbers


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def require_measurement(
    value: str, where: str, *, splits: Sequence[str] = ("test", "val"), counts: bool = True
) -> None:
    """SpecError unless `value` is `test/dsc`, `val/dsc/<class>`, `val/embedding/separability`, ... of one of `splits`.

    `counts`: `test/dsc_n` and `test/n_cases` are measurements too.
    """
    part, _, rest = value.partition("/")
    words = rest.split("/")
    measure = words[0].removesuffix("_n") if counts else words[0]
    if measure in OVERALL_MEASURES and words[1:]:
        raise SpecError(
            f"{where}: '{value}' is no measurement; {measure} is a mean over classes and has none per class"
        )
    known = (*MEASURES, *OVERALL_MEASURES, *EMBEDDING_MEASURES)
    counted = ("n_cases", "n_patients") if counts else ()
    if part in splits and {measure, "/".join(words[:2])} & {*known, *counted}:
        return
    nearly = value if part in splits else f"{splits[0]}/{value}"
    near = did_you_mean(nearly, [f"{split}/{name}" for split in splits for name in known])
    expected = " or ".join(f"{split}/..." for split in reversed(splits))
    raise SpecError(f"{where}: '{value}' is no measurement; expected {expected}, as in {splits[0]}/dsc{near}")
