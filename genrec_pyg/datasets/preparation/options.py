r"""What a preparation is asked for, and what it says about each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from genrec_pyg.datasets.io.layouts import FORMATS
from genrec_pyg.datasets.io.rows import ON_BAD_ROW
from genrec_pyg.datasets.prepare import DEFAULT_SPLIT, make_split, split_column
from genrec_pyg.exceptions import ConfigError


@dataclass(frozen=True)
class Options:
    r"""What a preparation is asked for.

    Args:
        columns: Role to column, see :func:`~genrec_pyg.datasets.from_table`.
        form: Layout of the logs in place of the recognized one.
        min_rating: Least rating that counts as an interaction.
        k_core: Least number of distinct items per user and users per item.
        split: See :func:`~genrec_pyg.datasets.prepare.make_split`; :obj:`None` takes a column of
            the log for it, else :data:`~genrec_pyg.datasets.prepare.DEFAULT_SPLIT`.
        seed: Seed of random splits.
        items: Table of items with titles.
        features: Modality to its file, see
            :func:`~genrec_pyg.datasets.io.item_features.read_features`.
        on_bad_row: Whether rows that cannot be read end the preparation (``'error'``) or are left
            out and counted (``'skip'``).
        memory: What the engine may hold, such as ``'2GB'``.

    Raises:
        ConfigError: On an argument outside its accepted values.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    form: str | None = None
    min_rating: float | None = None
    k_core: int = 0
    split: str | None = None
    seed: int = 0
    items: str | None = None
    features: Mapping[str, str] = field(default_factory=dict)
    on_bad_row: str = 'error'
    memory: str = '2GB'

    def __post_init__(self) -> None:
        if self.on_bad_row not in ON_BAD_ROW:
            raise ConfigError(
                f'on_bad_row: got {self.on_bad_row!r}, accepted are {", ".join(ON_BAD_ROW)}'
            )
        if self.form not in (None, *FORMATS):
            raise ConfigError(f'format: got {self.form!r}, accepted are {", ".join(FORMATS)}')
        if self.min_rating is not None and not math.isfinite(self.min_rating):
            raise ConfigError(f'min_rating: got {self.min_rating}, accepted are finite numbers')
        if self.k_core < 0:
            raise ConfigError(f'k_core: got {self.k_core}, accepted are integers from 0')
        if self.split is not None and split_column(self.split) is None:
            make_split(self.split, self.seed)

    def split_for(self, roles: Sequence[str]) -> str | None:
        r"""The split by name, or :obj:`None` where a column of the log has it."""
        if 'split' in roles and (self.split is None or split_column(self.split) is not None):
            return None
        return self.split or DEFAULT_SPLIT


@dataclass
class Report:
    r"""What each step read and left out.

    Args:
        steps: Name of the step to its figures, in the order of the steps.
        examples: Reason to a few rows that cannot be read.
    """

    steps: dict[str, dict[str, int]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        r"""The report as text, one step per line."""
        width = max(map(len, self.steps), default=0)
        lines = [
            f'{name:<{width}}  '
            f'{", ".join(f"{value:,} {what}" for what, value in figures.items()) or "none"}'
            for name, figures in self.steps.items()
        ]
        return lines + [
            f'for example ({reason}): {row!r}'
            for reason, rows in self.examples.items()
            for row in rows[:1]
        ]
