"""What stages have cost, from the manifests of a store: seconds per unit of work, and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from statistics import median

from uscl.records import Outcome, StageManifest
from uscl.store.stages import StageStore
from uscl.sweep.workload import Workload, workload

_SIZED = 5
"""Outputs of one shape whose size is looked up: they hardly differ."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one stage is likely to cost."""

    seconds: float
    num_bytes: float | None
    basis: str
    """`history`; `similar`: a stage of another batch or image size, in proportion; `probe`; `other device`."""


@dataclass(frozen=True, slots=True)
class Spent:
    """One stage that was trained."""

    workload: Workload
    device: str
    seconds_per_unit: float
    size: Callable[[], float]


class History:
    """What has been trained, and on what."""

    def __init__(self, spent: Iterable[Spent]) -> None:
        self._spent = tuple(spent)

    def cost(self, work: Workload, device: str) -> Cost | None:
        """What the work costs on a device, by stages that ran on one of that name; None where there are none alike."""
        return _cost([each for each in self._spent if each.device == device], work)

    def cost_elsewhere(self, work: Workload) -> Cost | None:
        """The same by whatever device; to be said as such."""
        found = _cost(self._spent, work)
        return Cost(found.seconds, found.num_bytes, "other device") if found else None


def history_of(stores: Iterable[StageStore], kinds: Iterable[str]) -> History:
    """From every published stage of these kinds; diverged ones, which end early, and unknown inputs are left out."""
    wanted = tuple(kinds)
    return History(spent for store in stores for kind in wanted for spent in _spent(store, kind))


def _spent(store: StageStore, kind: str) -> Iterable[Spent]:
    for ref in store.refs(kind):
        manifest = store.manifest(ref)
        if manifest is None or manifest.outcome is Outcome.DIVERGED:
            continue
        work = workload(kind, manifest.inputs, num_cases=int(_number(manifest, "num_cases")))
        if work is not None and _number(manifest, "seconds") > 0:
            yield Spent(
                work,
                str(manifest.provenance.get("device", "")),
                _seconds_per_unit(manifest, work),
                partial(store.size, ref),
            )


def _seconds_per_unit(manifest: StageManifest, work: Workload) -> float:
    """By its seconds; by its frames/s where those say more: a resumed stage's seconds are those of its last part."""
    speed = _number(manifest, "frames_per_s")
    by_speed = work.batch / speed if speed > 0 and work.kind != "evaluate" else 0.0
    return max(_number(manifest, "seconds") / work.units, by_speed)


def _number(manifest: StageManifest, name: str) -> float:
    value = manifest.provenance.get(name, 0)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _cost(spent: Iterable[Spent], work: Workload) -> Cost | None:
    family = [each for each in spent if each.workload.family == work.family]
    same = [each for each in family if each.workload.shape == work.shape]
    if same:
        seconds = median(each.seconds_per_unit for each in same) * work.units
        return Cost(seconds, median(each.size() for each in same[:_SIZED]), "history")
    if not family:
        return None
    per_pixel = median(each.seconds_per_unit / each.workload.pixels for each in family)
    num_bytes = median(each.size() for each in family[:_SIZED])
    return Cost(per_pixel * work.pixels * work.units, num_bytes, "similar")
