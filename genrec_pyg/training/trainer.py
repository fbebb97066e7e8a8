r"""The training loop."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from tqdm import tqdm

from genrec_pyg.evaluation import PROTOCOLS, Evaluator, write_per_user
from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.graph import (
    TrainingGraph,
    check_held_out,
    has_split,
    held_out_digests,
    modality_names,
)
from genrec_pyg.nn.models import Recommender
from genrec_pyg.optim import MirrorGradient, check_coefficients
from genrec_pyg.runs.from_python import write_run
from genrec_pyg.runs.history import History, environment
from genrec_pyg.runs.trackers import make_tracker, start_trackers
from genrec_pyg.training.cuda_graph import RecordedStep, Recorder
from genrec_pyg.training.device import resolve_device
from genrec_pyg.training.distributed import Distributed
from genrec_pyg.training.early_stopping import EarlyStopping
from genrec_pyg.training.optimizer import batch_and_rate, with_encoder_group, with_moments
from genrec_pyg.training.seed import rng_state, seed_everything, set_rng_state
from genrec_pyg.training.session import NOT_CHOSEN, SELECTION, FitResult, Session
from genrec_pyg.training.store import State, StateStore, make_store, training_state
from genrec_pyg.utils.collectives import equal_work
from genrec_pyg.utils.files import write_json
from genrec_pyg.utils.validation import check_choice, check_range

logger = logging.getLogger(__name__)

#: Arguments of the trainer that have a flag of their own or are no setting.
NO_GROUP = {
    'epochs',
    'seed',
    'device',
    'protocol',
    'mirror_gradient',
    'output',
    'progress',
    'distributed',
}


class Trainer:
    r"""Trains a recommender on triples and keeps the epoch that is best on the validation split.

    Where the graph has no validation interaction, all epochs are trained and the last one is kept;
    where it has no test interaction, none is measured.

    Args:
        epochs: Largest number of epochs.
        batch_size: Triples per step, over all processes; ``'auto'`` makes about
            :data:`~genrec_pyg.training.optimizer.AUTO_STEPS` steps per epoch and scales the
            learning rate with the root of the batch, see
            :func:`~genrec_pyg.training.optimizer.batch_and_rate`.
        lr: Learning rate of Adam.
        weight_decay: Weight decay of Adam.
        patience: Evaluations without a better one before training stops; 0 never stops.
        max_seconds: Seconds of training and validation, over all sessions, after which no further
            epoch starts; :obj:`None` for no limit. The epoch that reaches it is still evaluated.
        eval_every: Epochs between evaluations. The last epoch is evaluated in any case.
        seed: Seed of parameters and sampling. :meth:`fit` draws the parameters again from it,
            unless they were trained, loaded or set since the model was made, see
            :meth:`~genrec_pyg.nn.models.Recommender.is_untrained`.
        device: ``'auto'`` (CUDA where there is one, else the CPU) or any torch device.
        precision: ``'float32'`` or ``'bf16'`` (autocast, of the step and of what the model does at
            the start of an epoch); evaluation is in float32.
        sampler: ``'edge'`` or ``'user'``, see :class:`~genrec_pyg.loader.InteractionLoader`.
        steps_per_epoch: Steps of an epoch. Models that learn from triples take it with
            ``batch_size='auto'``, which then makes this many batches, so that the cost of an epoch
            grows with the interactions whatever their number; models that read histories take it as
            it is (:meth:`~genrec_pyg.nn.models.Recommender.make_loader`). :obj:`None` leaves it to
            the batch.
        protocol: ``'validation'``, or ``'published'``: test evaluated after every epoch and its
            best epoch reported.
        ks: Lengths of the evaluated lists.
        monitor: Metric that chooses the epoch.
        grad_clip: Largest gradient norm or none.
        mirror_gradient: Whether :class:`~genrec_pyg.optim.MirrorGradient` wraps Adam, its batches
            counted from the start of every epoch, and the optimizers that parts of the model have
            of their own.
        mg_alpha1: Its coefficient :math:`\alpha_1`.
        mg_alpha2: Its coefficient :math:`\alpha_2`.
        mg_interval: Its interval :math:`\beta` in batches.
        cuda_graph: Whether the step is recorded as a CUDA graph in every epoch and replayed, see
            :class:`~genrec_pyg.training.cuda_graph.RecordedStep`: for small models, whose steps the
            host cannot launch as fast as the device runs them. On a GPU, in one process, without
            Mirror Gradient.
        output: Folder for checkpoints, figures and logs; :obj:`None` writes nothing.
        progress: Whether progress bars are shown.
        distributed: The processes that train together, see :func:`~genrec_pyg.training.launch`;
            :obj:`None` is this one alone. Each makes the same trainer, model and calls, the main
            one writes, and the result is that of one process.
        encoder_lr: Learning rate of a pretrained encoder that is part of the model; :obj:`None`
            takes ``lr``.
        encoder_weight_decay: Its weight decay; :obj:`None` takes ``weight_decay``.
        neighborhood: ``'full'``, steps over the whole graph, or ``'sampled'``, over sampled
            neighborhoods of the nodes of a batch, for models that can
            (:meth:`~genrec_pyg.nn.models.Recommender.sample_neighbors`): for graphs whose
            activations do not fit. Evaluation sees the whole graph.
        fan: Neighbors of a node and layer that ``'sampled'`` keeps in expectation.
        trackers: Where figures go besides the folder of the run: ``'tensorboard'``, ``'mlflow'``,
            ``'wandb'``, the entry point of an installed package or ``'package.module:Class'``; see
            :mod:`genrec_pyg.runs.trackers`.
        decoupled_weight_decay: Whether weights decay apart from the gradient, as in AdamW.

    Raises:
        ConfigError: On arguments outside their accepted values.

    Examples:
        >>> from genrec_pyg import Trainer
        >>> from genrec_pyg.nn import LightGCN
        >>> from genrec_pyg.testing import toy_graph
        >>> data = toy_graph()
        >>> trainer = Trainer(epochs=2, ks=(2,), monitor='recall@2', progress=False)
        >>> len(trainer.fit(LightGCN(data), data).history)
        2
    """

    def __init__(
        self,
        epochs: int = 50,
        batch_size: int | str = 1024,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        patience: int = 10,
        eval_every: int = 1,
        seed: int = 0,
        device: str = 'auto',
        precision: str = 'float32',
        sampler: str = 'edge',
        protocol: str = 'validation',
        ks: Sequence[int] = (10, 20),
        monitor: str = 'recall@20',
        grad_clip: float | None = None,
        mirror_gradient: bool = False,
        mg_alpha1: float = 1.0,
        mg_alpha2: float = 0.2,
        mg_interval: int = 3,
        cuda_graph: bool = False,
        max_seconds: float | None = None,
        output: str | Path | None = None,
        progress: bool = True,
        distributed: Distributed | None = None,
        steps_per_epoch: int | None = None,
        encoder_lr: float | None = None,
        encoder_weight_decay: float | None = None,
        decoupled_weight_decay: bool = False,
        trackers: Sequence[str] = ('tensorboard',),
        neighborhood: str = 'full',
        fan: int = 10,
    ):
        if isinstance(batch_size, str) and batch_size != 'auto':
            raise ConfigError(
                f"batch_size: got {batch_size!r}, accepted are 'auto' and integers from 1"
            )
        for name, value, low in (
            ('epochs', epochs, 1),
            ('batch_size', 1 if batch_size == 'auto' else batch_size, 1),
            ('eval_every', eval_every, 1),
            ('patience', patience, 0),
            ('weight_decay', weight_decay, 0),
        ):
            check_range(name, value, low)
        for name, value, low in (
            ('encoder_weight_decay', encoder_weight_decay, 0),
            ('steps_per_epoch', steps_per_epoch, 1),
        ):
            if value is not None:
                check_range(name, value, low)
        for name, value in (
            ('lr', lr),
            ('grad_clip', grad_clip),
            ('max_seconds', max_seconds),
            ('encoder_lr', encoder_lr),
        ):
            if value is not None:
                check_range(name, value, 0, open_low=True)
        check_choice('precision', precision, ('float32', 'bf16'))
        check_choice('protocol', protocol, PROTOCOLS)
        check_choice('sampler', sampler, ('edge', 'user'))
        check_choice('neighborhood', neighborhood, ('full', 'sampled'))
        check_range('fan', fan, 1)
        check_coefficients(mg_alpha1, mg_alpha2, mg_interval)
        ks = (ks,) if isinstance(ks, int) else tuple(ks)
        metric, _, k = monitor.partition('@')
        if (
            metric not in ('recall', 'ndcg', 'precision', 'map', 'hit', 'mrr')
            or not k.isdigit()
            or int(k) not in ks
        ):
            raise ConfigError(
                f'monitor: got {monitor!r}, accepted are recall, ndcg, precision, map, hit, mrr @ '
                f'one of {list(ks)}'
            )
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.encoder_lr, self.encoder_weight_decay = encoder_lr, encoder_weight_decay
        self.decoupled_weight_decay = decoupled_weight_decay
        self.trackers = [trackers] if isinstance(trackers, str) else list(trackers)
        for tracker in self.trackers:
            make_tracker(tracker)  # a wrong name is refused now
        self.patience, self.eval_every, self.seed = patience, eval_every, seed
        self.steps_per_epoch = steps_per_epoch
        self.distributed = distributed or Distributed()
        self.device = self.distributed.device(resolve_device(device))
        self.precision, self.sampler, self.protocol = precision, sampler, protocol
        self.ks = tuple(ks)
        self.monitor = monitor
        self.grad_clip = grad_clip
        self.max_seconds = max_seconds
        self.mirror_gradient = mirror_gradient
        self.mg_alpha1, self.mg_alpha2, self.mg_interval = mg_alpha1, mg_alpha2, mg_interval
        self.cuda_graph = cuda_graph
        self.neighborhood, self.fan = neighborhood, fan
        # whatever the current folder becomes
        self.output = None if output is None else Path(output).absolute()
        #: Folder ``STUDY/trials/NUMBER`` of a trial, which gives trackers their names and place;
        #: such a trainer has no output.
        self.trial: Path | None = None
        #: Asked after every evaluated epoch, with its record, whether the training should end.
        self.stop_when: Callable[[dict[str, Any]], bool] | None = None
        self.progress = progress and self.distributed.processes.is_main
        if (
            precision == 'bf16'
            and self.device.type == 'cuda'
            and not torch.cuda.is_bf16_supported()
        ):
            raise ConfigError(
                "precision: got 'bf16', which this GPU does not support; accepted here is 'float32'"
            )
        if cuda_graph and neighborhood == 'sampled':
            raise ConfigError(
                "cuda_graph: got True with neighborhood 'sampled', whose steps differ in size; "
                'accepted is False'
            )
        if cuda_graph and (
            self.device.type != 'cuda' or self.distributed.processes.size > 1 or mirror_gradient
        ):
            raise ConfigError(
                f"cuda_graph: got True on '{self.device}' with {self.distributed.processes.size} "
                f"processes and mirror_gradient={mirror_gradient}, accepted is True on 'cuda' in "
                f'one process without mirror_gradient'
            )

    def fit(
        self,
        model: Recommender,
        data: HeteroData,
        resume: bool = False,
        config: dict[str, Any] | None = None,
        moments: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> FitResult:
        r"""Trains ``model``, leaves it in its best state and in evaluation mode, and reports
        validation and test figures.

        Args:
            model: Model made from ``data``. Parameters that nobody has changed since it was made
                are drawn again from the seed; those of a trained or loaded model are where its
                training goes on.
            data: Canonical graph with splits.
            resume: Continue from ``output/checkpoints/last.pt``, with the same numbers as without
                the interruption (bit for bit on the CPU), also where ``epochs`` or ``max_seconds``
                are larger than before.
            config: Plain configuration to store in the checkpoints. Without one a training with
                ``output`` writes its own and the graph, so that every command takes the folder
                (:func:`~genrec_pyg.runs.from_python.write_run`).
            moments: Name of a parameter to the state of Adam with which it starts, see
                :func:`~genrec_pyg.runs.warm_start.take_over_moments`; others start with none. What
                resumes has its own.

        Raises:
            ConfigError: If the epoch is to be chosen on a test split without interactions.
            DataError: If ``model`` was made from another split than that of ``data``.
            GenRecError: If a loss term or a score becomes NaN or infinite.
            CheckpointError: If ``resume`` meets a checkpoint of another model or graph.
            OutputError: If a file of the run cannot be written.
        """
        if self.mirror_gradient and not model.trainable:
            raise ConfigError(
                f'mirror_gradient: got True for {type(model).__name__}, accepted are models '
                f'trained by gradient'
            )
        model.sample_neighbors(self.fan if self.neighborhood == 'sampled' else None)
        check_held_out(model.graph, data)
        evaluators = {
            split: Evaluator(
                data, split, self.ks, self.protocol, processes=self.distributed.processes
            )
            for split in ('val', 'test')
            if has_split(data, split)
        }
        monitor = self._choose_monitor(evaluators, model.trainable)
        resume = resume and model.trainable
        if (
            config is None
            and self.output is not None
            and not resume
            and self.distributed.processes.is_main
        ):
            config = write_run(self.output, model, data, self.settings())
        session, optimizer, store = self._begin(model, data, resume, monitor, moments or {})
        with self._open_history(session, model) as history:
            stopped = None

            def state() -> dict[str, Any]:
                return training_state(
                    model,
                    self.distributed,
                    optimizer,
                    **session.state_dict(),
                    rng=rng_state(),
                    config=config,
                    protocol=self.protocol,
                )

            if model.trainable:
                loader = model.make_loader(
                    self.schedule(model.graph)[0], self.sampler, self.steps_per_epoch
                )
                while (stopped := self._reason_to_stop(session)) is None:
                    # of the epoch before: now it was not the last one
                    history.append_pending(session.record)
                    begin = time.perf_counter()
                    record = {
                        'epoch': session.epoch,
                        'selection': session.selection,
                        **self.train_epoch(model, loader, optimizer, session.epoch),
                    }
                    session.epoch += 1
                    session.evaluated = session.epoch % self.eval_every == 0
                    improved = monitor is None  # then the last epoch is the one to keep
                    if monitor is not None and session.evaluated:
                        record |= self.validate(model, data, monitor)
                        improved = session.stopper.step(
                            record[monitor.split][self.monitor], record['epoch']
                        )
                    session.finish(record, time.perf_counter() - begin)
                    store.save(state, improved)
                self._finish(session, model, data, monitor, store, state)
                history.append_pending(session.record)
            elif self.output is not None:
                store.save(state, True)
            result = self._result(session, model, evaluators, monitor, history, stopped)
            history.summarize(
                {
                    'validation': result.validation,
                    'test': result.test,
                    'further': result.further,
                    'epoch_chosen': result.epoch,
                    'seconds': result.seconds,
                }
            )
        return result

    def settings(self) -> dict[str, Any]:
        r"""Plain settings in the order of a configuration file: those with a flag of their own, the
        others under ``'trainer'``.
        """
        names = [name for name in inspect.signature(type(self)).parameters if name not in NO_GROUP]
        group = {name: getattr(self, name) for name in names}
        return {
            'seed': self.seed,
            'epochs': self.epochs,
            'protocol': self.protocol,
            'mirror_gradient': self.mirror_gradient,
            'trainer': {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in group.items()
            },
        }

    def _begin(
        self,
        model: Recommender,
        data: HeteroData,
        resume: bool,
        monitor: Evaluator | None,
        moments: Mapping[str, Mapping[str, Tensor]],
    ) -> tuple[Session, torch.optim.Optimizer | None, StateStore]:
        r"""Brings model, optimizer and random state to where the training starts or goes on."""
        if not resume:
            seed_everything(self.seed)
            if model.trainable and model.is_untrained():
                model.reset_parameters()
        model.to(self.device)
        selection = NOT_CHOSEN[model.trainable] if monitor is None else SELECTION[self.protocol]
        run = self.distributed.processes.on_main(lambda: secrets.token_hex(16))
        session = Session(
            EarlyStopping(self.patience),
            selection,
            run,
            held_out=held_out_digests(data),
            modalities=modality_names(data),
        )
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        order = [names[id(parameter)] for parameter in model.trained_parameters()]
        optimizer = self.make_optimizer(model) if model.trainable else None
        store = make_store(self.output, model, self.distributed, monitor is not None)
        if resume:
            state = store.last(session.held_out)
            self.distributed.load_model_state(model, state['model'])
            self.distributed.load_optimizer_state(optimizer, state['optimizer'])
            session.load_state_dict(state)
            set_rng_state(state['rng'])
            self.distributed.synchronize()
            store.restore_due_best()
        else:
            store.discard_earlier()
            if optimizer is not None and moments:
                state = with_moments(self.distributed.optimizer_state(optimizer), order, moments)
                self.distributed.load_optimizer_state(optimizer, state)
            if model.trainable:
                begin = time.perf_counter()
                with self.distributed.whole_tables():
                    session.choice = model.choose(data)
                session.seconds += time.perf_counter() - begin
        return session, optimizer, store

    def _open_history(self, session: Session, model: Recommender) -> History:
        processes = self.distributed.processes
        done = session.epoch - (session.record is not None)
        trackers = None
        if processes.is_main and (self.output or self.trial) is not None:
            settings = {
                'model': type(model).__name__,
                **self.settings(),
                'hparams': model.arguments,
            }
            trackers = start_trackers(self.trackers, settings, done, self.output, self.trial)
        history = History(self.output if processes.is_main else None, done, trackers)
        # which the file of the run holds
        history.records = processes.on_main(lambda: history.records)
        if self.output is not None and processes.is_main:
            write_json(self.output / 'environment.json', environment())
        return history

    def _result(
        self,
        session: Session,
        model: Recommender,
        evaluators: dict[str, Evaluator],
        monitor: Evaluator | None,
        history: History,
        stopped: str | None,
    ) -> FitResult:
        r"""Evaluates model and parts on all splits and writes ``metrics.json``."""
        # scores from here on are those of the evaluation: without dropout, batch statistics those
        # of training
        model.eval()
        labels = {'val': 'validation', 'test': 'test'}

        def metrics() -> dict[str, dict[str, float]]:
            return {
                label: evaluators[split](model) if split in evaluators else {}
                for split, label in labels.items()
            }

        whole: dict[str, dict[str, float]] = {label: {} for label in labels.values()}
        further = dict(whole)
        for split, evaluator in evaluators.items():
            whole[labels[split]], further[labels[split]], users = evaluator.measure(model)
            if self.output is not None and self.distributed.processes.is_main:
                write_per_user(self.output, users)
        parts = {}
        for name, part in model.parts().items():
            with part:
                parts[name] = metrics()
        chosen = session.epoch - 1 if monitor is None else session.stopper.best_epoch
        result = FitResult(
            **whole,
            epoch=chosen,
            seconds=session.seconds,
            selection=session.selection,
            history=history.records,
            stopped=stopped,
            not_measured=[label for split, label in labels.items() if split not in evaluators],
            choice=session.choice,
            parts=parts,
            further=further,
        )
        if self.output is not None and self.distributed.processes.is_main:
            write_json(
                self.output / 'metrics.json',
                {
                    **result.to_dict(),
                    'model': type(model).__name__,
                    'seed': self.seed,
                    'protocol': self.protocol,
                    'run': session.run,
                },
            )
        return result

    def _choose_monitor(
        self, evaluators: dict[str, Evaluator], trainable: bool
    ) -> Evaluator | None:
        r"""The evaluator that chooses the epoch, or none; what cannot be measured is said before
        anything is trained.
        """
        if 'test' not in evaluators:
            if self.protocol == 'published':
                raise ConfigError(
                    "protocol: got 'published', which chooses the epoch on the test split, but "
                    "the graph has no test interaction; accepted is 'validation'"
                )
            logger.warning('the graph has no test interaction: test figures are not measured')
        if self.protocol == 'published':
            return evaluators['test']
        if 'val' not in evaluators:
            logger.warning(
                'the graph has no validation interaction: validation figures are not measured%s',
                ', all epochs are trained and the last one is kept' if trainable else '',
            )
        return evaluators.get('val')

    def _finish(
        self,
        session: Session,
        model: Recommender,
        data: HeteroData,
        monitor: Evaluator | None,
        store: StateStore,
        state: State,
    ) -> None:
        r"""Evaluates the last epoch where that is still to be done, and loads the best state.

        This evaluation, which only the end of a session asks for, decides which epoch this session
        reports, and nothing in a later one.
        """
        keeps_last = monitor is None
        if monitor is not None and not session.evaluated:
            begin = time.perf_counter()
            record = {**session.record, **self.validate(model, data, monitor)}
            session.finish(record, time.perf_counter() - begin)
            had_best = session.stopper.best_epoch >= 0
            keeps_last = session.stopper.step(
                record[monitor.split][self.monitor], session.epoch - 1
            )
            if keeps_last:
                store.save_as_best(state, had_best)
        best = None if keeps_last else store.best_model(session.run)
        self.distributed.detach()
        if best is not None:
            model.load_state_dict(best)

    def _reason_to_stop(self, session: Session) -> str | None:
        r"""Returns why the training ends after the last finished epoch, or :obj:`None` if it goes
        on.
        """
        if session.stopper.should_stop:
            return 'patience'
        if (
            self.stop_when is not None
            and session.record is not None
            and session.evaluated
            and self.stop_when(session.record)
        ):
            return 'pruned'
        # The clocks of processes differ, their number of epochs must not.
        if (
            self.max_seconds is not None
            and session.epoch > 0
            and self.distributed.processes.on_main(lambda: session.seconds >= self.max_seconds)
        ):
            return 'time'
        return 'epochs' if session.epoch >= self.epochs else None

    def validate(
        self, model: Recommender, data: HeteroData, monitor: Evaluator
    ) -> dict[str, dict[str, float]]:
        r"""Lets the model choose what depends on its parameters, then evaluates it; returns both by
        name.
        """
        with self.distributed.whole_tables():
            refined = model.refine(data)
        with self.distributed.whole_tables(), equal_work(self.distributed.processes):
            return {'refined': refined, monitor.split: monitor(model)}

    def schedule(self, graph: TrainingGraph) -> tuple[int, float]:
        r"""Batch size and learning rate on a graph, see
        :func:`~genrec_pyg.training.optimizer.batch_and_rate`.
        """
        return batch_and_rate(graph.num_edges, self.batch_size, self.lr, self.steps_per_epoch)

    def make_optimizer(self, model: Recommender) -> torch.optim.Optimizer:
        r"""Adam over the parameters of ``model`` that the trainer owns, within Mirror Gradient
        where that is on, as are the model's own optimizers; from here on processes share the model.
        """
        model.sample_neighbors(self.fan if self.neighborhood == 'sampled' else None)
        self.distributed.attach(model)
        parameters = self.distributed.optimized_parameters()
        of_encoder = {
            name: value
            for name, value in (
                ('lr', self.encoder_lr),
                ('weight_decay', self.encoder_weight_decay),
            )
            if value is not None
        }
        if of_encoder:
            sharded = self.distributed.mode == 'sharded' and self.distributed.processes.size > 1
            parameters = with_encoder_group(model, parameters, sharded, of_encoder)
        adam = torch.optim.AdamW if self.decoupled_weight_decay else torch.optim.Adam
        optimizer = adam(
            parameters,
            lr=self.schedule(model.graph)[1],
            weight_decay=self.weight_decay,
            fused=True,
        )
        model.wrap_optimizers(self._mirror if self.mirror_gradient else None)
        return self._mirror(optimizer) if self.mirror_gradient else optimizer

    def _mirror(self, optimizer: torch.optim.Optimizer) -> MirrorGradient:
        return MirrorGradient(optimizer, self.mg_alpha1, self.mg_alpha2, self.mg_interval)

    def train_epoch(
        self, model: Recommender, loader: Any, optimizer: torch.optim.Optimizer, epoch: int
    ) -> dict[str, Any]:
        r"""Trains ``model`` for one epoch and changes nothing else, so that own loops and
        benchmarks can call it.

        Args:
            model: Model, on the device of the trainer.
            loader: Its :meth:`~genrec_pyg.nn.models.Recommender.make_loader`.
            optimizer: What :meth:`make_optimizer` returned for it.
            epoch: Number of the epoch, from 0.

        Returns:
            Mean ``loss`` terms, what the model reported in ``start_epoch``, ``seconds`` and
            ``interactions_per_second``.

        Raises:
            GenRecError: If a loss term becomes NaN or infinite.
        """
        begin = time.perf_counter()
        model.train()
        if isinstance(optimizer, MirrorGradient):
            optimizer.start_epoch()
        with self._autocast(), self.distributed.whole_tables():
            figures = {name: float(value) for name, value in model.start_epoch(epoch).items()}
        self.distributed.synchronize()
        totals: dict[str, Tensor] = {}
        seen = 0
        step = functools.partial(self._step, optimizer=optimizer)
        if self.cuda_graph:  # again every epoch, since models may make their graphs again
            step = RecordedStep(step, optimizer, Recorder(self.device))
        with tqdm(
            total=loader.num_edges,
            desc=f'epoch {epoch}',
            unit=' interactions',
            leave=False,
            disable=not self.progress,
        ) as bar:
            for batch in loader:
                batch = type(batch)(*(x.to(self.device) for x in batch))
                terms = step(batch)
                size = batch.user.numel()
                for name, value in terms.items():
                    totals[name] = totals.get(name, 0) + value * size
                seen += size
                bar.update(size)
                # reading a loss waits for the device
                if self.progress and seen % (16 * size) < size:
                    bar.set_postfix(loss=f'{float(sum(terms.values())):.4f}')
        losses = {
            name: value / max(seen, 1) for name, value in self.distributed.means(totals).items()
        }
        for name, value in losses.items():
            if not math.isfinite(value):
                raise GenRecError(
                    f'loss term {name!r} became {value} in epoch {epoch}; the last good '
                    f'checkpoint stays. Lower the learning rate (lr={self.lr}) or set a gradient '
                    f'clip'
                )
        seconds = time.perf_counter() - begin
        return {
            'loss': losses,
            'start_epoch': figures,
            'seconds': seconds,
            'interactions_per_second': seen / seconds,
        }

    def _step(self, batch: Any, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}

        def closure() -> Tensor:  # optimizers that look at a batch twice call it twice
            optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                found = self.distributed.loss(batch)
                loss = sum(found.values())
            loss.backward()
            self.distributed.sum_gradients()
            # of the first time: what the batch found before its step
            for name, term in found.items():
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
