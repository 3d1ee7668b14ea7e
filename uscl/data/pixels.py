"""Which labelled pixels are contrasted: the class of a pixel, a draw per class, and whom they are compared with.

Pure functions of tensors: every shape is fixed by the settings, so nothing waits for the device. The random scores
of a draw come from the caller, who draws them on the CPU.
"""
# N views, B images (N = 2 B), K classes, H x W cells, C cells of a map, M places of a draw, S views compared with

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EMPTY = -1
"""Label of a pixel that is not to be contrasted, and of a place of a draw that no pixel fills."""


def class_ranks(depths: Sequence[int]) -> Tensor:
    """Which class wins where several hold a pixel, (K,) int64, from 1: the one in most others, of equals the later."""
    number = len(depths)
    return torch.tensor([depth * number + place + 1 for place, depth in enumerate(depths)])


def innermost_class(truth_NKHW: Tensor, known_N1HW: Tensor, *, rank_K: Tensor, background: bool) -> Tensor:
    """The class of each pixel, (N, H, W) int64: the innermost that holds it; K where none does; EMPTY where unknown.

    `truth` and `known` are 1 inside. `rank_K` as from `class_ranks`. Without `background` its pixels are EMPTY too.
    """
    highest_NHW, class_NHW = ((truth_NKHW > 0.5) * rank_K[:, None, None]).max(dim=1)
    label_NHW = torch.where(highest_NHW > 0, class_NHW, len(rank_K) if background else EMPTY)
    return torch.where(known_N1HW[:, 0] > 0.5, label_NHW, EMPTY)


def at_cells(label_NHW: Tensor, map_size: int) -> Tensor:
    """Labels at the centres of the cells of a coarser map, (N, cells), row by row."""
    stride = label_NHW.shape[-1] // map_size
    return label_NHW[:, stride // 2 :: stride, stride // 2 :: stride].flatten(1)


def draw_per_class(label_NC: Tensor, score_NC: Tensor, *, num_classes: int, per_class: int) -> tuple[Tensor, Tensor]:
    """Up to `per_class` cells of each class and view, those of the highest score: cells and labels, (N, M) int64.

    M = num_classes x min(per_class, C), class by class. A place that no cell fills has label EMPTY, and its cell is
    another; so have all places of a class with fewer than 2 cells. Scores lie in [0, 1) and differ.
    """
    count = min(per_class, label_NC.shape[1])
    number_K = torch.arange(num_classes, device=label_NC.device)
    own_NKC = label_NC[:, None] == number_K[:, None]
    best_NKM, cell_NKM = torch.where(own_NKC, score_NC[:, None], score_NC[:, None] - 1).topk(count, dim=-1)
    filled_NKM = (best_NKM >= 0) & (own_NKC.sum(dim=-1, keepdim=True) >= 2)
    return cell_NKM.flatten(1), torch.where(filled_NKM, number_K[:, None], EMPTY).flatten(1)


def compared_views(num_images: int, scope: str) -> Tensor:
    """Whose pixels the anchors of each view are compared with, (N, S) int64; views as in stages.views, N = 2 B.

    Always the *other* view, so that no pixel meets itself: `within`: of the same image (S = 1); `cross`: also of the
    next image of the batch, a random one (S = 2); `batch`: of every image (S = B).
    """
    ahead = {"within": 1, "cross": min(2, num_images), "batch": num_images}[scope]
    image_BS = (torch.arange(num_images)[:, None] + torch.arange(ahead)) % num_images
    return torch.cat([image_BS + num_images, image_BS])
