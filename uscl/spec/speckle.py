"""Speckle settings that are right one by one and impossible together."""

from __future__ import annotations

from collections.abc import Mapping

from uscl.spec.settings import shown
from uscl.spec.sweep import Cell

MODEL_FORMS: Mapping[str, tuple[str, ...]] = {
    "nakagami": ("euclidean", "log", "kl", "jeffreys", "literal"),
    "rayleigh": ("euclidean", "log", "kl", "jeffreys"),
    "gamma": ("euclidean", "log", "kl", "jeffreys"),
    "histogram": ("euclidean",),
}
"""Forms that each model takes. `literal` is eq. 5 of the paper, about m and Omega; a histogram has the Wasserstein
distance, and leaves `form` at its default."""


def refuse_speckle(cell: Cell) -> None:
    """SpecError, at the place of the setting to change, where a cell's speckle term cannot be computed as asked."""
    if cell.spec.speckle.weight == 0:
        return
    _refuse_form(cell)
    _refuse_domain(cell)
    _refuse_patch(cell)
    _refuse_permuted(cell)


def _refuse_form(cell: Cell) -> None:
    speckle = cell.spec.speckle
    forms = MODEL_FORMS[speckle.model]
    if speckle.form in forms:
        return
    if speckle.model == "histogram":
        said = f"'{speckle.form}' compares parameters, and speckle.model: histogram has none; leave the form out"
    else:
        said = f"'{speckle.form}' is not defined for speckle.model: {speckle.model}; choose one of {', '.join(forms)}"
    raise cell.error("speckle.form", said)


def _refuse_domain(cell: Cell) -> None:
    speckle = cell.spec.speckle
    if speckle.domain == "decompressed" and speckle.dynamic_range_db is None:
        raise cell.error(
            "speckle.domain",
            "decompressed needs speckle.dynamic_range_db, the decibels between black and white of these images",
        )


def _refuse_patch(cell: Cell) -> None:
    speckle, size = cell.spec.speckle, cell.spec.image.size
    if speckle.region != "patch":
        return
    if speckle.patch_px > size and cell.spec.method != "nnunetv2":  # which works at native size
        raise cell.error("speckle.patch_px", f"{speckle.patch_px} is larger than image.size {size}")
    if speckle.patch_px**2 < speckle.min_pixels:
        raise cell.error(
            "speckle.patch_px",
            f"a patch of {speckle.patch_px} x {speckle.patch_px} px never holds speckle.min_pixels"
            f" {shown(speckle.min_pixels)}; set a larger patch or a smaller min_pixels",
        )


def _refuse_permuted(cell: Cell) -> None:
    """nnU-Net plans its own batch where none is given, of at least 2."""
    spec = cell.spec
    if spec.speckle.permuted and spec.method == "nnunetv2":
        raise cell.error("speckle.permuted", "true is not built for the real nnU-Net package; use method: nnunet2d")
    name = "nnunet.batch" if spec.method in ("nnunet2d", "nnunetv2") else "finetune.batch"
    batch = spec.nnunet.batch if name == "nnunet.batch" else spec.finetune.batch
    if spec.speckle.permuted and batch == 1:
        raise cell.error(name, "speckle.permuted takes the speckle of another case of the batch; expected at least 2")
