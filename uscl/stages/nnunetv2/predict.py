"""Predict with the real package: its predictor, preprocessing, sliding window and mirroring, from published files."""

# K classes, H x W pixels (native)

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uscl.data.letterbox import Letterbox

SPACING = (999, 1, 1)
"""What the package's PNG reader gives every image: nothing is resampled."""
TRAINER = "PackageTrainer"


def package_predictor(
    weights: Mapping[str, Tensor], read: Callable[[str], bytes], classes: Sequence[str], *, device: torch.device
) -> Callable[[NDArray[np.uint8]], NDArray[np.bool_]]:
    """A function from a frame (H, W) to masks (K, H, W) in the order of `classes`.

    `read` gives the files beside the weights: plans.json, dataset.json, inference.json. As nnU-Net writes a
    segmentation: one label a pixel, a class being all labels of its region.
    """
    plans, dataset, inference = (json.loads(read(f"{name}.json")) for name in ("plans", "dataset", "inference"))
    predictor = _predictor(plans, dataset, inference, weights=weights, device=device)
    regions = [np.atleast_1d(dataset["labels"][name]) for name in classes]

    def predict(image_HW: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Nothing is found in a black frame, which the package could not crop."""
        if not image_HW.any():
            return np.zeros((len(classes), *image_HW.shape), np.bool_)
        box = Letterbox.of(image_HW, inference.get("longest_px") or max(image_HW.shape))
        seen = box.shrunk(image_HW)[None, None].astype(np.float32)
        with redirect_stdout(StringIO()):
            labels = predictor.predict_single_npy_array(seen, {"spacing": SPACING})
        return box.enlarged(np.stack([np.isin(labels[0], region) for region in regions]))

    return predict


def _predictor(
    plans: dict[str, Any],
    dataset: dict[str, Any],
    inference: dict[str, Any],
    *,
    weights: Mapping[str, Tensor],
    device: torch.device,
) -> Any:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from uscl.stages.nnunetv2.trainer import load_weights

    manager = PlansManager(plans)
    configuration = manager.get_configuration(inference["configuration"])
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        len(dataset["channel_names"]),
        manager.get_label_manager(dataset).num_segmentation_heads,
        allow_init=False,
        deep_supervision=False,
    )
    load_weights(network, dict(weights))
    with redirect_stdout(StringIO()):  # it says on a CPU that it is no GPU
        predictor = nnUNetPredictor(device=device, allow_tqdm=False)
    mirror_axes = tuple(inference["mirror_axes"])
    predictor.manual_initialization(
        network, manager, configuration, [network.state_dict()], dataset, TRAINER, mirror_axes
    )
    return predictor
