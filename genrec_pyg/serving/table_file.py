r"""Tables of a bundle from the bytes of a safetensors file, whose header is checked first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from genrec_pyg.exceptions import DataError

#: Most bytes of a header, far above what an export writes.
MAX_HEADER = 1 << 20
_DTYPES = {
    'F32': np.dtype('<f4'),
    'I64': np.dtype('<i8'),
    'I32': np.dtype('<i4'),
    'U8': np.dtype('u1'),
}


def parse_tables(content: bytes, path: Path) -> dict[str, np.ndarray]:
    r"""Arrays of a safetensors file (https://huggingface.co/docs/safetensors), whose header is
    checked first.

    Args:
        content: The whole file.
        path: Its name, for errors.

    Raises:
        DataError: On a header that is too long or no JSON object, another type than float32, int64,
            int32 or uint8, or positions that do not fit.
    """
    # The length of a header of up to 1 MiB has zeros there; its first byte may be any, 0x80 too.
    if any(content[3:8]) and (content[:1] == b'\x80' or content[:2] == b'PK'):
        raise DataError(
            f'{path}: is a pickle or an archive, accepted is a safetensors file, which holds no '
            'code'
        )
    length = int.from_bytes(content[:8], 'little')
    if len(content) < 10 or not 2 <= length <= min(MAX_HEADER, len(content) - 8):
        raise DataError(
            f'{path}: its header would be {length} bytes long in a file of {len(content)}, '
            f'accepted are up to {MAX_HEADER} within the file'
        )
    header = parse_json(content[8 : 8 + length], f'{path}: its header')
    for name, entry in header.items() if isinstance(header, dict) else ():
        if name != '__metadata__' and (
            not isinstance(entry, dict) or entry.get('dtype') not in _DTYPES
        ):
            raise DataError(
                f'{path}: the table {name[:80]!r} has type {str(entry)[:80]}, accepted are '
                f'{", ".join(_DTYPES)}'
            )
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(content)
    except (SafetensorError, ValueError) as error:
        raise DataError(f'{path}: is no safetensors file ({str(error)[:200]})') from error
    return {
        name: np.frombuffer(entry['data'], _DTYPES[entry['dtype']]).reshape(entry['shape'])
        for name, entry in entries
    }


def parse_json(content: bytes, what: str) -> Any:
    r"""A JSON document of a bundle.

    Raises:
        DataError: If it is none.
    """
    try:
        return json.loads(content.decode('utf-8'))
    except (ValueError, RecursionError) as error:
        raise DataError(f'{what} is no JSON ({str(error)[:80]})') from error
