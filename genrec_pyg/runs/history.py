r"""Metrics of a run as JSON lines, and to trackers."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch_geometric

import genrec_pyg
from genrec_pyg.exceptions import OutputError
from genrec_pyg.runs.trackers import Trackers, flat_figures
from genrec_pyg.utils.files import write_atomically

logger = logging.getLogger(__name__)


class History:
    r"""One record per epoch, appended to ``metrics.jsonl`` and handed to trackers. As a context
    manager it ends them, as failed where an error ends the block.

    Args:
        folder: Folder of the run; :obj:`None` keeps records in memory and with the trackers only.
        epochs_done: Finished epochs of a resumed run; later records of an interrupted one are cut
            off.
        trackers: Trackers of the run, which has begun.
    """

    def __init__(
        self, folder: Path | None = None, epochs_done: int = 0, trackers: Trackers | None = None
    ):
        self.path = None if folder is None else folder / 'metrics.jsonl'
        self.records: list[dict[str, Any]] = []
        self._trackers = Trackers({}) if trackers is None else trackers
        if self.path is not None and self.path.exists():
            lines = self.path.read_text(encoding='utf-8', errors='replace').splitlines()
            self.records = [
                record for record in map(_parse, lines) if record and record['epoch'] < epochs_done
            ]
            text = ''.join(json.dumps(record) + '\n' for record in self.records)
            write_atomically(self.path, lambda file: file.write(text.encode()))

    def append(self, record: dict[str, Any]) -> None:
        r"""Adds the record of one epoch; it must have the key ``epoch``."""
        self.records.append(record)
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open('a', encoding='utf-8') as file:
                    file.write(json.dumps(record) + '\n')
            except OSError as error:
                raise OutputError(f'{self.path}: cannot be written ({error.strerror})') from error
        self._trackers.log(flat_figures(record), record['epoch'])

    def append_pending(self, record: dict[str, Any] | None) -> None:
        r"""Adds and logs the record of an epoch, if there is one."""
        if record is not None:
            self.append(record)
            logger.info('epoch %d: %s', record['epoch'], record_line(record))

    def summarize(self, figures: Mapping[str, Any]) -> None:
        r"""Hands the figures of the finished training to the trackers."""
        self._trackers.summarize(flat_figures(figures))

    def __enter__(self) -> History:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(failed=kind is not None)

    def close(self, failed: bool = False) -> None:
        r"""Ends the trackers."""
        self._trackers.close(failed)


def environment() -> dict[str, Any]:
    r"""Versions and hardware of this run."""
    return {
        'genrec_pyg': genrec_pyg.__version__,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'torch_geometric': torch_geometric.__version__,
        'system': platform.system(),
        'machine': platform.machine(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'cuda': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def record_line(record: dict[str, Any]) -> str:
    r"""The figures of an epoch in one line of a log."""
    parts = [f'{name} {value:.4f}' for name, value in record['loss'].items()]
    for split in ('val', 'test'):
        parts += [
            f'{split} {name} {value:.4f}'
            for name, value in record.get(split, {}).items()
            if name in ('recall@20', 'ndcg@20')
        ]
    return ', '.join([*parts, f'{record["seconds"]:.1f} s'])


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:  # the last line of an interrupted run may be torn
        return None
    return record if isinstance(record, dict) and isinstance(record.get('epoch'), int) else None
