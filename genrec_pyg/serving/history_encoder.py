r"""Embeddings of histories by the network of a sequence model, which a bundle has as ONNX; in numpy
and onnxruntime.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np

from genrec_pyg.exceptions import DataError
from genrec_pyg.serving.parts import Inner

#: Role of its file in a bundle.
ROLE = 'history_encoder'
#: How histories stand in their rows: the oldest item has the first place, or the newest the last.
ALIGNMENTS = ('left', 'right')
#: Most items of a history that a network reads.
_LONGEST = 1 << 14


class MissingRuntimeError(Exception):
    r"""Nothing that runs ONNX is installed."""


class EncodedHistory:
    r"""Embeddings of histories in the order of time, see
    :class:`genrec_pyg.nn.models.sequential.sequence_recommender.SequenceRecommender`.

    The network gets item rows ``[1, S, d]``, which are zero where there is no item, the items
    ``[1, S]``, padded by ``I``, and their number ``[1]``. One history is encoded at a time, so that
    an answer does not depend on what else is asked for.

    Args:
        spec: ``length`` :math:`S`, ``align`` and ``repeats`` from the manifest.
        content: The network.
        inner: Embeddings of the model.

    Raises:
        DataError: If the manifest, the network and the embeddings do not fit.
        MissingRuntimeError: Without onnxruntime.
    """

    def __init__(self, spec: dict[str, Any], content: bytes | None, inner: Inner | None):
        self.length, self.align = spec.get('length'), spec.get('align')
        self.repeats = spec.get('repeats')
        if (
            inner is None
            or content is None
            or type(self.length) is not int
            or not 1 <= self.length <= _LONGEST
            or self.align not in ALIGNMENTS
            or type(self.repeats) is not bool
        ):
            raise DataError(
                f'manifest: fold_in is {str(spec)[:120]!r}, accepted is what an export writes, '
                f'with the file {ROLE}'
            )
        self._items, self._shape = inner.items, inner.users.shape[1:]
        try:
            runtime = importlib.import_module('onnxruntime')
        except ImportError as error:
            raise MissingRuntimeError from error
        options = runtime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get('OMP_NUM_THREADS') or 1)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(
                content, options, providers=['CPUExecutionProvider']
            )
            self(np.zeros(min(1, len(self._items)), dtype=np.int64))
        except DataError:
            raise
        except Exception as error:  # onnxruntime's own kinds of errors are many
            raise DataError(
                f'{ROLE}: is no network of this bundle ({type(error).__name__}: {str(error)[:200]})'
            ) from error

    def __call__(self, history: np.ndarray) -> tuple[np.ndarray, None]:
        r"""Embedding ``[d]``, or ``[K, d]`` for several interests, of items, oldest first."""
        if not self.repeats:
            history = history[np.sort(np.unique(history, return_index=True)[1])]
        newest = history[-self.length :]
        begin = self.length - newest.size if self.align == 'right' else 0
        place = slice(begin, begin + newest.size)
        rows = np.zeros((1, self.length, self._items.shape[1]), dtype=np.float32)
        items = np.full((1, self.length), len(self._items), dtype=np.int64)
        rows[0, place], items[0, place] = self._items[newest], newest
        inputs = {
            'rows': rows,
            'history': items,
            'length': np.array([newest.size], dtype=np.int64),
        }
        used = {entry.name for entry in self._session.get_inputs()}
        out = self._session.run(None, {k: v for k, v in inputs.items() if k in used})[0][0]
        if out.shape != self._shape or out.dtype != np.float32 or not np.isfinite(out).all():
            raise DataError(
                f'{ROLE}: makes {out.dtype} of shape {out.shape}, accepted are finite float32 of '
                f'shape {self._shape}'
            )
        return out, None
