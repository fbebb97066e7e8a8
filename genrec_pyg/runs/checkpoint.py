r"""Checkpoints, written atomically and read without executing code."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from genrec_pyg.exceptions import CheckpointError
from genrec_pyg.runs.shards import whole_tables
from genrec_pyg.utils.files import write_atomically

logger = logging.getLogger(__name__)


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    r"""Saves tensors and plain Python values, atomically.

    Raises:
        OutputError: If the system refuses; the previous checkpoint survives.
    """
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(
    path: str | Path, map_location: str | torch.device = 'cpu', pieces: bool = False
) -> dict[str, Any]:
    r"""Loads a checkpoint with ``weights_only=True``.

    Args:
        path: File.
        map_location: Device of its tensors.
        pieces: Whether tables in pieces stay as they are described, for
            :func:`~genrec_pyg.runs.shards.stored_tables`, or are read and put together.

    Raises:
        CheckpointError: If the file is missing, truncated, or holds anything but tensors and plain
            values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'{path}: no such checkpoint')
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # the reader raises whatever the damage leads it into
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f'{path}: not a readable checkpoint ({reason})') from error
    if not isinstance(state, dict) or 'model' not in state:
        raise CheckpointError(f"{path}: not a checkpoint of genrec_pyg (no entry 'model')")
    return state if pieces else whole_tables(state, path.parent)


def check_identity(
    state: dict[str, Any],
    path: str | Path,
    model_name: str,
    fingerprint: str,
    run: str | None = None,
) -> None:
    r"""Refuses a checkpoint of another model, another training graph or another run.

    Args:
        state: Content of the checkpoint.
        path: Its file.
        model_name: Name of the model's class.
        fingerprint: That of the training graph.
        run: Identifier of the run; :obj:`None` accepts every one.

    Raises:
        CheckpointError: Naming what differs.
    """
    if state.get('model_name') != model_name:
        raise CheckpointError(
            f'{path}: checkpoint of model {state.get("model_name")!r}, expected {model_name!r}'
        )
    if state.get('graph') != fingerprint:
        raise CheckpointError(
            f'{path}: checkpoint of another training graph (its fingerprint is '
            f"{str(state.get('graph'))[:12]}, this graph's is {fingerprint[:12]}): other "
            f'interactions, features or links of items, or a checkpoint from before features were '
            f'compared'
        )
    if run is not None and state.get('run') != run:
        raise CheckpointError(
            f'{path}: checkpoint of another run ({str(state.get("run"))[:12]}, this one is '
            f'{run[:12]}); did two trainings write to this folder?'
        )


def warn_of_held_out(state: dict[str, Any], path: str | Path, held_out: dict[str, str]) -> None:
    r"""Warns of held-out pairs that are not those of the training: the model is the same, its
    figures are other ones.

    Args:
        state: Checkpoint.
        path: What to name in the warning.
        held_out: Digests of the held-out pairs now, see :func:`genrec_pyg.graph.held_out_digests`.
    """
    before = state.get('held_out', held_out)
    changed = [split for split in ('val', 'test') if before.get(split) != held_out.get(split)]
    if changed:
        logger.warning(
            '%s: the pairs of the %s split are not those of the training, so figures differ',
            path,
            ' and the '.join(changed),
        )
