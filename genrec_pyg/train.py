r"""Trains a model: ``python -m genrec_pyg.train --dataset NAME``; ``--help`` lists the flags."""
from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from genrec_pyg.config import Call, RunConfig, parse_train_arguments
from genrec_pyg.config.build import make_data, make_model, run_command
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.reporting.reference_models import reference_figures, result_table
from genrec_pyg.training import Distributed, FitResult, Trainer, launch, seed_everything
from genrec_pyg.utils.files import check_stdout, write_atomically, write_json, write_stdout

logger = logging.getLogger(__name__)


def train(argv: Sequence[str]) -> Optional[FitResult]:
    r"""Runs one training as the command line asks; returns its result, or nothing for ``--print_config``. Under ``torchrun``
    every process does so, and the main one writes."""
    check_stdout()
    call = parse_train_arguments(argv)
    config = call.config
    if call.print_config:
        write_stdout(config.to_yaml())
        return None
    with launch(call.distributed) as distributed:
        return _train(call, distributed)


def _train(call: Call, distributed: Distributed) -> FitResult:
    config, processes = call.config, distributed.processes
    trainer = make_trainer(config, distributed)
    folder = processes.on_main(lambda: choose_folder(call))
    with processes.one_per_machine_first():
        data = make_data(config)
    seed_everything(config.seed)
    model = make_model(config, data)
    trainer.output = folder
    can_resume = processes.on_main(lambda: call.resume is not None and (folder / 'checkpoints' / 'last.pt').exists())
    if not processes.is_main:
        return trainer.fit(model, data, resume=can_resume and model.trainable)
    settings = replace(config, output=None).to_yaml()  # fed back, it starts a run of its own
    write_atomically(folder / 'config.yaml', lambda file: file.write(settings.encode()))
    handler = logging.FileHandler(folder / 'train.log')
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
    logging.getLogger().addHandler(handler)
    try:
        logger.info('%r on %s, run folder %s', model, config.dataset, folder)
        try:
            result = trainer.fit(model, data, resume=can_resume and model.trainable, config=config.to_dict())
        except KeyboardInterrupt:
            logger.info('interrupted; continue with: python -m genrec_pyg.train --resume %s', folder)
            raise
        references = reference_figures(data, config, trainer.ks) if config.references else {}
        metrics = json.loads((folder / 'metrics.json').read_text())
        write_json(folder / 'metrics.json', {**metrics, 'dataset': config.dataset, 'reference': references})
        own = {'validation': result.validation, 'test': result.test}
        how = 'not trained by gradient'
        if model.trainable:
            how = f'epoch {result.epoch}, {result.seconds:.0f} s, {result.selection}'
        write_stdout(result_table({**references, config.model: own}, f'{config.dataset}, {how}') + '\n')
        return result
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def make_trainer(config: RunConfig, distributed: Optional[Distributed] = None) -> Trainer:
    r"""The trainer of a configuration, still without a folder."""
    return Trainer(epochs=config.epochs, seed=config.seed, device=config.device, protocol=config.protocol,
                   mirror_gradient=config.mirror_gradient, progress=sys.stderr.isatty(), distributed=distributed,
                   **config.trainer)


def choose_folder(call: Call) -> Path:
    r"""The folder of this run, not made yet.

    Raises:
        ConfigError: If a named folder already holds a run that is not to be resumed, or cannot be a folder.
    """
    config = call.config
    if config.output is None:
        base = Path('runs') / f'{config.model}-{config.dataset}-seed{config.seed}'
        folder, number = base, 2
        while folder.exists():
            folder, number = base.with_name(f'{base.name}-{number}'), number + 1
        return folder
    folder = Path(config.output)
    if call.resume is None and (folder / 'config.yaml').exists():
        raise ConfigError(f'--output: {folder} already holds a run; accepted is another folder, or --resume {folder}')
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ConfigError(f'--output: {folder} cannot be made, {existing} is a file; accepted is a folder')
    return folder


def main(argv: Optional[Sequence[str]] = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(train, argv)


if __name__ == '__main__':
    sys.exit(main())
