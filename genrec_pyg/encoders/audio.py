r"""Encoders of sounds: statistics of log-mel spectra, and pretrained networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrec_pyg.encoders.waveforms import read_waveform
from genrec_pyg.encoders.weights import (
    Weights,
    find_weights,
    import_transformers,
    load_model,
    read_json,
)
from genrec_pyg.exceptions import ConfigError, DataError

#: Name of the encoder without weights.
LOG_MEL = 'log-mel'
_RATE, _WINDOW, _HOP, _BANDS = 16_000, 400, 160, 64
#: Least power of a band, -60 dB of a full-scale band.
_FLOOR = 1e-6


class AudioEncoder(nn.Module):
    r"""From sounds to rows, made by :meth:`from_pretrained`.

    Args:
        width: Width ``w`` of the rows.
        rate: Samples per second that it takes.
        seconds: Most seconds of a sound that it reads, from the start.
    """

    def __init__(self, width: int, rate: int, seconds: float):
        super().__init__()
        self.width, self.rate, self.seconds = width, rate, seconds

    @staticmethod
    def from_pretrained(name: str | Path = LOG_MEL, seconds: float = 30.0) -> AudioEncoder:
        r"""Opens an encoder.

        Args:
            name: ``'log-mel'``, which needs no weights, or see
                :func:`~genrec_pyg.encoders.weights.find_weights`: what ``AutoModel`` opens and
                takes sounds, such as wav2vec 2.0, HuBERT, WavLM, AST and Whisper.
            seconds: Most seconds of a sound that it reads.

        Raises:
            ConfigError: On an argument outside its accepted values, or a package that is not
                installed.
            DataError: If the folder is incomplete, damaged or of another kind of model.
        """
        if not 0.1 <= seconds <= 3600:
            raise ConfigError(f'seconds: got {seconds}, accepted are 0.1 to 3600')
        if str(name) == LOG_MEL:
            return LogMelStatistics(seconds)
        return _open_folder(find_weights(name), seconds)

    def samples(self, content: bytes, name: str) -> Tensor:
        r"""Samples ``[n]`` of a file at the rate of the encoder, see
        :func:`~genrec_pyg.encoders.waveforms.read_waveform`.
        """
        return torch.from_numpy(read_waveform(content, name, self.seconds).at(self.rate))

    def prepare(self, samples: Tensor) -> Tensor:
        r"""What :meth:`forward` takes of one sound."""
        return samples

    def forward(self, inputs: Tensor) -> Tensor:
        r"""Rows ``[n, w]`` of inputs ``[n, ...]`` of one length, so that a row does not depend on
        the others.
        """
        raise TypeError(f'{type(self).__name__} does not implement forward()')

    def describe(self) -> dict[str, Any]:
        r"""What decides the rows that it makes, for manifests."""
        return {'kind': 'audio', 'width': self.width, 'rate': self.rate, 'seconds': self.seconds}


class LogMelStatistics(AudioEncoder):
    r"""Mean and standard deviation over time of the log power in 64 bands of the mel scale, 25 ms
    every 10 ms at 16 kHz.

    .. math::
        \mathrm{mel}(f) = 2595 \log_{10}(1 + f / 700)

    (O'Shaughnessy, "Speech Communication", 1987). Bands are triangles of equal width on this scale
    from 0 to 8 kHz. The power of a frame is that of a sine of amplitude 1 where it is 1/4.

    Args:
        seconds: Most seconds of a sound that it reads.
    """

    def __init__(self, seconds: float = 30.0):
        super().__init__(2 * _BANDS, _RATE, seconds)
        self.register_buffer('window', torch.hann_window(_WINDOW), persistent=False)
        self.register_buffer('bands', mel_bands(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        r"""Rows ``[n, 128]`` of samples ``[n, samples]``: 64 means, 64 deviations."""
        if inputs.size(1) < _WINDOW:
            inputs = nn.functional.pad(inputs, (0, _WINDOW - inputs.size(1)))
        frames = inputs.unfold(1, _WINDOW, _HOP) * self.window
        power = (torch.fft.rfft(frames).abs() / self.window.sum()).square()
        levels = (power @ self.bands).clamp(min=_FLOOR).log()
        return torch.cat([levels.mean(dim=1), levels.std(dim=1, correction=0)], dim=1)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), 'encoder': LOG_MEL, 'revision': '1'}


class AudioModel(AudioEncoder):
    r"""A pretrained network for sounds: its pooled output, or the mean of its last states over
    time.

    Args:
        model: Network.
        extractor: From samples to its input, of ``transformers``.
        weights: Where both come from.
        seconds: Most seconds of a sound that it reads.
    """

    def __init__(self, model: nn.Module, extractor: Any, weights: Weights, seconds: float):
        rate = int(extractor.sampling_rate)
        super().__init__(int(model.config.hidden_size), rate, seconds)
        self.model, self.extractor, self.weights = model, extractor, weights

    def prepare(self, samples: Tensor) -> Tensor:
        r"""Normalized samples ``[n]`` or a spectrum ``[frames, bands]``, as the network takes."""
        found = self.extractor(np.asarray(samples), sampling_rate=self.rate, return_tensors='pt')
        return found[self.model.main_input_name][0]

    def forward(self, inputs: Tensor) -> Tensor:
        r"""Rows ``[n, w]``."""
        out = self.model(inputs)
        pooled = getattr(out, 'pooler_output', None)
        return out.last_hidden_state.mean(dim=1) if pooled is None else pooled

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            'encoder': self.weights.name,
            'revision': self.weights.revision,
        }


def mel_bands(bands: int = _BANDS, window: int = _WINDOW, rate: int = _RATE) -> Tensor:
    r"""Triangles of equal width on the mel scale from 0 to half the rate, each of height 1 at its
    center: ``[window / 2 + 1, bands]``.
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequency = torch.linspace(0, rate / 2, window // 2 + 1, dtype=torch.float64).unsqueeze(1)
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    found = torch.minimum(rising, falling).clamp(min=0)
    # narrow bands between two frequencies of the transform take the nearest one
    empty = found.sum(dim=0) == 0
    nearest = (frequency - edges[1:-1]).abs().argmin(dim=0)
    found[nearest[empty], empty.nonzero().squeeze(1)] = 1
    return found.float()


def _open_folder(weights: Weights, seconds: float) -> AudioModel:
    if not weights.path.is_dir():
        raise ConfigError(
            f'encoder: {weights.name!r} is no audio encoder, accepted are {LOG_MEL} and folders of '
            f'audio encoders'
        )
    transformers = import_transformers('audio', weights.name)
    read_json(weights.path / 'preprocessor_config.json')
    model = load_model(transformers.AutoModel, weights)
    if model.main_input_name not in ('input_values', 'input_features'):
        raise DataError(
            f'{weights.path}: a {model.config.model_type} takes no sounds, accepted are audio '
            f'encoders'
        )
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(
            weights.path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # damaged files lead its parsers anywhere
        raise DataError(
            f'{weights.path}: has no usable preprocessor_config.json ({type(error).__name__}: '
            f'{str(error)[:200]})'
        ) from error
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    return AudioModel(model, extractor, weights, seconds)


def stack_equal(inputs: Sequence[Tensor]) -> list[tuple[list[int], Tensor]]:
    r"""Inputs of one shape together: places and the tensor ``[n, ...]`` of each shape. Padding
    would change rows where a network normalizes over time.
    """
    shapes: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(inputs):
        shapes.setdefault(tuple(one.shape), []).append(place)
    return [(places, torch.stack([inputs[p] for p in places])) for places in shapes.values()]
