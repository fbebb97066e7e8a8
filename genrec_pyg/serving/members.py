r"""Models of a bundle: one, or the members of a blend."""

from __future__ import annotations

from typing import Any, NamedTuple

from genrec_pyg.exceptions import DataError
from genrec_pyg.serving.parts import PARTS, Inner
from genrec_pyg.serving.table_reader import TableReader


class Member(NamedTuple):
    r"""A model: its weight, inner products if it has them, and other parts."""

    weight: float
    inner: Inner | None
    others: list[Any]


def read_member(entry: Any, reader: TableReader, num_users: int, num_items: int) -> Member:
    r"""The member that an entry of the manifest describes.

    Raises:
        DataError: If it describes none, or the tables do not fit.
    """
    inner, others = None, []
    parts = entry.get('parts') if isinstance(entry, dict) else None
    for spec in parts if isinstance(parts, list) else [None]:
        kind = spec.get('kind') if isinstance(spec, dict) else None
        if kind == 'inner' and inner is None:
            inner = Inner(reader, spec, num_users, num_items)
        elif kind in PARTS:
            others.append(PARTS[kind](reader, spec, num_users, num_items))
        else:
            raise DataError(
                f'manifest: a member has the part {str(kind)[:40]!r}, accepted are one '
                f"'inner' and "
                f'{", ".join(PARTS)}'
            )
    weight = entry.get('weight')
    if type(weight) not in (int, float) or not 0 < weight < 1e30:
        raise DataError(
            f'manifest: a member has weight {str(weight)[:40]!r}, accepted are positive numbers'
        )
    return Member(float(weight), inner, others)
