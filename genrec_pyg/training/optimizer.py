r"""Batches, learning rates and groups of parameters of an optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch.nn import Parameter

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import Recommender

#: Steps per epoch with batches of automatic size.
AUTO_STEPS = 14
#: Batch for which a learning rate is meant where batches have automatic size.
REFERENCE_BATCH = 2048


def batch_and_rate(
    num_edges: int, batch_size: int | str, lr: float, steps_per_epoch: int | None = None
) -> tuple[int, float]:
    r"""Batch size and learning rate on a graph.

    A step costs a propagation over the whole graph whatever its batch. With ``'auto'`` the batch
    is therefore the power of two next to the interactions divided by :data:`AUTO_STEPS`, from 256
    to 8192, or with ``steps_per_epoch`` the interactions divided by them: the cost of an epoch
    grows with the interactions and not with their square. ``lr`` is then meant for batches of
    :data:`REFERENCE_BATCH` and follows the root of the batch (`Malladi et al., NeurIPS 2022
    <https://arxiv.org/abs/2205.10287>`_, for Adam).

    Args:
        num_edges: Training interactions.
        batch_size: Triples per step, which stand as they are with ``lr``, or ``'auto'``.
        lr: Learning rate.
        steps_per_epoch: Steps of an epoch with ``'auto'``; :obj:`None` for about
            :data:`AUTO_STEPS`.
    """
    if batch_size != 'auto':
        return int(batch_size), lr
    if steps_per_epoch is not None:
        batch = max(-(-num_edges // steps_per_epoch), 1)
    else:
        power = round(math.log2(max(num_edges, 1) / AUTO_STEPS))
        batch = min(max(2 ** max(power, 0), 256), 8192)
    return batch, lr * math.sqrt(batch / REFERENCE_BATCH)


def with_encoder_group(
    model: Recommender,
    parameters: Sequence[Parameter],
    sharded: bool,
    settings: Mapping[str, float],
) -> list[dict[str, Any]]:
    r"""Divides parameters into those of the pretrained encoder, with ``settings``, and the others.

    Args:
        model: Model whose ``encoder_parameters`` are meant.
        parameters: What the optimizer owns.
        sharded: Whether tables are divided among processes; tables and encoder then share an
            optimizer.
        settings: ``lr`` and ``weight_decay`` of the encoder, as far as they are its own.

    Raises:
        ConfigError: If the model trains no encoder, or tables are divided.
    """
    encoder = set() if sharded else set(model.encoder_parameters())
    if not encoder:
        accepted = (
            '--distributed ddp, since tables and encoder share an optimizer'
            if sharded
            else 'a model with an encoder that is trained (--hparams.item_side.kind encoder)'
        )
        given = ', '.join(f'encoder_{name}' for name in settings)
        raise ConfigError(
            f'{given}: got {", ".join(map(str, settings.values()))} for {type(model).__name__}, '
            f'accepted is {accepted}'
        )
    return [
        {'params': [parameter for parameter in parameters if parameter not in encoder]},
        {'params': [parameter for parameter in parameters if parameter in encoder], **settings},
    ]


def with_moments(
    state: dict[str, Any], names: Sequence[str], moments: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    r"""The state of a new optimizer with moments of its parameters.

    Args:
        state: State of one process, also within Mirror Gradient.
        names: Names of the parameters, in the order of the optimizer.
        moments: Name of a parameter to its state.
    """
    if 'optimizer' in state:
        return {**state, 'optimizer': with_moments(state['optimizer'], names, moments)}
    if len(state['param_groups']) != 1:  # parameters of an encoder stand in another order
        return state
    found = {number: dict(moments[name]) for number, name in enumerate(names) if name in moments}
    return {**state, 'state': found}
