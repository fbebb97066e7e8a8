r"""The training loop."""
from __future__ import annotations

import contextlib
import copy
import functools
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm import tqdm

import genrec_pyg
from genrec_pyg.evaluation import PROTOCOLS, Evaluator
from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.files import write_json
from genrec_pyg.loader import InteractionLoader
from genrec_pyg.nn.models import Recommender
from genrec_pyg.optim import MirrorGradient, check_coefficients
from genrec_pyg.training.checkpoint import check_identity, load_checkpoint, save_checkpoint
from genrec_pyg.training.cuda_graph import RecordedStep, Recorder
from genrec_pyg.training.distributed import Distributed
from genrec_pyg.training.early_stopping import EarlyStopping
from genrec_pyg.training.history import History, environment
from genrec_pyg.training.seed import rng_state, seed_everything, set_rng_state

logger = logging.getLogger(__name__)

#: Label of every result under each protocol.
SELECTION = {'validation': 'chosen on validation', 'published': 'chosen on test'}


@dataclass
class FitResult:
    r"""Result of :meth:`Trainer.fit`.

    Args:
        validation: Validation figures at the chosen epoch.
        test: Test figures at the chosen epoch.
        epoch: Chosen epoch, from 0; -1 for a model that is not trained.
        seconds: Seconds of training and validation, earlier sessions of a resumed run included.
        selection: How the epoch was chosen.
        history: Record of every epoch.
        stopped: What ended the training: ``'epochs'``, ``'patience'`` or ``'time'``; :obj:`None` for a model that is not
            trained.
    """
    validation: dict[str, float]
    test: dict[str, float]
    epoch: int
    seconds: float
    selection: str
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: Optional[str] = None


class Trainer:
    r"""Trains a recommender on triples and keeps the epoch that is best on the validation split.

    Args:
        epochs: Largest number of epochs.
        batch_size: Triples per step, over all processes.
        lr: Learning rate of Adam.
        weight_decay: Weight decay of Adam.
        patience: Evaluations without a better one before training stops; 0 never stops.
        max_seconds: Seconds of training and validation after which no further epoch starts; :obj:`None` for no limit. The
            epoch that reaches it is still evaluated.
        eval_every: Epochs between evaluations.
        seed: Seed of parameters and sampling; set before :meth:`fit` draws anything.
        device: ``'auto'`` (CUDA where there is one, else the CPU) or any torch device.
        precision: ``'float32'`` or ``'bf16'`` (autocast, of the step and of what the model does at the start of an epoch);
            evaluation is in float32.
        sampler: ``'edge'`` or ``'user'``, see :class:`~genrec_pyg.loader.InteractionLoader`.
        protocol: ``'validation'``, or ``'published'``: test evaluated after every epoch and its best epoch reported.
        ks: Lengths of the evaluated lists.
        monitor: Metric that chooses the epoch.
        grad_clip: Largest gradient norm or none.
        mirror_gradient: Whether :class:`~genrec_pyg.optim.MirrorGradient` wraps Adam, its batches counted from the start of
            every epoch, and the optimisers that parts of the model have of their own.
        mg_alpha1: Its coefficient :math:`\alpha_1`.
        mg_alpha2: Its coefficient :math:`\alpha_2`.
        mg_interval: Its interval :math:`\beta` in batches.
        cuda_graph: Whether the step is recorded as a CUDA graph in every epoch and replayed, see
            :class:`~genrec_pyg.training.cuda_graph.RecordedStep`: for small models, whose steps the host cannot launch as fast
            as the device runs them. On a GPU, in one process, without Mirror Gradient.
        output: Folder for checkpoints, figures and logs; :obj:`None` writes nothing.
        progress: Whether progress bars are shown.
        distributed: The processes that train together, see :func:`~genrec_pyg.training.launch`; :obj:`None` is this one
            alone. Each makes the same trainer, model and calls, the main one writes, and the result is that of one process.

    Raises:
        ConfigError: On arguments outside their accepted values.
    """

    def __init__(self, epochs: int = 50, batch_size: int = 1024, lr: float = 1e-3, weight_decay: float = 0.0,
                 patience: int = 10, eval_every: int = 1, seed: int = 0, device: str = 'auto', precision: str = 'float32',
                 sampler: str = 'edge', protocol: str = 'validation', ks: Sequence[int] = (10, 20),
                 monitor: str = 'recall@20', grad_clip: Optional[float] = None, mirror_gradient: bool = False,
                 mg_alpha1: float = 1.0, mg_alpha2: float = 0.2, mg_interval: int = 3, cuda_graph: bool = False,
                 max_seconds: Optional[float] = None, output: Optional[Union[str, Path]] = None, progress: bool = True,
                 distributed: Optional[Distributed] = None):
        for name, value, low in (('epochs', epochs, 1), ('batch_size', batch_size, 1), ('eval_every', eval_every, 1),
                                 ('patience', patience, 0), ('weight_decay', weight_decay, 0)):
            if not value >= low:
                raise ConfigError(f'{name}: got {value}, accepted are numbers from {low}')
        if not lr > 0 or not all(value is None or value > 0 for value in (grad_clip, max_seconds)):
            raise ConfigError(f'lr, grad_clip, max_seconds: got {lr}, {grad_clip}, {max_seconds}, accepted are positive '
                              'numbers')
        for name, value, accepted in (('precision', precision, ('float32', 'bf16')), ('protocol', protocol, PROTOCOLS),
                                      ('sampler', sampler, ('edge', 'user'))):
            if value not in accepted:
                raise ConfigError(f"{name}: got {value!r}, accepted are {', '.join(map(repr, accepted))}")
        check_coefficients(mg_alpha1, mg_alpha2, mg_interval)
        metric, _, k = monitor.partition('@')
        if metric not in ('recall', 'ndcg', 'precision', 'map', 'hit', 'mrr') or not k.isdigit() or int(k) not in ks:
            raise ConfigError(f'monitor: got {monitor!r}, accepted are recall, ndcg, precision, map, hit, mrr @ one of '
                              f'{list(ks)}')
        self.epochs, self.batch_size, self.lr, self.weight_decay = epochs, batch_size, lr, weight_decay
        self.patience, self.eval_every, self.seed = patience, eval_every, seed
        self.distributed = distributed or Distributed()
        self.device = self.distributed.device(resolve_device(device))
        self.precision, self.sampler, self.protocol = precision, sampler, protocol
        self.ks, self.monitor, self.grad_clip, self.max_seconds = tuple(ks), monitor, grad_clip, max_seconds
        self.mirror_gradient = mirror_gradient
        self.mg_alpha1, self.mg_alpha2, self.mg_interval = mg_alpha1, mg_alpha2, mg_interval
        self.cuda_graph = cuda_graph
        self.output = None if output is None else Path(output)
        self.progress = progress and self.distributed.processes.is_main
        if precision == 'bf16' and self.device.type == 'cuda' and not torch.cuda.is_bf16_supported():
            raise ConfigError("precision: got 'bf16', which this GPU does not support; accepted here is 'float32'")
        if cuda_graph and (self.device.type != 'cuda' or self.distributed.processes.size > 1 or mirror_gradient):
            raise ConfigError(f"cuda_graph: got True on '{self.device}' with {self.distributed.processes.size} processes and "
                              f"mirror_gradient={mirror_gradient}, accepted is True on 'cuda' in one process without "
                              'mirror_gradient')

    def fit(self, model: Recommender, data: HeteroData, resume: bool = False,
            config: Optional[dict[str, Any]] = None) -> FitResult:
        r"""Trains ``model``, leaves it in its best state and reports validation and test figures.

        Args:
            model: Model made from ``data``.
            data: Canonical graph with splits.
            resume: Continue from ``output/checkpoints/last.pt``, with the same numbers as without the interruption (bit for
                bit on the CPU).
            config: Plain configuration to store in the checkpoints.

        Raises:
            GenRecError: If a loss term becomes NaN or infinite.
            CheckpointError: If ``resume`` meets a checkpoint of another model or graph.
            OutputError: If a file of the run cannot be written.
        """
        if self.mirror_gradient and not model.trainable:
            raise ConfigError(f'mirror_gradient: got True for {type(model).__name__}, accepted are models trained by gradient')
        model.to(self.device)
        published = self.protocol == 'published'
        monitor = self._evaluator(data, 'test' if published else 'val')
        stopper = EarlyStopping(self.patience)
        start, seconds, best_state, stopped = 0, 0.0, None, None
        optimizer = None
        distributed, is_main = self.distributed, self.distributed.processes.is_main
        if model.trainable:
            optimizer = self.make_optimizer(model)
        if resume:
            state = self._load(model, 'last')
            distributed.load_model_state(model, state['model'])
            distributed.load_optimizer_state(optimizer, state['optimizer'])
            stopper.load_state_dict(state['stopper'])
            start, seconds = state['epoch'] + 1, state['seconds']
            set_rng_state(state['rng'])
            distributed.synchronize()
        else:
            seed_everything(self.seed)
        history = History(self.output if is_main else None, start)
        if self.output is not None and is_main:
            write_json(self.output / 'environment.json', environment())
        begin = time.perf_counter() - seconds
        if model.trainable:
            loader = InteractionLoader(model.graph, batch_size=self.batch_size, sampler=self.sampler)
            out_of_time = start > 0 and self._out_of_time(begin)  # of a resumed run
            for epoch in range(start, self.epochs):
                if stopper.should_stop or out_of_time:
                    break
                record = {'epoch': epoch, **self._epoch(model, loader, optimizer, epoch)}
                improved = False
                out_of_time = self._out_of_time(begin)
                if (epoch + 1) % self.eval_every == 0 or epoch + 1 == self.epochs or out_of_time:
                    with distributed.whole_tables():
                        record[monitor.split] = monitor(model)
                    improved = stopper.step(record[monitor.split][self.monitor], epoch)
                record['total_seconds'] = time.perf_counter() - begin
                if self.output is None:
                    best_state = copy.deepcopy(distributed.model_state(model)) if improved else best_state
                else:
                    self._save(model, optimizer, stopper, epoch, record['total_seconds'], config, improved)
                history.append(record)
                logger.info('epoch %d: %s', epoch, _line(record))
            seconds = time.perf_counter() - begin
            stopped = 'patience' if stopper.should_stop else 'time' if out_of_time else 'epochs'
            distributed.detach()
            model.load_state_dict(best_state if best_state is not None else self._load(model, 'best')['model'])
        elif self.output is not None:
            self._save(model, None, stopper, -1, 0.0, config, True)
        validation = self._evaluate_if_present(model, data, 'val')
        result = FitResult(validation, self._evaluator(data, 'test')(model), stopper.best_epoch, seconds,
                           SELECTION[self.protocol], history.records, stopped)
        history.close()
        if self.output is not None and is_main:
            write_json(self.output / 'metrics.json', {
                'validation': result.validation, 'test': result.test, 'epoch': result.epoch, 'seconds': result.seconds,
                'stopped': result.stopped, 'model': type(model).__name__, 'seed': self.seed, 'protocol': self.protocol,
                'selection': result.selection})
        return result

    def make_optimizer(self, model: Recommender) -> torch.optim.Optimizer:
        r"""Adam over the parameters of ``model`` that the trainer owns, within Mirror Gradient where that is on, as are the
        model's own optimisers; from here on processes share the model."""
        self.distributed.attach(model)
        parameters = self.distributed.optimized_parameters()
        optimizer = torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)
        model.wrap_optimizers(self._mirror if self.mirror_gradient else None)
        return self._mirror(optimizer) if self.mirror_gradient else optimizer

    def _mirror(self, optimizer: torch.optim.Optimizer) -> MirrorGradient:
        return MirrorGradient(optimizer, self.mg_alpha1, self.mg_alpha2, self.mg_interval)

    def _epoch(self, model: Recommender, loader: InteractionLoader, optimizer: torch.optim.Optimizer,
               epoch: int) -> dict[str, Any]:
        begin = time.perf_counter()
        model.train()
        if isinstance(optimizer, MirrorGradient):
            optimizer.start_epoch()
        with self._autocast():
            figures = model.start_epoch(epoch)
        self.distributed.synchronize()
        totals: dict[str, Tensor] = {}
        seen = 0
        step = functools.partial(self._step, optimizer=optimizer)
        if self.cuda_graph:  # anew every epoch, since models may make their graphs anew
            step = RecordedStep(step, optimizer, Recorder(self.device))
        with tqdm(total=loader.num_edges, desc=f'epoch {epoch}', unit=' interactions', leave=False,
                  disable=not self.progress) as bar:
            for batch in loader:
                batch = type(batch)(*(x.to(self.device) for x in batch))
                terms = step(batch)
                size = batch.user.numel()
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value * size
                seen += size
                bar.update(size)
                if self.progress and seen % (16 * size) < size:  # reading a loss waits for the device
                    bar.set_postfix(loss=f'{float(sum(terms.values())):.4f}')
        losses = {name: value / max(seen, 1) for name, value in self.distributed.means(totals).items()}
        for name, value in losses.items():
            if not math.isfinite(value):
                raise GenRecError(f'loss term {name!r} became {value} in epoch {epoch}; the last good checkpoint stays. Lower '
                                  f'the learning rate (lr={self.lr}) or set a gradient clip')
        seconds = time.perf_counter() - begin
        return {'loss': losses, 'start_epoch': figures, 'seconds': seconds, 'interactions_per_second': seen / seconds}

    def _out_of_time(self, begin: float) -> bool:
        if self.max_seconds is None:
            return False
        # The clocks of processes differ, their number of epochs must not.
        return self.distributed.processes.on_main(lambda: time.perf_counter() - begin >= self.max_seconds)

    def _step(self, batch: Any, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}

        def closure() -> Tensor:  # optimisers that look at a batch twice call it twice
            optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                found = self.distributed.loss(batch)
                loss = sum(found.values())
            loss.backward()
            for name, term in found.items():  # of the first time: what the batch found before its step
                terms.setdefault(name, term.detach())
            if self.grad_clip is not None:
                self.distributed.clip_gradients(self.grad_clip)
            return loss

        optimizer.step(closure)
        return terms

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.precision == 'float32':
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _evaluate_if_present(self, model: Recommender, data: HeteroData, split: str) -> dict[str, float]:
        mask = data['user', 'interacts', 'item'].get(f'{split}_mask')
        return {} if mask is None or not bool(mask.any()) else self._evaluator(data, split)(model)

    def _evaluator(self, data: HeteroData, split: str) -> Evaluator:
        return Evaluator(data, split, self.ks, self.protocol, processes=self.distributed.processes)

    def _save(self, model: Recommender, optimizer: Optional[torch.optim.Optimizer], stopper: EarlyStopping, epoch: int,
              seconds: float, config: Optional[dict[str, Any]], improved: bool) -> None:
        distributed = self.distributed
        state = {'model': distributed.model_state(model), 'model_name': type(model).__name__,
                 'graph': model.graph.fingerprint(),
                 'optimizer': None if optimizer is None else distributed.optimizer_state(optimizer),
                 'stopper': stopper.state_dict(), 'epoch': epoch, 'seconds': seconds, 'rng': rng_state(), 'config': config,
                 'version': genrec_pyg.__version__}
        if not distributed.processes.is_main:  # it took part in gathering the state
            return
        if improved:  # first, so that whoever reads last.pt finds the best state that it names
            save_checkpoint(self.output / 'checkpoints' / 'best.pt', state)
        save_checkpoint(self.output / 'checkpoints' / 'last.pt', state)

    def _load(self, model: Recommender, name: str) -> dict[str, Any]:
        if self.output is None:
            raise ConfigError('resume: got True without an output folder, accepted is the folder of the interrupted run')
        path = self.output / 'checkpoints' / f'{name}.pt'
        state = self.distributed.processes.on_main(lambda: load_checkpoint(path))
        check_identity(state, path, type(model).__name__, model.graph.fingerprint())
        return state


def resolve_device(name: str) -> torch.device:
    r"""The torch device called ``name``; ``'auto'`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: If there is no such device here.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: got {name!r}, which is not available ({reason}); accepted are 'auto', 'cpu', "
                          "'cuda'") from error
    return device


def _line(record: dict[str, Any]) -> str:
    parts = [f'{name} {value:.4f}' for name, value in record['loss'].items()]
    for split in ('val', 'test'):
        parts += [f'{split} {name} {value:.4f}' for name, value in record.get(split, {}).items()
                  if name in ('recall@20', 'ndcg@20')]
    return ', '.join([*parts, f"{record['seconds']:.1f} s"])
