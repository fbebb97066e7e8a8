r"""Runs a checkout of the released GenRec-V1 for a measurement, changed only from outside and at
run time.

Nothing of it is part of this package: it is imported from a temporary copy of the checkout, by the
names of its modules and functions, within :func:`_foreign.foreign_code`. Besides, its loaders tell
a clock when they are iterated, which marks the phases of its training function.

Its dataset switch knows ``tiktok`` (three modalities) and ``baby`` and ``sports`` (two). Two
modalities run through the switch ``sports``, whose second feature file is then the second modality
asked for; ``baby`` adds a nuclear norm per step.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common.foreign import foreign_code
from benchmarks.common.machine import folder_digest
from benchmarks.common.timing import AnnouncedLoader, PhaseClock
from benchmarks.common.worker import serve

if TYPE_CHECKING:  # the process under measurement imports them itself, in its own time
    import numpy as np
    from torch import Tensor

MODULES = ('Main.py', 'Model.py', 'DataHandler.py', 'Params.py')
SWITCH = {2: 'sports', 3: 'tiktok'}
SLOTS = ('image', 'text', 'audio')


def prepare_checkout(
    checkout: Path, data: Path, modalities: Sequence[str], folder: Path
) -> list[str]:
    r"""Makes the temporary copy in ``folder`` with the dataset ``data`` linked into its layout.

    Args:
        checkout: Folder of the released implementation.
        data: Folder with ``trnMat.pkl``, ``tstMat.pkl`` and ``MODALITY_feat.npy``.
        modalities: Two or three modalities, in the order of its feature files.
        folder: Empty folder to fill.

    Returns:
        Its command line.

    Raises:
        ValueError: If a file is missing or it cannot run this number of modalities.
    """
    if len(modalities) not in SWITCH:
        raise ValueError(
            f'--modalities: got {len(modalities)}, the released implementation accepts 2 or 3'
        )
    sources = {'trnMat.pkl': data / 'trnMat.pkl', 'tstMat.pkl': data / 'tstMat.pkl'}
    sources.update(
        {f'{slot}_feat.npy': data / f'{name}_feat.npy' for slot, name in zip(SLOTS, modalities)}
    )
    missing = [path.name for path in sources.values() if not path.is_file()]
    if missing:
        raise ValueError(f'--root: the dataset {data.name} lacks {", ".join(missing)}')
    absent = [name for name in MODULES if not (checkout / name).is_file()]
    if absent:
        raise ValueError(f'--released: the checkout lacks {", ".join(absent)}')
    shutil.copytree(
        checkout,
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns('.git', 'Datasets', '__pycache__'),
    )
    switch = SWITCH[len(modalities)]
    target = folder / 'Datasets' / switch
    target.mkdir(parents=True)
    for name, source in sources.items():
        (target / name).symlink_to(source.resolve())
    return ['--data', switch]


class ReleasedSystem:
    r"""The released implementation in this process, within :func:`_foreign.foreign_code` of its
    copy, the working folder.

    Args:
        flags: Its command line.
        seed: Seed of all its generators.
    """

    def __init__(self, flags: Sequence[str], seed: int):
        self.flags = list(flags)
        self.digest = folder_digest(Path.cwd(), '*.py')
        sys.argv = ['Main.py', *flags]
        main = importlib.import_module('Main')
        main.seed_it(seed)
        handler = main.DataHandler()
        handler.LoadData()
        self._clock = PhaseClock()
        # One pass of the user rows trains the denoiser, the next one regenerates the graph, then
        # the interactions follow.
        turns = itertools.cycle(('denoiser', 'rebuild'))
        handler.diffusionLoader = AnnouncedLoader(
            handler.diffusionLoader, lambda: self._clock.start(next(turns))
        )
        handler.trnLoader = AnnouncedLoader(
            handler.trnLoader, lambda: self._clock.start('recommender')
        )
        self._handler = handler
        self._coach = main.Coach(handler)
        self._coach.prepareModel()

    def run_epoch(self, epoch: int, clock: PhaseClock) -> dict[str, float]:
        r"""One pass of its training and test functions; drawing its negatives counts as part of the
        recommender.
        """
        self._clock = clock
        clock.start('recommender')
        self._coach.trainEpoch(epoch)
        clock.start('evaluation')
        figures = self._coach.testEpoch()
        clock.stop()
        return _at_20(figures)

    def draw_negatives(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""Runs its sampling of one epoch; returns users, training items and negatives."""
        dataset = self._handler.trnLoader.dataset
        dataset.negSampling()
        return dataset.rows, dataset.cols, dataset.negs

    def rank(self, users: Tensor, items: Tensor) -> dict[str, float]:
        r"""Runs its evaluation of all test users on given embeddings instead of those of its
        model.
        """
        import torch

        # its generated graphs, which it has only after an epoch and here does not read
        for slot in SLOTS:
            self._coach.__dict__.setdefault(f'{slot}_UI_matrix', None)
        self._coach.model.forward = lambda *args: (users, items, None, None)
        try:
            with torch.no_grad():
                return _at_20(self._coach.testEpoch())
        finally:
            del self._coach.model.forward

    def measure_lists(self, user: np.ndarray, item: np.ndarray) -> dict[str, float]:
        r"""Runs its metrics on given lists ``[n, 20]`` of test users ``[n]``, in one block."""
        sums = self._coach.calcRes(item, self._handler.tstLoader.dataset.tstLocs, user)
        return {
            name: float(value) / len(user)
            for name, value in zip(('recall@20', 'ndcg@20', 'precision@20'), sums)
        }

    def describe(self) -> dict[str, object]:
        r"""Its flags, and the digest of its Python files."""
        return {'flags': ' '.join(self.flags), 'digest': self.digest}


def _at_20(figures: Mapping[str, float]) -> dict[str, float]:
    r"""Its figures by the names of this package."""
    return {f'{name.lower()}@20': float(value) for name, value in figures.items()}


def main() -> None:
    r"""Entry point of the child process: ``_released.py THREADS SEED FLAGS...``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('threads', type=int)
    parser.add_argument('seed', type=int)
    parser.add_argument('flags', nargs=argparse.REMAINDER)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:

        def build() -> ReleasedSystem:
            stack.enter_context(foreign_code(Path.cwd()))
            return ReleasedSystem(args.flags, args.seed)

        serve(build, args.threads)


if __name__ == '__main__':
    main()
