r"""One comparison in a process of its own.

``python -m benchmarks.parity.run ADAPTER CHECKOUT MODEL`` prints its figures as a JSON line.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path

import torch


def main(adapter: str, checkout: str, model: str) -> int:
    r"""Entry point."""
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):  # for what the other side prints
        found = importlib.import_module(adapter).MODELS[model](Path(checkout))
        figures = [
            {
                'quantity': one.quantity,
                'difference': one.difference,
                'relative': one.relative,
                'agrees': one.agrees,
                'note': one.note,
            }
            for one in found
        ]
    sys.stdout.write(json.dumps(figures) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
