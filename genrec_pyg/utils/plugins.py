r"""Objects that other packages offer: by place, ``'package.module:name'``, or as entry points."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from typing import Any

from genrec_pyg.exceptions import ConfigError

#: Groups of entry points: subclasses of :class:`~genrec_pyg.nn.models.Recommender`, subclasses of
#: :class:`~genrec_pyg.datasets.base.LayoutDataset`, functions of lists and labels
#: (:mod:`genrec_pyg.evaluation.metrics`), and trackers (:mod:`genrec_pyg.runs.trackers`).
GROUPS = tuple(f'genrec_pyg.{name}' for name in ('models', 'datasets', 'metrics', 'trackers'))
_PLACE = re.compile(r'[^\W\d]\w*(\.[^\W\d]\w*)*\s*:\s*[^\W\d]\w*')


def installed(group: str) -> dict[str, str]:
    r"""Names that installed packages give in a group of entry points, with the places of their
    objects, sorted by name. Nothing is imported.

    Args:
        group: One of :data:`GROUPS`.
    """
    found = importlib.metadata.entry_points(group=group)
    return {point.name: point.value for point in sorted(found, key=lambda point: point.name)}


def is_place(text: str) -> bool:
    r"""Whether ``text`` has the form ``'package.module:name'``."""
    return _PLACE.fullmatch(text) is not None


def load_place(kind: str, place: str, name: str | None = None) -> Any:
    r"""Imports the object at ``place``.

    Args:
        kind: Flag or field that names it, for messages.
        place: ``'package.module:name'``.
        name: What the user wrote, if that is not the place.

    Raises:
        ConfigError: If it cannot be imported.
    """
    module, _, attribute = (part.strip() for part in place.partition(':'))
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f'{kind}: got {name or place!r}, which cannot be imported ({error}); accepted is '
            'package.module:Class of a package that Python finds (installed, or below a folder of '
            'PYTHONPATH)'
        ) from error
