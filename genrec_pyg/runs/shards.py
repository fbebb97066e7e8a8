r"""Checkpoints whose tables lie in pieces, one file per process that wrote them.

The checkpoint itself names, in place of a table, the pieces and where in the table each belongs; it
is written after all pieces, so a checkpoint that exists is complete. Any number of processes reads
the pieces that it needs. Files hold tensors and plain values alone (those of
:mod:`torch.distributed.checkpoint` have their metadata in a pickle, whose reader runs code).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.distributed.tables import Block
from genrec_pyg.exceptions import CheckpointError, GenRecError
from genrec_pyg.utils.collectives import Processes
from genrec_pyg.utils.files import write_atomically

#: Entry of a checkpoint that stands for a table.
_MARK = 'table_in_pieces'


class ShardWriter:
    r"""Collects the blocks of a process and writes them.

    Args:
        folder: Folder of the checkpoints.
        tag: Name of this checkpoint's pieces, another one for every state.
        processes: The processes, all of which do the same.
    """

    def __init__(self, folder: Path, tag: str, processes: Processes):
        self.folder, self.tag, self.processes = folder, f'shards-{tag}', processes
        self._blocks: dict[str, Tensor] = {}

    def add(self, block: Block, value: Tensor) -> dict[str, Any]:
        r"""Takes the block ``value`` of a table, and returns what stands for the table in the
        checkpoint.
        """
        key = str(len(self._blocks))
        self._blocks[key] = value.detach()
        pieces = [
            [f'{self.tag}/{rank}.pt', key, rows.start, rows.stop, columns.start, columns.stop]
            for rank, (rows, columns) in enumerate(block.all_places())
        ]
        return {
            _MARK: pieces,
            'shape': list(block.shape),
            'dtype': str(value.dtype).removeprefix('torch.'),
        }

    def write(self) -> None:
        r"""Writes the own pieces and returns when those of all processes are on disk.

        Raises:
            OutputError: If this process cannot write.
            GenRecError: If another one cannot.
        """
        error: Exception | None = None
        if self._blocks:
            try:
                (self.folder / self.tag).mkdir(parents=True, exist_ok=True)
                blocks = {key: value.cpu() for key, value in self._blocks.items()}
                write_atomically(
                    self.folder / self.tag / f'{self.processes.rank}.pt',
                    lambda file: torch.save(blocks, file),
                )
            except (OSError, GenRecError) as failure:
                error = failure
        failed = int(self.processes.sum(torch.tensor(int(error is not None))))
        if error is not None:
            raise error
        if failed:
            raise GenRecError(
                f'checkpoint {self.tag}: {failed} of {self.processes.size} processes could not '
                f'write their piece, see their messages; the one before stays'
            )


class StoredTable:
    r"""A table that lies in pieces on disk.

    Args:
        folder: Folder of the checkpoints.
        entry: What :meth:`ShardWriter.add` returned.

    Attributes:
        shape: Rows and columns.

    Raises:
        CheckpointError: If the entry is not of this form, or its pieces do not cover the table.
    """

    def __init__(self, folder: Path, entry: dict[str, Any]):
        self.folder = folder
        try:
            self.shape: tuple[int, int] = (int(entry['shape'][0]), int(entry['shape'][1]))
            self.dtype: torch.dtype = getattr(torch, entry['dtype'])
            self.pieces = [
                (str(file), str(key), slice(a, b), slice(c, d))
                for file, key, a, b, c, d in entry[_MARK]
            ]
            covered = sum(
                (rows.stop - rows.start) * (columns.stop - columns.start)
                for *_, rows, columns in self.pieces
            )
            inside = all(
                '..' not in Path(file).parts and not Path(file).is_absolute()
                for file, *_ in self.pieces
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CheckpointError(
                f'{folder}: a table in pieces is described by {str(entry)[:80]}, accepted is what '
                f'a grid of processes writes'
            ) from error
        if (
            covered != self.shape[0] * self.shape[1]
            or not inside
            or not isinstance(self.dtype, torch.dtype)
        ):
            raise CheckpointError(
                f'{folder}: pieces of {covered} entries for a table of shape {self.shape}, '
                f'accepted are files in this folder that make up the table'
            )

    def read(self, rows: slice, columns: slice) -> Tensor:
        r"""Some rows and columns, from the pieces that have them.

        Raises:
            CheckpointError: If a file is missing, damaged or of another shape.
        """
        out = torch.zeros(rows.stop - rows.start, columns.stop - columns.start, dtype=self.dtype)
        for file, key, piece_rows, piece_columns in self.pieces:
            (to_rows, from_rows) = _common(rows, piece_rows)
            (to_columns, from_columns) = _common(columns, piece_columns)
            if to_rows.start >= to_rows.stop or to_columns.start >= to_columns.stop:
                continue
            piece = self._piece(file, key)
            if tuple(piece.shape) != (
                piece_rows.stop - piece_rows.start,
                piece_columns.stop - piece_columns.start,
            ):
                raise CheckpointError(
                    f'{self.folder / file}: a piece of shape {tuple(piece.shape)}, accepted is '
                    f'that of the checkpoint that names it'
                )
            out[to_rows, to_columns] = piece[from_rows, from_columns]
        return out

    def whole(self) -> Tensor:
        r"""The table."""
        return self.read(slice(0, self.shape[0]), slice(0, self.shape[1]))

    def _piece(self, file: str, key: str) -> Tensor:
        try:
            piece = torch.load(
                self.folder / file, map_location='cpu', weights_only=True, mmap=True
            )[key]
        except Exception as error:  # the reader raises whatever the damage leads it into
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f'{self.folder / file}: not a readable piece of a checkpoint ({reason})'
            ) from error
        if not torch.is_tensor(piece) or piece.dim() != 2:
            raise CheckpointError(f'{self.folder / file}: piece {key!r} is no table')
        return piece


def stored_tables(state: Any, folder: Path) -> Any:
    r"""``state`` with a :class:`StoredTable` in place of every table in pieces."""
    return _mapped(state, lambda entry: StoredTable(folder, entry))


def whole_tables(state: Any, folder: Path) -> Any:
    r"""``state`` with every table in pieces read whole."""
    return _mapped(state, lambda entry: StoredTable(folder, entry).whole())


def in_memory(state: Any) -> Any:
    r"""``state`` with every :class:`StoredTable` read whole."""
    if isinstance(state, StoredTable):
        return state.whole()
    return (
        type(state)((key, in_memory(value)) for key, value in state.items())
        if isinstance(state, dict)
        else state
    )


def remove_unused_pieces(folder: Path) -> None:
    r"""Removes the pieces in ``folder`` that no checkpoint in it names."""
    found = list(folder.glob('shards-*'))
    if not found:
        return
    used: set[str] = set()
    for path in folder.glob('*.pt'):
        state = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
        _mapped(
            state, lambda entry: used.update(piece[0].partition('/')[0] for piece in entry[_MARK])
        )
    for path in found:
        if path.name not in used:
            shutil.rmtree(path, ignore_errors=True)


def _mapped(value: Any, function: Callable[[dict[str, Any]], Any]) -> Any:
    if isinstance(value, dict):
        return (
            function(value)
            if _MARK in value
            else type(value)((key, _mapped(entry, function)) for key, entry in value.items())
        )
    return [_mapped(entry, function) for entry in value] if type(value) is list else value


def _common(wanted: slice, piece: slice) -> tuple[slice, slice]:
    r"""What two ranges have in common, counted from the begin of each."""
    begin, end = max(wanted.start, piece.start), min(wanted.stop, piece.stop)
    return slice(begin - wanted.start, end - wanted.start), slice(
        begin - piece.start, end - piece.start
    )
