"""The `encoder` stage: global contrast over clip-structured batches (paper section 2.1; Chaitanya et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from uscl.data.pairs import PairMasks, pair_masks
from uscl.losses.contrastive import info_nce, info_nce_chance, pairwise, pairwise_chance
from uscl.models.heads import GlobalHead
from uscl.stages.context import StageContext, StageEvents, seed_everything
from uscl.stages.inputs import ContrastInputs, EncoderInputs
from uscl.stages.pixpro import PixproTask
from uscl.stages.pretraining import build_unet, describe_embeddings, pretrain
from uscl.stages.variants import fixed_masks, loss_scale
from uscl.stages.views import ViewLoader, pair_settings, short_clips

CHANCE_MIN = 1e-6
"""A batch without negatives (`negatives: intra` on short clips) has chance 0; it counts as learning nothing, 1."""


def train_encoder(context: StageContext) -> StageEvents:
    """Pretrain the encoder on the stage's clips; publishes the encoder's weights without the projection head."""
    inputs = context.stage.inputs
    assert isinstance(inputs, EncoderInputs)
    task = PixproTask(inputs, context) if inputs.contrast.loss == "pixpro" else EncoderTask(inputs, context)
    return (yield from pretrain(task, inputs.encoder, context))


class EncoderTask:
    """The training task of this stage; see `loop.Task`."""

    def __init__(self, inputs: EncoderInputs, context: StageContext) -> None:
        seed_everything(inputs.seed, "encoder")
        self._inputs, self._device = inputs, context.device
        network = build_unet(inputs.image, inputs.network)
        sizes = network.geometry
        head = GlobalHead(inputs.encoder.head, network.bottleneck_channels, map_size=sizes.bottleneck_size)
        self._encoder = network.encoder.to(context.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._head = head.to(context.device)
        self._modules = nn.ModuleDict({"encoder": self._encoder, "head": self._head}).train()
        self._views = ViewLoader(context, kind="encoder", spatial=True)
        self._fixed_masks, self._scale = fixed_masks(inputs.encoder), loss_scale(inputs)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Encoder and projection head."""
        return self._modules.parameters()

    def state(self) -> dict[str, Tensor]:
        """Encoder and head with their buffers."""
        return dict(self._modules.state_dict())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put `state` back."""
        self._modules.load_state_dict(state)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrastive loss of one batch of views."""
        views = self._views.views(step)
        pairs = self._inputs.pairs
        masks = self._fixed_masks or pair_masks(
            views.clip_N,
            views.position_N,
            **pair_settings(pairs, views),  # type: ignore[arg-type]
        )
        chance = self._scale * contrast_chance(masks, self._inputs.contrast)
        masks = masks.to(self._device)
        embedding = self._head(self._encoder(views.image_N1HW)[-1])
        loss = self._scale * contrast_loss(embedding, masks, self._inputs.contrast, hard_beta=pairs.hard_beta)
        measured, plain = short_clips(views, pairs), loss.detach()
        if pairs.hard_beta:  # weighted by hardness a loss is near chance however much was learned
            plain = self._scale * contrast_loss(embedding.detach(), masks, self._inputs.contrast)
            measured["chance"] = torch.full_like(plain, chance)
        measured["loss_over_chance"] = plain / chance if chance > CHANCE_MIN else torch.ones_like(plain)
        return loss, measured | describe_embeddings(embedding, masks.positive_NN)

    def after_step(self, step: int) -> dict[str, float]:
        """Nothing beyond what `loss` measures."""
        return {}

    def pretrained_weights(self) -> dict[str, Tensor]:
        """The encoder's weights under the names that the whole network has."""
        return {f"encoder.{name}": tensor for name, tensor in self._encoder.state_dict().items()}

    def close(self) -> None:
        """Stop reading ahead."""
        self._views.close()


def contrast_loss(
    embedding_ND: Tensor, masks: PairMasks, contrast: ContrastInputs, *, hard_beta: float = 0.0
) -> Tensor:
    """The global contrastive loss that the settings name; `hard_beta` is read by InfoNCE only."""
    both, weight = (masks.positive_NN, masks.negative_NN), masks.weight_NN
    if contrast.loss == "infonce":
        assert contrast.form is not None and contrast.temperature is not None
        form, temperature = contrast.form, contrast.temperature
        return info_nce(embedding_ND, *both, form=form, temperature=temperature, weight_NN=weight, hard_beta=hard_beta)
    assert contrast.margin is not None and contrast.distance is not None
    return pairwise(embedding_ND, *both, margin=contrast.margin, distance=contrast.distance, weight_NN=weight)


def contrast_chance(masks: PairMasks, contrast: ContrastInputs) -> float:
    """The loss of constant embeddings on these pairs; `masks` on the CPU."""
    if contrast.loss == "infonce":
        assert contrast.form is not None
        both = (masks.positive_NN, masks.negative_NN)
        return float(info_nce_chance(*both, form=contrast.form, weight_NN=masks.weight_NN))
    assert contrast.margin is not None
    return float(pairwise_chance(masks.positive_NN, masks.negative_NN, margin=contrast.margin))
