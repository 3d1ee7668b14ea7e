"""What a sweep file asks for and nothing answers: settings that no cell reads, classes that are not there."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from uscl.data.schema import DatasetIndex
from uscl.errors import SpecError, UsclError
from uscl.spec.settings import nested, trial_fields
from uscl.spec.sweep import EMBEDDING_MEASURES, Cell, SweepSpec
from uscl.spec.trial import TrialSpec, flatten
from uscl.stages.keys import Chain, chain

REPEATS = frozenset({"seed", "seed.pretrain", "seed.finetune", "labels.draw"})
"""Never told: they repeat a question and change none."""


def unread_settings(cells: Iterable[tuple[Cell, Chain]], index: DatasetIndex) -> tuple[str, ...]:
    """Settings that the sweep file or `--set` gives, and that change nothing in any cell that has them.

    A setting is read where putting its default back gives another key; the first cell that reads it ends the search.
    """
    open_names: dict[str, bool] = {}
    fields = trial_fields()
    for cell, links in cells:
        settings = flatten(cell.spec)
        for name in sorted(cell.asked - REPEATS):
            field = fields.get(name)
            if name not in settings or field is None or field.is_required() or open_names.get(name) is False:
                continue
            if _plain(settings[name]) != _plain(field.get_default()):
                open_names[name] = not _is_read(name, field.get_default(), settings, links, index)
    return tuple(name for name, unread in open_names.items() if unread)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _is_read(name: str, default: object, settings: dict[str, object], links: Chain, index: DatasetIndex) -> bool:
    try:
        other = chain(TrialSpec.model_validate(nested(settings | {name: default})), index)
    except (UsclError, ValidationError):
        return True
    return [stage.key for stage in other.stages] != [stage.key for stage in links.stages]


def check_report_classes(spec: SweepSpec, index: DatasetIndex) -> None:
    """SpecError where a search or `report.values` names a class that the dataset lacks."""
    for key, values in _measurements(spec).items():
        for value in values:
            _require_classes(value, f"{spec.source}: {key}", index)


def _measurements(spec: SweepSpec) -> dict[str, Iterable[str]]:
    """Every measurement that a file names, by the key it stands under."""
    named: dict[str, Iterable[str]] = {}
    if spec.search is not None:
        named = {"search.objectives": spec.search.objectives, "search.constraints": spec.search.constraints}
    return {**named, "report.values": spec.report.values}


def _require_classes(value: str, where: str, index: DatasetIndex) -> None:
    words = value.split("/")[1:]
    named = words[2:] if "/".join(words[:2]) in EMBEDDING_MEASURES else words[1:]
    unknown = [name for name in named if name not in (*index.classes, "background")]
    if unknown:
        raise SpecError(
            f"{where}: '{value}': '{unknown[0]}' is no class of dataset '{index.name}'; "
            f"it has {', '.join(index.classes)}"
        )
