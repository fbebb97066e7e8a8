r"""Pretrained encoders as part of a model, and what they read of every item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genrec_pyg.encoders import ImageEncoder, TextEncoder, find_weights, freeze_first, train_last
from genrec_pyg.encoders.images import to_pixels
from genrec_pyg.encoders.item_images import open_image
from genrec_pyg.encoders.weights import read_json
from genrec_pyg.exceptions import DataError
from genrec_pyg.nn.items.prefix import FrozenPrefix, States

if TYPE_CHECKING:
    from genrec_pyg.nn.items.side import ItemSide

#: Keys of the configuration of a network that reads pictures.
_OF_IMAGES = {'image_size', 'num_channels', 'vision_config'}
#: Bytes of decoded pictures that are kept.
_CACHE_BYTES = 2**30


class Tokens:
    r"""Tokens of every item, held whole.

    Args:
        ids: Token ids ``[I, T]``, padded on the right.
        length: Tokens of every item ``[I]``.
    """

    def __init__(self, ids: Tensor, length: Tensor):
        self.ids, self.length = ids.int(), length

    def batch(self, item: Tensor) -> tuple[Tensor, Tensor]:
        r"""Ids and mask, int64 ``[n, T]``, as wide as the longest of the items ``[n]``."""
        chosen = item.cpu()
        length = self.length[chosen]
        width = int(length.max()) if length.numel() > 0 else 1
        mask = torch.arange(width) < length.unsqueeze(1)
        return self.ids[chosen, :width].long().to(item.device), mask.long().to(item.device)


class Pictures:
    r"""Pictures of every item, decoded at once and kept where they take less than a gibibyte, else
    when they are asked for.

    Args:
        files: Place of every picture, see :func:`~genrec_pyg.encoders.item_images.open_image`; an
            item without one has an empty place and a gray picture.
        read: From a path to pixels, uint8 ``[3, H, W]``.
        size: Height and width.
    """

    def __init__(self, files: Sequence[str], read: Callable[[str], Tensor], size: tuple[int, int]):
        self.files, self.read, self.size = list(files), read, size
        self.length = torch.ones(len(self.files), dtype=torch.long)
        self._kept: dict[int, Tensor] = {}
        if len(self.files) * 3 * size[0] * size[1] <= _CACHE_BYTES:
            self._kept = {number: self._pixels(number) for number in range(len(self.files))}

    def batch(self, item: Tensor) -> tuple[Tensor]:
        r"""Pixels, uint8 ``[n, 3, H, W]``, of items ``[n]``."""
        return (torch.stack([self._pixels(number) for number in item.tolist()]).to(item.device),)

    def _pixels(self, number: int) -> Tensor:
        if number in self._kept:
            return self._kept[number]
        file = self.files[number]
        return self.read(file) if file else torch.full((3, *self.size), 128, dtype=torch.uint8)


class Network(torch.nn.Module):
    r"""An encoder of texts or pictures, with the weights that it goes back to.

    Args:
        encoder: The encoder.
        again: Gives the same encoder as it was loaded.
        keep_frozen: Whether outputs of frozen lower layers are computed once per item, see
            :class:`~genrec_pyg.nn.items.prefix.FrozenPrefix`.
    """

    def __init__(
        self,
        encoder: TextEncoder | ImageEncoder,
        again: Callable[[], TextEncoder | ImageEncoder],
        keep_frozen: bool = False,
    ):
        super().__init__()
        self._prefix = FrozenPrefix(encoder) if keep_frozen else None
        self.encoder, self._again = encoder, again
        self.width, self.revision = encoder.width, encoder.weights.revision

    def reset_parameters(self) -> None:
        r"""Makes all weights those that were loaded, or draws them again where they were drawn."""
        names = self.encoder.state_dict()
        self.encoder.load_state_dict(
            {name: value for name, value in self._again().state_dict().items() if name in names}
        )

    def train(self, mode: bool = True) -> Network:
        r"""Sets training or evaluation mode. Batch normalization keeps the statistics that it came
        with: a row does not depend on which other items are in the batch.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, *inputs: Tensor) -> Tensor:
        r"""Vectors ``[n, w]``."""
        return self.encoder(*inputs) if self._prefix is None else self._prefix(*inputs)

    def _pixels(self, place: str) -> Tensor:
        steps = self.encoder.preprocessing
        return to_pixels(open_image(place), steps.size, steps.resample)

    def read(self, values: Sequence[str]) -> Tokens | Pictures | States:
        r"""Inputs of items from their texts, or the files of their pictures.

        Raises:
            DataError: If the vocabulary does not have most of the words.
        """
        encoder = self.encoder
        if isinstance(encoder, ImageEncoder):
            return Pictures(values, self._pixels, encoder.preprocessing.size)
        tokens = encoder.token_lists(values)
        unknown = encoder.unknown_share(tokens)
        if unknown > 0.5:
            raise DataError(
                f'{encoder.weights.name}: its vocabulary lacks {unknown:.0%} of the words of the '
                f'items, accepted is an encoder of their language'
            )
        ids, mask = encoder.pad(tokens)
        length = mask.sum(dim=1)
        return (
            Tokens(ids, length)
            if self._prefix is None
            else self._prefix.states(ids, length.clamp(min=1))
        )


class Opener:
    r"""An encoder that settings name, before it is loaded.

    Args:
        side: Settings.

    Raises:
        ConfigError: If there is no such encoder.
        DataError: If its files are incomplete.

    Attributes:
        default_content: ``'title'`` for texts, ``'image'`` for pictures.
    """

    def __init__(self, side: ItemSide):
        self.side = side
        weights = find_weights(side.encoder)
        reads_images = not weights.path.is_dir() or bool(
            _OF_IMAGES & set(read_json(weights.path / 'config.json'))
        )
        self.default_content = 'image' if reads_images else 'title'

    def network(self) -> Network:
        r"""The encoder, with what is frozen of it."""
        encoder = self._load()
        if self.side.frozen_tensors:
            freeze_first(encoder.model, self.side.frozen_tensors)
        else:
            train_last(encoder.model, self.side.unfreeze)
        return Network(encoder, self._load, self.side.keep_frozen)

    def _load(self) -> TextEncoder | ImageEncoder:
        side = self.side
        if self.default_content == 'image':
            encoder = ImageEncoder.from_pretrained(side.encoder)
        else:
            encoder = TextEncoder.from_pretrained(
                side.encoder, side.pooling, side.max_length, side.lowercase
            )
        if side.weights == 'random':
            _draw(encoder.model)
        return encoder


def open_encoder(side: ItemSide) -> Opener:
    r"""The encoder that ``side`` names."""
    return Opener(side)


def _draw(model: torch.nn.Module) -> None:
    r"""Draws all weights as those of an untrained network of this kind."""
    if hasattr(model, '_init_weights'):  # of transformers
        for module in model.modules():
            module._is_hf_initialized = False
        for parameter in model.parameters():
            parameter._is_hf_initialized = False
        model.init_weights()
        return
    for module in model.modules():
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
