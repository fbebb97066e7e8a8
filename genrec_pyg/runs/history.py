r"""Metrics of a run as JSON lines and TensorBoard events."""
from __future__ import annotations

import json
import logging
import os
import platform
from pathlib import Path
from typing import Any, Optional

import torch
import torch_geometric

import genrec_pyg
from genrec_pyg.exceptions import OutputError
from genrec_pyg.utils.files import write_atomically

logger = logging.getLogger(__name__)


class History:
    r"""One record per epoch, appended to ``metrics.jsonl`` and, where the package is installed, to TensorBoard.

    Args:
        folder: Folder of the run; :obj:`None` keeps records in memory only.
        epochs_done: Finished epochs of a resumed run; later records of an interrupted one are cut off.
    """

    def __init__(self, folder: Optional[Path] = None, epochs_done: int = 0):
        self.path = None if folder is None else folder / 'metrics.jsonl'
        self.records: list[dict[str, Any]] = []
        self._writer = None
        if self.path is None:
            return
        if self.path.exists():
            lines = self.path.read_text(encoding='utf-8', errors='replace').splitlines()
            self.records = [record for record in map(_parse, lines) if record and record['epoch'] < epochs_done]
            text = ''.join(json.dumps(record) + '\n' for record in self.records)
            write_atomically(self.path, lambda file: file.write(text.encode()))
        try:
            from torch.utils.tensorboard import SummaryWriter
            self._writer = SummaryWriter(str(folder / 'tensorboard'), purge_step=epochs_done)
        except ImportError:
            logger.info('TensorBoard is not installed: figures go to metrics.jsonl only')
        except Exception as error:  # packages that do not fit together fail in any way
            self._drop_writer(error)

    def append(self, record: dict[str, Any]) -> None:
        r"""Adds the record of one epoch; it must have the key ``epoch``."""
        self.records.append(record)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open('a', encoding='utf-8') as file:
                file.write(json.dumps(record) + '\n')
        except OSError as error:
            raise OutputError(f'{self.path}: cannot be written ({error.strerror})') from error
        if self._writer is not None:
            try:
                self._write_events(record)
            except Exception as error:
                self._drop_writer(error)

    def append_pending(self, record: Optional[dict[str, Any]]) -> None:
        r"""Adds and logs the record of an epoch, if there is one."""
        if record is not None:
            self.append(record)
            logger.info('epoch %d: %s', record['epoch'], record_line(record))

    def _write_events(self, record: dict[str, Any]) -> None:
        for name, value in record.items():
            values = value if isinstance(value, dict) else {'': value}
            for key, number in values.items():
                if not isinstance(number, str):  # how the epoch is chosen: the same in all records
                    self._writer.add_scalar(f'{name}/{key}' if key else name, number, record['epoch'])

    def _drop_writer(self, error: Exception) -> None:
        r"""Goes on without TensorBoard, which no training depends on."""
        self._writer = None
        reason = str(error).splitlines()[0] if str(error) else 'no message'
        logger.warning('TensorBoard does not work (%s: %s): figures go to metrics.jsonl only', type(error).__name__, reason)

    def close(self) -> None:
        r"""Flushes TensorBoard."""
        if self._writer is not None:
            try:
                self._writer.close()
            except Exception as error:
                self._drop_writer(error)


def environment() -> dict[str, Any]:
    r"""Versions and hardware of this run."""
    return {
        'genrec_pyg': genrec_pyg.__version__, 'python': platform.python_version(), 'torch': torch.__version__,
        'torch_geometric': torch_geometric.__version__, 'system': platform.system(), 'machine': platform.machine(),
        'cores': os.cpu_count(), 'threads': torch.get_num_threads(),
        'cuda': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def record_line(record: dict[str, Any]) -> str:
    r"""The figures of an epoch in one line of a log."""
    parts = [f'{name} {value:.4f}' for name, value in record['loss'].items()]
    for split in ('val', 'test'):
        parts += [f'{split} {name} {value:.4f}' for name, value in record.get(split, {}).items()
                  if name in ('recall@20', 'ndcg@20')]
    return ', '.join([*parts, f"{record['seconds']:.1f} s"])


def _parse(line: str) -> Optional[dict[str, Any]]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:  # the last line of an interrupted run may be torn
        return None
    return record if isinstance(record, dict) and isinstance(record.get('epoch'), int) else None
