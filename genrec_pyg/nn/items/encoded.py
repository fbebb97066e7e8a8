r"""Item rows from an encoder of text or images that is trained with the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Linear, Parameter
from torch.utils.checkpoint import checkpoint

from genrec_pyg.exceptions import CheckpointError
from genrec_pyg.nn.items.features import gelu_layers, xavier_layers
from genrec_pyg.nn.items.table import ItemRows
from genrec_pyg.utils.collectives import dealt_rows
from genrec_pyg.utils.precision import widened


class ContentInputs(Protocol):
    r"""What an encoder reads of every item, such as tokens.

    Args:
        length: How much work each item is ``[I]``; items of about one length share a chunk.
    """

    length: Tensor

    def batch(self, item: Tensor) -> tuple[Tensor, ...]:
        r"""Inputs of the encoder for items ``[n]``, as short as their lengths allow, on the device
        of ``item``.
        """


class ContentNetwork(Protocol):
    r"""An encoder: a module that maps inputs to one vector per item.

    Args:
        width: Width ``w`` of the vectors.
        revision: Digest of the files it was loaded from.
    """

    width: int
    revision: str

    def __call__(self, *inputs: Tensor) -> Tensor:
        r"""Vectors ``[n, w]``."""

    def parameters(self) -> Iterator[Parameter]:
        r"""Parameters, frozen ones among them."""

    def reset_parameters(self) -> None:
        r"""Makes the weights those that it was loaded with."""

    def read(self, values: Sequence[Any]) -> ContentInputs:
        r"""Inputs of further items from their raw content."""


class EncodedRows(ItemRows):
    r"""Content through an encoder that is trained end to end (Yuan et al., SIGIR 2023, Sec. 3.2,
    https://arxiv.org/abs/2303.13835).

    .. math::
        \mathbf{e}_i = \mathrm{MLP}_l(\mathrm{GELU}(\mathbf{W} \, \mathrm{pool}(\mathrm{encoder}(i))
        + \mathbf{b}))

    Each distinct item is encoded once per batch, padding never. Items are sorted by length and cut
    into chunks, which are padded to their longest item. With ``recompute`` forward keeps only the
    rows, and backward computes one chunk after another again, so that memory is that of one chunk
    whatever the batch: gradient caching (Gao et al., RepL4NLP 2021,
    https://arxiv.org/abs/2101.06983), with the exact gradient. Dropout of a chunk has a seed of its
    own, so that several processes, each of which encodes some of the chunks, draw what one process
    draws.

    Args:
        inputs: What the encoder reads of every item.
        network: The encoder.
        num_items: Number of items ``I``.
        channels: Width ``d``.
        num_layers: Layers :math:`l` after the projection.
        dropout: Dropout of these layers.
        chunk_size: Most items that are encoded at a time.
        recompute: Whether backward computes chunks again.
        xavier: Whether the projection starts from a normal distribution and a bias of 0, as heads
            of images do, or as linear maps of torch do, as heads of text do.
    """

    def __init__(
        self,
        inputs: ContentInputs,
        network: ContentNetwork,
        num_items: int,
        channels: int,
        num_layers: int = 0,
        dropout: float = 0.1,
        chunk_size: int = 256,
        recompute: bool = False,
        xavier: bool = False,
    ):
        super().__init__(num_items, channels)
        self._inputs = inputs
        self.network = network
        self.projection = Linear(network.width, channels)
        self.layers = gelu_layers([channels] * (num_layers + 1), dropout)
        self.chunk_size, self.recompute, self.xavier = chunk_size, recompute, xavier
        self.register_state_dict_post_hook(_without_frozen)
        self.register_load_state_dict_post_hook(_frozen_may_miss)
        self._reset_head()

    def _reset_head(self) -> None:
        xavier_layers(self.layers)
        if self.xavier:
            xavier_layers(self.projection)
        else:
            self.projection.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Gives the encoder the weights that it was loaded with and redraws the other layers."""
        self.network.reset_parameters()
        self._reset_head()

    def encoder_parameters(self) -> Iterator[Parameter]:
        r"""Trained parameters of the encoder, without the projection."""
        return (parameter for parameter in self.network.parameters() if parameter.requires_grad)

    def get_extra_state(self) -> dict[str, str]:
        r"""Digest of the encoder's files, which hold what a state leaves out."""
        return {'encoder': self.network.revision}

    def set_extra_state(self, state: dict[str, str]) -> None:
        r"""Checks that the encoder is that of the state.

        Raises:
            CheckpointError: If it is another one.
        """
        if state['encoder'] != self.network.revision:
            raise CheckpointError(
                f'item_side.encoder: its files have the digest {self.network.revision}, accepted '
                f'is {state["encoder"]}, with which the model was trained'
            )

    def compute(self, item: Tensor) -> Tensor:
        r"""Rows ``[n, d]`` of distinct items ``[n]``, float32 under autocast too."""
        return self._encode(self._inputs, item)

    def new_rows(self, content: Sequence[Any]) -> Tensor:
        r"""Rows ``[n, d]`` of items that are not in the graph, given their texts, or the places of
        their pictures.
        """
        return self._encode(
            self.network.read(content),
            torch.arange(len(content), device=self.projection.weight.device),
        )

    def _encode(self, inputs: ContentInputs, item: Tensor) -> Tensor:
        order = inputs.length[item.cpu()].argsort(stable=True).to(item.device)
        chunks = item[order].split(self.chunk_size)
        seed = int(torch.randint(2**62, ())) if self._draws() else None

        def rows(number: int) -> Tensor:
            found = inputs.batch(chunks[number])
            with _seeded(None if seed is None else seed + number, item.device):
                if self.recompute and torch.is_grad_enabled():
                    return checkpoint(self._head, *found, use_reentrant=False)
                return self._head(*found)

        encoded = dealt_rows(rows, [chunk.numel() for chunk in chunks], self.projection.weight.t())
        return encoded[order.argsort()]

    def _head(self, *found: Tensor) -> Tensor:
        return widened(self.layers(torch.nn.functional.gelu(self.projection(self.network(*found)))))

    def _draws(self) -> bool:
        return self.training and any(
            isinstance(module, torch.nn.Dropout) and module.p > 0 for module in self.modules()
        )


class _seeded:  # noqa: N801  a context, no noun
    r"""Within this context random numbers come from a seed; afterwards from where they came before.
    Without a seed nothing changes.
    """

    def __init__(self, seed: int | None, device: torch.device):
        devices = [device] if device.type == 'cuda' else []
        self.seed = seed
        self.fork = torch.random.fork_rng(devices, enabled=seed is not None)

    def __enter__(self) -> None:
        self.fork.__enter__()
        if self.seed is not None:
            torch.manual_seed(self.seed)

    def __exit__(self, *exception: Any) -> None:
        self.fork.__exit__(*exception)


def _without_frozen(
    module: EncodedRows, state: dict[str, Any], prefix: str, local_metadata: Any
) -> None:
    r"""Leaves tensors that no training changes out of a state: they are those of the encoder's
    files.
    """
    for name, parameter in module.network.named_parameters():
        if not parameter.requires_grad:
            state.pop(f'{prefix}network.{name}', None)


def _frozen_may_miss(module: EncodedRows, incompatible: Any) -> None:
    r"""Takes a state without them; they are compared by the digest of the encoder."""
    frozen = [
        name for name, parameter in module.network.named_parameters() if not parameter.requires_grad
    ]
    incompatible.missing_keys[:] = [
        key
        for key in incompatible.missing_keys
        if not any(key.endswith(f'network.{name}') for name in frozen)
    ]
