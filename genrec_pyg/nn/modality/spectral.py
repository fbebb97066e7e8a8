r"""Filters in the Fourier domain of the feature axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.exceptions import ConfigError

#: Accepted starts of a filter.
FILTER_INITS = ('normal', 'identity')


class SpectralFilter(torch.nn.Module):
    r"""Learned complex factors on the spectrum of every row (SMORE: Ong and Khong, WSDM 2025,
    https://arxiv.org/abs/2412.14978).

    With :math:`\mathcal{F}` the unitary Fourier transform of real rows over their ``d`` features,

    .. math::
        \mathbf{c} = \mathcal{F}^{-1} \Bigl( \boldsymbol{\omega} \odot \prod_m \mathcal{F}
        \mathbf{f}_m \Bigr)

    which for one input is a circular convolution, and so a linear map (:meth:`circulant`). The
    spectrum of a real row is real at frequency 0, and for even ``d`` at the highest one: the
    imaginary parts of these factors could not matter, and there are none.

    Args:
        channels: Width ``d``.
        init: ``'normal'``, standard normal parts as in the authors' program, or ``'identity'``,
            factors of 1.

    Raises:
        ConfigError: If ``channels`` is not positive or ``init`` unknown.

    Attributes:
        real: Real parts ``[d // 2 + 1]``.
        imag: Imaginary parts of the frequencies that have one ``[(d - 1) // 2]``.
    """

    def __init__(self, channels: int, init: str = 'normal'):
        super().__init__()
        if channels < 1:
            raise ConfigError(f'hidden_channels: got {channels}, accepted are integers from 1')
        if init not in FILTER_INITS:
            raise ConfigError(
                f'filter_init: got {init!r}, accepted are {", ".join(map(repr, FILTER_INITS))}'
            )
        self.channels, self.init = channels, init
        self.real = Parameter(torch.empty(channels // 2 + 1))
        self.imag = Parameter(torch.empty((channels - 1) // 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Redraws the factors."""
        if self.init == 'normal':
            torch.nn.init.normal_(self.real)
            torch.nn.init.normal_(self.imag)
        else:
            torch.nn.init.ones_(self.real)
            torch.nn.init.zeros_(self.imag)

    def factors(self) -> Tensor:
        r"""Complex factors :math:`\boldsymbol{\omega}` ``[d // 2 + 1]``."""
        imag = F.pad(self.imag, (1, self.real.numel() - self.imag.numel() - 1))
        return torch.complex(self.real, imag)

    def circulant(self) -> Tensor:
        r"""The linear map ``[d, d]`` that :meth:`forward` is for one input, to be multiplied from
        the right.
        """
        kernel = torch.fft.irfft(self.factors(), n=self.channels, norm='ortho') / math.sqrt(
            self.channels
        )
        index = torch.arange(self.channels, device=kernel.device)
        return kernel[(index - index.unsqueeze(1)) % self.channels]

    def forward(self, x: Tensor) -> Tensor:
        r"""Filters rows ``[n, d]``."""
        return x @ self.circulant().to(x.dtype)

    def fuse(self, rows: Sequence[Tensor], present: Sequence[Tensor] | None = None) -> Tensor:
        r"""Filters the product of the spectra of several inputs.

        Args:
            rows: Inputs ``[n, d]``, at least one.
            present: Per input the rows that take part ``[n, 1]``; all by default. A row without any
                input is zero.
        """
        spectra = [
            torch.fft.rfft(
                x.float() if x.dtype in (torch.float16, torch.bfloat16) else x, norm='ortho'
            )
            for x in rows
        ]
        if present is not None:
            present = [mask.bool() for mask in present]
            spectra = [torch.where(mask, spectrum, 1) for mask, spectrum in zip(present, spectra)]
        product = math.prod(spectra[1:], start=spectra[0])
        out = torch.fft.irfft(self.factors() * product, n=self.channels, norm='ortho')
        return out if present is None else out * torch.stack(present).any(dim=0)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.channels}, init={self.init!r})'
