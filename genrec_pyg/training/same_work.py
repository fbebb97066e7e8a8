r"""Processes that train together train the same thing."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

import genrec_pyg
from genrec_pyg.exceptions import DataError
from genrec_pyg.nn.models import Recommender
from genrec_pyg.nn.models.recommender import parameter_digests
from genrec_pyg.utils.collectives import Processes


def check_equal(processes: Processes, fields: dict[str, Any]) -> None:
    r"""Refuses processes that would train different things.

    Args:
        processes: The processes.
        fields: Plain values by name, short ones.

    Raises:
        DataError: In all processes, naming the first process that differs from the main one, and
            the field.
    """
    if processes.size == 1:
        return
    found: list[Any] = [None] * processes.size
    dist.all_gather_object(found, fields)
    for rank, other in enumerate(found):
        for name in fields:
            if other.get(name) != found[0].get(name):
                values = (
                    f'{_short(other.get(name))} in process {rank}, {_short(found[0].get(name))} '
                    f'in process 0'
                )
                raise DataError(
                    f'{name}: got {values}; accepted is the same in all processes: the same '
                    f'files, flags and version'
                )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f'{text[:24]}...{text[-12:]}'


def model_fields(model: Recommender) -> dict[str, Any]:
    r"""What must be the same in all processes that share ``model``."""
    return {
        'version': genrec_pyg.__version__,
        'model': type(model).__name__,
        'training graph': model.graph.fingerprint(),
        'parameters': sorted(parameter_digests(model).items(), key=lambda entry: entry[0]),
    }
