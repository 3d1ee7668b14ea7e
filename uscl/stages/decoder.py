"""The `decoder` stage: local contrast at one decoder level, the encoder frozen (science.md 2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from uscl.data.pairs import LocalPairs, local_pairs, nearest_regions
from uscl.losses.local import local_info_nce, local_info_nce_chance, local_pairwise, local_pairwise_chance
from uscl.metrics.embedding import position_retrieval
from uscl.models.heads import LocalHead
from uscl.spec.networks import region_grid
from uscl.stages.context import StageContext, StageEvents, seed_everything
from uscl.stages.inputs import ContrastInputs, DecoderInputs
from uscl.stages.loop import below
from uscl.stages.pixpro import PixproTask
from uscl.stages.pretraining import build_unet, describe_embeddings, pretrain
from uscl.stages.variants import fixed_pairs
from uscl.stages.views import ViewLoader, Views, pair_settings, short_clips

RETRIEVALS_PER_STAGE = 10
DESCRIBED_FRAMES = 8


def train_decoder(context: StageContext) -> StageEvents:
    """Pretrain the first decoder blocks; publishes encoder and those blocks, without the projection head."""
    inputs = context.stage.inputs
    assert isinstance(inputs, DecoderInputs)
    task = PixproTask(inputs, context) if inputs.contrast.loss == "pixpro" else DecoderTask(inputs, context)
    return (yield from pretrain(task, inputs.decoder, context))


class DecoderTask:
    """The training task of this stage; see `loop.Task`."""

    def __init__(self, inputs: DecoderInputs, context: StageContext) -> None:
        seed_everything(inputs.seed, "decoder")
        self._inputs, self._device = inputs, context.device
        level, patch = inputs.decoder.level, inputs.decoder.patch
        network = build_unet(inputs.image, inputs.network)
        network.load_state_dict(context.parent_weights, strict=False)
        network.encoder.requires_grad_(False)
        map_size = network.geometry.level_size(level)
        head = LocalHead(network.decoder_channels(level), map_size=map_size, patch=patch)
        self._network = network.to(context.device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._head = head.to(context.device).train()
        self._blocks = self._network.decoder.blocks[:level]
        self._neighbour_RR = nearest_regions(region_grid(map_size, patch), inputs.decoder.num_negatives)
        self._neighbour_on_device_RR = self._neighbour_RR.to(context.device)
        self._views = ViewLoader(context, kind="decoder", spatial=False)
        self._fixed_pairs = fixed_pairs(inputs.decoder)
        self._last: tuple[Tensor, Views] | None = None

    def parameters(self) -> Iterable[nn.Parameter]:
        """The trained decoder blocks and the projection head; never the encoder."""
        return [*self._blocks.parameters(), *self._head.parameters()]

    def state(self) -> dict[str, Tensor]:
        """Everything that moves: blocks, head, and the encoder's batch-norm statistics."""
        state = {f"network.{name}": tensor for name, tensor in self.pretrained_weights().items()}
        return state | {f"head.{name}": tensor for name, tensor in self._head.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put `state` back."""
        self._network.load_state_dict(below(state, "network."), strict=False)
        self._head.load_state_dict(below(state, "head."))

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Local contrastive loss of one batch of aligned views."""
        views = self._views.views(step)
        pairs = self._fixed_pairs or local_pairs(
            views.clip_N,
            views.position_N,
            cross_clip_negative=self._inputs.decoder.cross_clip_negative,
            **pair_settings(self._inputs.pairs, views),  # type: ignore[arg-type]
        )
        chance = local_chance(pairs, self._neighbour_RR, self._inputs.contrast)
        pairs = pairs.to(self._device)
        with torch.no_grad():  # batch norm stays in training mode, as in Chaitanya's code
            features = self._network.encode(views.image_N1HW)
        region_NRD = self._head(self._network.decode(features, upto=self._inputs.decoder.level))
        hard_beta = self._inputs.pairs.hard_beta
        loss = local_loss(region_NRD, pairs, self._neighbour_on_device_RR, self._inputs.contrast, hard_beta=hard_beta)
        self._last = region_NRD.detach(), views
        measured, plain = short_clips(views, self._inputs.pairs), loss.detach()
        if hard_beta:  # weighted by hardness a loss is near chance however much was learned
            plain = local_loss(region_NRD.detach(), pairs, self._neighbour_on_device_RR, self._inputs.contrast)
            measured["chance"] = torch.full_like(plain, chance)
        measured["loss_over_chance"] = plain / chance
        return loss, measured | describe_regions(region_NRD)

    def after_step(self, step: int) -> dict[str, float]:
        """Now and then: how often a region's nearest region in another patient has the same position."""
        steps = self._inputs.decoder.steps
        if self._last is None or (step % max(1, steps // RETRIEVALS_PER_STAGE) and step != steps):
            return {}
        region_NRD, views = self._last
        found = position_retrieval(region_NRD.float(), views.patient_N.to(region_NRD.device))
        return {"position_retrieval": float(found)}

    def pretrained_weights(self) -> dict[str, Tensor]:
        """Encoder and trained blocks under the names that the whole network has."""
        kept = ("encoder.", *(f"decoder.blocks.{block}." for block in range(self._inputs.decoder.level)))
        return {name: tensor for name, tensor in self._network.state_dict().items() if name.startswith(kept)}

    def close(self) -> None:
        """Stop reading ahead."""
        self._views.close()


def describe_regions(region_NRD: Tensor) -> dict[str, Tensor]:
    """Embedding figures over all regions of a few frames; a positive is the same region in a frame's other view."""
    frames = len(region_NRD) // 2
    few = min(frames, DESCRIBED_FRAMES)
    embedding = torch.cat([region_NRD[:few], region_NRD[frames : frames + few]]).flatten(0, 1)
    number = torch.arange(len(embedding), device=region_NRD.device)
    partner = number.roll(len(embedding) // 2)
    return describe_embeddings(embedding, number[:, None] == partner[None])


def local_loss(
    region_NRD: Tensor, pairs: LocalPairs, neighbour_RR: Tensor, contrast: ContrastInputs, *, hard_beta: float = 0.0
) -> Tensor:
    """The local contrastive loss that the settings name; `hard_beta` is read by InfoNCE only."""
    if contrast.loss == "infonce":
        assert contrast.form is not None and contrast.temperature is not None
        form, temperature = contrast.form, contrast.temperature
        return local_info_nce(
            region_NRD, pairs, neighbour_RR=neighbour_RR, form=form, temperature=temperature, hard_beta=hard_beta
        )
    assert contrast.margin is not None and contrast.distance is not None
    return local_pairwise(
        region_NRD, pairs, neighbour_RR=neighbour_RR, margin=contrast.margin, distance=contrast.distance
    )


def local_chance(pairs: LocalPairs, neighbour_RR: Tensor, contrast: ContrastInputs) -> float:
    """The loss of constant embeddings on these pairs; everything on the CPU."""
    if contrast.loss == "infonce":
        assert contrast.form is not None
        return float(local_info_nce_chance(pairs, neighbour_RR=neighbour_RR, form=contrast.form))
    assert contrast.margin is not None
    return local_pairwise_chance(margin=contrast.margin)
