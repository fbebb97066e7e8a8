r"""Writing of feature files that say whose rows they hold."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from pyarrow import parquet

from genrec_pyg.datasets.io.item_features import ids_path
from genrec_pyg.datasets.io.manifests import write_manifest
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.utils.files import write_atomically

#: Endings of feature files: dense, sparse, and either with other columns.
ENDINGS = ('.npy', '.npz', '.parquet')


def check_ending(path: Path, sparse: bool) -> None:
    r"""Checks that a feature file of this name can be written.

    Raises:
        ConfigError: If its ending is unknown or of the other kind of rows.
    """
    accepted = ('.npz',) if sparse else ('.npy', '.parquet')
    if path.suffix not in accepted:
        rows = 'sparse rows' if sparse else 'rows'
        raise ConfigError(
            f'--output: got {str(path)!r}, accepted for {rows} are names with the ending '
            f'{" or ".join(accepted)}'
        )


def write_features(
    path: Path, ids: Any, x: np.ndarray | sp.csr_matrix, document: dict[str, Any]
) -> None:
    r"""Writes features, their ids and their manifest.

    ``NAME.npy`` and ``NAME.npz`` (a SciPy matrix) have their ids in ``NAME.ids.txt``, one per line;
    ``NAME.parquet`` has the columns ``item`` and ``NAME``.

    Args:
        path: Destination, with an ending of :data:`ENDINGS`.
        ids: Item ids ``[n]``.
        x: Rows ``[n, d]``.
        document: What the manifest tells beside the files.

    Raises:
        DataError: If an id has a line break and the file is not Parquet.
        OutputError: If the system refuses.
    """
    raw = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    names: dict[Path, Callable[[io.BytesIO], Any]] = {}
    if path.suffix == '.parquet':
        rows = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1), pa.float32()), x.shape[1])
        table = pa.table({'item': pa.array(raw), path.stem: rows})
        names[path] = lambda file: parquet.write_table(table, file)
    else:
        broken = next((item for item in raw if set('\r\n') & set(str(item))), None)
        if broken is not None:
            raise DataError(
                f'{path}: item {broken!r} has a line break, accepted for such ids is a name '
                'that ends in .parquet'
            )
        text = ''.join(f'{item}\n' for item in raw).encode()
        names[ids_path(path)] = lambda file: file.write(text)
        names[path] = (
            (lambda file: sp.save_npz(file, sp.csr_matrix(x, dtype=np.float32)))
            if sp.issparse(x)
            else lambda file: np.save(file, np.asarray(x, dtype=np.float32))
        )
    contents = {}
    for name, write in names.items():
        file = io.BytesIO()
        write(file)
        contents[name] = file.getbuffer()
    digests = {name.name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    write_manifest(path, digests, {'rows': len(raw), 'width': int(x.shape[1]), **document})
    for name, content in contents.items():
        write_atomically(name, lambda file, content=content: file.write(content))
