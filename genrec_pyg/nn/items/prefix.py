r"""Frozen lower layers of a text encoder, whose outputs are computed once per item."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genrec_pyg.encoders import TextEncoder
from genrec_pyg.encoders.text import POOLING
from genrec_pyg.exceptions import ConfigError

#: Tokens that are encoded at a time.
_TOKENS_PER_BLOCK = 16_384
#: Most bytes of kept outputs.
_MOST_BYTES = 2**32


class States:
    r"""Outputs of the lower layers at every token of every item, held without padding.

    Args:
        flat: States ``[sum of lengths, w]``.
        length: Tokens of every item ``[I]``.
    """

    def __init__(self, flat: Tensor, length: Tensor):
        self.flat, self.length = flat, length
        self.start = length.cumsum(0) - length

    def batch(self, item: Tensor) -> tuple[Tensor, Tensor]:
        r"""States ``[n, T, w]`` and mask ``[n, T]`` of items ``[n]``, as wide as the longest of
        them.
        """
        chosen = item.cpu()
        length = self.length[chosen]
        place = torch.arange(int(length.max()) if length.numel() > 0 else 1)
        mask = place < length.unsqueeze(1)
        index = (self.start[chosen].unsqueeze(1) + place).where(mask, 0)
        return self.flat[index].to(item.device), mask.long().to(item.device)


class _Given(torch.nn.Module):
    r"""In the place of embeddings: the states that the model is called with."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **kwargs: Any) -> Tensor:
        return inputs_embeds


class _Passed(torch.nn.Module):
    r"""In the place of a layer: nothing, without a parameter."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states


class FrozenPrefix:
    r"""Takes embeddings and frozen lower layers out of an encoder of BERT's kind. What is left goes
    on from their outputs.

    Lower layers run once per item, without dropout, so that a step costs what its trained layers
    cost. Names of the trained tensors stay as they were.

    Args:
        encoder: Text encoder whose embeddings and first layers are frozen.

    Raises:
        ConfigError: If it is of another kind, or nothing of it is frozen.
    """

    def __init__(self, encoder: TextEncoder):
        model = encoder.model
        layers = getattr(getattr(model, 'encoder', None), 'layer', None)
        if not isinstance(layers, torch.nn.ModuleList) or not hasattr(model, 'embeddings'):
            raise ConfigError(
                f'item_side.keep_frozen: got True for {type(model).__name__}, accepted are text '
                f'encoders of the kind of BERT'
            )
        embeddings = model.embeddings
        count = 0
        while count < len(layers) and not _trains(layers[count]):
            count += 1
        if count == 0 or _trains(embeddings):
            raise ConfigError(
                'item_side.keep_frozen: got True, but the first layer is trained; accepted is '
                f'item_side.unfreeze up to {len(layers) - 1} blocks'
            )
        self.encoder = encoder
        self._lower = [embeddings, *layers[:count]]
        self._upper = [_Given(), *(_Passed() for _ in range(count))]
        self._put(self._upper)

    def _put(self, modules: list[torch.nn.Module]) -> None:
        model = self.encoder.model
        model.embeddings = modules[0]
        for number, module in enumerate(modules[1:]):
            model.encoder.layer[number] = module

    @torch.no_grad()
    def states(self, ids: Tensor, length: Tensor) -> States:
        r"""Outputs of the lower layers for token ids ``[I, T]`` of which the first ``length``
        ``[I]`` are real.

        Raises:
            ConfigError: If they would take more than 4 GiB.
        """
        model = self.encoder.model
        total, width = int(length.sum()), self.encoder.width
        if total * width * 4 > _MOST_BYTES:
            raise ConfigError(
                f'item_side.keep_frozen: got True for {total} tokens of width {width}, accepted '
                f'are outputs of up to {_MOST_BYTES} bytes'
            )
        dtype = next(self._lower[0].parameters()).dtype
        flat = torch.empty(total, width, dtype=dtype)
        start = length.cumsum(0) - length
        upper = [
            model.encoder.layer[number]
            for number in range(len(self._upper) - 1, len(model.encoder.layer))
        ]
        was_training = model.training
        self._put(self._lower)
        for number in range(len(upper)):
            model.encoder.layer[len(self._upper) - 1 + number] = _Passed()
        model.eval()
        try:
            order = length.argsort(stable=True)
            for item in order.split(max(1, _TOKENS_PER_BLOCK // max(1, ids.size(1)))):
                size = int(length[item].max())
                mask = torch.arange(size) < length[item].unsqueeze(1)
                found = model(
                    input_ids=ids[item, :size].long(), attention_mask=mask.long()
                ).last_hidden_state
                flat[(start[item].unsqueeze(1) + torch.arange(size))[mask]] = found[mask]
        finally:
            self._put(self._upper)
            for number, layer in enumerate(upper):
                model.encoder.layer[len(self._upper) - 1 + number] = layer
            model.train(was_training)
        return States(flat, length)

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor:
        r"""Vectors ``[n, w]`` from states ``[n, T, w]`` and mask ``[n, T]``."""
        hidden = self.encoder.model(inputs_embeds=states, attention_mask=mask).last_hidden_state
        return POOLING[self.encoder.pooling](hidden, mask)


def _trains(module: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
