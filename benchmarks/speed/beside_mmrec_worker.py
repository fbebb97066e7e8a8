r"""A model of this package or of the MMRec toolbox under measurement, on one folder in MMRec's
layout.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.common.foreign import foreign_code, stand_in
from benchmarks.common.timing import PhaseClock
from benchmarks.common.worker import System, serve
from benchmarks.speed.ours import OwnSystem

SIDES = ('ours', 'mmrec')
#: What its datasets import and do not use.
PICTURES = ('ImageResize', 'ImagePad', 'image_to_tensor', 'load_decompress_img_from_lmdb_value')


class ValidatedSystem(OwnSystem):
    r"""As :class:`~benchmarks.speed.ours.OwnSystem`, of any model, evaluated on validation."""

    def __init__(self, flags: list[str]):
        from genrec_pyg.evaluation import Evaluator

        super().__init__(flags)
        self._evaluator = Evaluator(self._data, 'val', self._trainer.ks)

    def describe(self) -> dict[str, object]:
        r"""Batch size, steps of an epoch and number of parameters."""
        return {
            'batch_size': self._trainer.schedule(self._model.graph)[0],
            'steps': len(self._loader),
            'parameters': sum(parameter.numel() for parameter in self._model.parameters()),
        }


class ToolboxSystem:
    r"""A model of the toolbox in this process, whose working folder holds its ``configs`` and whose
    sources are found first.

    Args:
        model: Its name there.
        dataset: Name of the folder of data.
        settings: Settings beside its own of the model; of a list of values the first counts.
    """

    def __init__(self, model: str, dataset: str, settings: Mapping[str, Any]):
        logging.disable(logging.INFO)
        # readers of pictures, which need torchvision and are not used
        pictures = ModuleType('utils.data_utils')
        for name in PICTURES:
            setattr(pictures, name, None)
        sys.modules['utils.data_utils'] = pictures
        stand_in('sparsesvd', sparsesvd=None)  # for the global mode of PGL, which is not run
        # one of its models looks for the folder `common` inside `models`, where it is not
        for part in ('common', 'common.abstract_recommender', 'common.loss'):
            sys.modules[f'models.{part}'] = importlib.import_module(part)
        utils = importlib.import_module('utils.utils')
        loaders = importlib.import_module('utils.dataloader')
        config = importlib.import_module('utils.configurator').Config(
            model, dataset, {'use_gpu': False, **settings}
        )
        for name in config['hyper_parameters']:
            if isinstance(config[name], list):
                config[name] = config[name][0]
        data = importlib.import_module('utils.dataset').RecDataset(config)
        str(data)  # it counts its interactions where it describes itself
        training, validation, _ = data.split()
        for part in (training, validation):
            str(part)
        self._loader = loaders.TrainDataLoader(
            config, training, batch_size=config['train_batch_size'], shuffle=True
        )
        self._validation = loaders.EvalDataLoader(
            config, validation, additional_dataset=training, batch_size=config['eval_batch_size']
        )
        utils.init_seed(config['seed'])
        self._loader.pretrain_setup()
        self._model = utils.get_model(model)(config, self._loader).to(config['device'])
        self._trainer = utils.get_trainer()(config, self._model)
        self._config = config

    def run_epoch(self, epoch: int, clock: PhaseClock) -> dict[str, float]:
        r"""One epoch of its training loop, then its evaluation on validation."""
        for phase in ('denoiser', 'rebuild'):  # phases of GenRec
            clock.add(phase, 0.0, 0.0)
        clock.start('recommender')
        self._model.pre_epoch_processing()
        self._trainer._train_epoch(self._loader, epoch)
        self._trainer.lr_scheduler.step()
        self._model.post_epoch_processing()
        clock.start('evaluation')
        found = self._trainer.evaluate(self._validation)
        clock.stop()
        return {'recall@20': float(found['recall@20']), 'ndcg@20': float(found['ndcg@20'])}

    def describe(self) -> dict[str, object]:
        r"""Batch size, steps of an epoch and number of parameters."""
        return {
            'batch_size': self._config['train_batch_size'],
            'steps': len(self._loader),
            'parameters': sum(parameter.numel() for parameter in self._model.parameters()),
        }


def main() -> None:
    r"""Entry point of the child process: ``beside_mmrec_worker SIDE THREADS SETTINGS``, settings as
    JSON: ``flags`` of ours, or ``model``, ``dataset``, ``settings`` and ``source`` of theirs.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('side', choices=SIDES)
    parser.add_argument('threads', type=int)
    parser.add_argument('settings', type=json.loads)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:

        def build() -> System:
            if args.side == 'ours':
                return ValidatedSystem(args.settings['flags'])
            source = args.settings.pop('source')
            for kind in (int, float):  # names that NumPy 1.24 removed
                stack.enter_context(patch.object(np, kind.__name__, kind, create=True))
            stack.enter_context(foreign_code(Path(source)))
            return ToolboxSystem(**args.settings)

        serve(build, args.threads)


if __name__ == '__main__':
    main()
