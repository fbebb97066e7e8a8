r"""Trains a model: ``python -m genrec_pyg.train --dataset NAME``; ``--help`` lists the flags."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from genrec_pyg.config import Call, RunConfig, parse_train_arguments
from genrec_pyg.config.build import load_run, make_data, make_model, make_trainer
from genrec_pyg.exceptions import OutputError
from genrec_pyg.graph import ITEM, USER, raw_ids
from genrec_pyg.nn.models import Recommender
from genrec_pyg.reporting.reference_models import choice_lines, reference_figures, result_table
from genrec_pyg.runs.checkpoint import load_checkpoint
from genrec_pyg.runs.folder import RunFolder
from genrec_pyg.runs.warm_start import check_unseen, take_over, take_over_moments
from genrec_pyg.training import Distributed, FitResult, Trainer, launch, seed_everything
from genrec_pyg.training.session import SELECTION
from genrec_pyg.utils.command_line import run_command
from genrec_pyg.utils.files import check_stdout, write_atomically, write_json, write_stdout

logger = logging.getLogger(__name__)


def train(argv: Sequence[str]) -> FitResult | None:
    r"""Runs one training as the command line asks; returns its result, or nothing for
    ``--print_config``. Under ``torchrun`` every process does so, and the main one writes.
    """
    check_stdout()
    call = parse_train_arguments(argv)
    config = call.config
    if call.print_config:
        write_stdout(config.to_yaml())
        return None
    with launch(
        call.distributed, call.distributed_timeout, call.grid, call.checkpoint
    ) as distributed:
        return _train(call, distributed)


def _train(call: Call, distributed: Distributed) -> FitResult:
    config, processes = call.config, distributed.processes
    trainer = make_trainer(config, distributed)
    with ExitStack() as stack:
        held: list[RunFolder] = []  # by the main process
        # torchrun counts restarts on each machine by itself.
        goes_on = call.resume is not None or bool(processes.sum(torch.tensor(int(_restarted()))))
        # before what takes long
        path = processes.on_main(lambda: _take_folder(call, goes_on, stack, held))
        with processes.one_per_machine_first():
            data = make_data(config)
        seed_everything(config.seed)
        model = make_model(config, data)
        moments = {} if call.start is None else _start_from(call.start, model, data)
        trainer.output = path.absolute()
        can_resume = processes.on_main(
            lambda: goes_on and (path / 'checkpoints' / 'last.pt').exists()
        )
        resume = can_resume and model.trainable
        if not processes.is_main:
            return trainer.fit(model, data, resume=resume, moments=moments)
        # Fed back it starts a run of its own, and it is used from other folders.
        settings = replace(config, output=None, root=os.path.abspath(config.root)).to_yaml()
        write_atomically(path / 'config.yaml', lambda file: file.write(settings.encode()))
        held[0].keep()
        stack.enter_context(_log_file(path / 'train.log'))
        logger.info(
            '%r on %s, %s, run folder %s', model, config.dataset, SELECTION[config.protocol], path
        )
        try:
            result = trainer.fit(
                model, data, resume=resume, config=config.to_dict(), moments=moments
            )
        except KeyboardInterrupt:
            logger.info(
                'interrupted; continue with: python -m genrec_pyg.train --resume %s',
                shlex.quote(str(path)),
            )
            raise
        return _report(config, data, trainer, model.trainable, result)


def _start_from(folder: str, model: Recommender, data: HeteroData) -> dict[str, Any]:
    r"""Gives ``model`` the parameters of a run; returns what its optimizer starts with."""
    before = load_run(folder, device='cpu')
    ids, before_ids = (
        (raw_ids(graph, USER), raw_ids(graph, ITEM)) for graph in (data, before.data)
    )
    check_unseen(data, ids, before.model, before_ids)
    take_over(model, ids, before.model, before_ids)
    state = load_checkpoint(Path(folder) / 'checkpoints' / 'best.pt')
    return take_over_moments(model, ids, before.model, before_ids, state.get('optimizer'))


def _take_folder(call: Call, goes_on: bool, stack: ExitStack, held: list[RunFolder]) -> Path:
    config = call.config
    taken = config.output is not None and (Path(config.output) / 'config.yaml').exists()
    if call.resume is not None or goes_on and taken:
        folder = RunFolder.open(Path(config.output))
    elif config.output is not None:
        folder = RunFolder.create(Path(config.output))
    else:
        model = config.model.rpartition(':')[2]
        # a wrong one is refused later
        dataset = os.path.normpath(config.dataset).lstrip(f'.{os.sep}')
        # what a shell would take for a pattern would have to be quoted in every later command
        name = re.sub(rf'[*?[\]{os.sep}]+', '_', f'{model}-{dataset}-seed{config.seed}')
        folder = RunFolder.create_numbered(Path('runs') / name)
    held.append(stack.enter_context(folder))
    return folder.path


def _restarted() -> bool:
    r"""Whether ``torchrun --max_restarts`` has started this process again after one had ended."""
    return os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') not in ('', '0')


def _report(
    config: RunConfig, data: HeteroData, trainer: Trainer, trained: bool, result: FitResult
) -> FitResult:
    r"""Prints the result next to the reference models and adds them to ``metrics.json``."""
    references = (
        reference_figures(data, config, trainer.ks, result.seconds) if config.references else {}
    )
    file = trainer.output / 'metrics.json'
    write_json(
        file, {**json.loads(file.read_text()), 'dataset': config.dataset, 'reference': references}
    )
    how = f'epoch {result.epoch}, {result.seconds:.0f} s' if trained else 'not trained by gradient'
    own = {'validation': result.validation, 'test': result.test}
    parts = {f'{config.model}, {name} alone': figures for name, figures in result.parts.items()}
    write_stdout(
        result_table(
            {**references, **parts, config.model: own},
            f'{config.dataset}, {how}, {result.selection}',
        )
        + '\n'
    )
    for line in choice_lines(result.choice):
        write_stdout(line + '\n')
    return result


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        r"""Goes on without the file where the disk is full, in place of a traceback for every
        record.
        """
        logging.getLogger().removeHandler(self)
        logger.warning(
            '%s: cannot be written (%s), the log ends here', self.baseFilename, sys.exc_info()[1]
        )

    def close(self) -> None:
        r"""Closes the file; what it did not take is lost, as was said."""
        with suppress(OSError):
            super().close()


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    r"""Writes the log to ``path`` as well."""
    try:
        handler = _LogFile(path, encoding='utf-8', errors='backslashreplace')
    except OSError as error:
        raise OutputError(f'{path}: cannot be written ({error.strerror})') from error
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(train, argv)


if __name__ == '__main__':
    sys.exit(main())
