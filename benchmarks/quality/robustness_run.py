r"""One measurement of the robustness study in a process of its own.

``python -m benchmarks.quality.robustness_run JSON`` prints its result as one JSON line.

A training (``{"task": "run", ...}``) goes through the same configuration and training loop as a
user's run and ends with an evaluation on perturbed features; ``{"task": "cost", ...}`` times epochs
with and without Mirror Gradient in turn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from benchmarks.common.timing import interleaved_seconds
from genrec_pyg import transforms as T
from genrec_pyg.config import RunConfig, parse_train_arguments
from genrec_pyg.config.build import make_data, make_model
from genrec_pyg.evaluation import evaluate
from genrec_pyg.loader import InteractionLoader
from genrec_pyg.nn.models import Recommender
from genrec_pyg.optim import ascent_sharpness, largest_curvature
from genrec_pyg.train import make_trainer
from genrec_pyg.training import Trainer, seed_everything
from genrec_pyg.utils.memory import keep_freed_memory

#: Perturbations by kind; each takes a strength and ``seed``.
TRANSFORMS: dict[str, Callable[..., BaseTransform]] = {
    'noise': T.AddFeatureNoise,
    'shuffled': T.ShuffleFeatures,
    'dropped': T.DropModality,
    'training_noise': T.AddFeatureNoise,
    'interactions': T.AddNoiseInteractions,
}
METRICS = ('recall@20', 'ndcg@20')
#: Triples on which the sharpness is measured.
SHARPNESS_BATCH = 2048


class SharpnessPath:
    r"""Measures the sharpness of the training loss during a training, at the end of every
    ``every``-th epoch from the first.

    The loss is that of a fixed batch of triples in evaluation mode, and random numbers that it may
    still draw are always the same ones: a deterministic function of the parameters. The training's
    own random state does not move.

    Args:
        trainer: Trainer to watch.
        every: Epochs between measurements; 0 measures nothing.
        radius: Radius of the ascent step.
        num_iterations: Power iterations per measurement, each from the direction that the one
            before found.
    """

    def __init__(self, trainer: Trainer, every: int, radius: float, num_iterations: int):
        self.points: list[dict[str, float]] = []
        self._every, self._radius, self._num_iterations = every, radius, num_iterations
        self._batch = self._direction = None
        if every > 0:
            self._epoch, trainer.train_epoch = trainer.train_epoch, self._run_epoch

    def _run_epoch(
        self,
        model: Recommender,
        loader: InteractionLoader,
        optimizer: torch.optim.Optimizer,
        epoch: int,
    ) -> dict[str, Any]:
        record = self._epoch(model, loader, optimizer, epoch)
        if epoch % self._every == 0:
            with torch.random.fork_rng():
                self.points.append({'epoch': epoch, **self.measure(model)})
        return record

    def measure(self, model: Recommender) -> dict[str, float]:
        r"""``increase`` of the loss within the radius, ``curvature`` and the ``loss`` itself."""
        parameters = list(model.trained_parameters())
        if self._batch is None:
            torch.manual_seed(0)
            self._batch = next(iter(InteractionLoader(model.graph, SHARPNESS_BATCH)))
        was_training = model.training
        model.eval()  # the loss must be a function of the parameters alone

        def loss() -> Tensor:
            torch.manual_seed(0)
            return sum(model.loss(self._batch).values())

        increase = ascent_sharpness(loss, parameters, self._radius)
        curvature, self._direction = largest_curvature(
            loss, parameters, self._num_iterations, direction=self._direction
        )
        found = {'increase': increase, 'curvature': curvature, 'loss': loss().item()}
        model.train(was_training)
        return found


def parse(flags: Sequence[str]) -> RunConfig:
    r"""Configuration from flags of ``python -m genrec_pyg.train``, on the CPU."""
    return parse_train_arguments([*flags, '--device', 'cpu']).config


def run(
    flags: Sequence[str],
    training: tuple[str, float] | None,
    strengths: Mapping[str, Sequence[float]],
    every: int,
    radius: float,
    num_iterations: int,
) -> dict[str, Any]:
    r"""Trains once and evaluates on the test split, with the features as they were in training and
    perturbed.

    Args:
        flags: Flags of ``python -m genrec_pyg.train``.
        training: Kind and strength of what perturbs the graph before the training, if anything
            does; its seed and those of the following are that of the run.
        strengths: Kinds and strengths of what perturbs the features that the trained model meets.
        every: As the other two, of :class:`SharpnessPath`.
        radius: See there.
        num_iterations: See there.
    """
    config = parse(flags)
    data = make_data(config)
    if training is not None:
        kind, strength = training
        data = TRANSFORMS[kind](strength, seed=config.seed)(data)
    seed_everything(config.seed)
    model = make_model(config, data)
    trainer = make_trainer(config)
    path = SharpnessPath(trainer, every, radius, num_iterations)
    result = trainer.fit(model, data)
    perturbed: dict[str, dict[str, dict[str, float]]] = {}
    for kind, values in strengths.items():
        transforms = {value: TRANSFORMS[kind](value, seed=config.seed) for value in values}
        perturbed[kind] = {
            str(value): perturbed_figures(config, model, transform(data))
            for value, transform in transforms.items()
        }
    return {
        'validation': _kept(result.validation),
        'test': _kept(result.test),
        'epoch': result.epoch,
        'epochs': len(result.history),
        'seconds': result.seconds,
        'perturbed': perturbed,
        'sharpness': path.points,
    }


def perturbed_figures(config: RunConfig, model: Recommender, data: HeteroData) -> dict[str, float]:
    r"""Test figures of a trained model that meets perturbed features.

    The model is rebuilt on the perturbed graph ``data``, so that everything computed from features
    (item graphs among it) sees the perturbation, and takes the state that training left.
    """
    met = make_model(config, data)
    met.load_state_dict(model.state_dict())
    return _kept(evaluate(met, data, 'test', (20,), config.protocol))


def cost(flags: Sequence[str], repeats: int) -> dict[str, list[float]]:
    r"""Wall seconds of training epochs without (``plain``) and with Mirror Gradient (``mirrored``),
    in turn in one process.
    """
    epochs = {
        name: _epoch_of(parse([*flags, *extra]))
        for name, extra in (('plain', []), ('mirrored', ['--mirror_gradient']))
    }
    return interleaved_seconds(epochs, repeats, warmup=1)


def _epoch_of(config: RunConfig) -> Callable[[], object]:
    data = make_data(config)
    seed_everything(config.seed)
    model = make_model(config, data)
    trainer = make_trainer(config)
    optimizer = trainer.make_optimizer(model)
    loader = InteractionLoader(model.graph, trainer.schedule(model.graph)[0], trainer.sampler)
    return lambda: trainer.train_epoch(model, loader, optimizer, 0)


def _kept(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: figures[name] for name in METRICS}


def main(argument: str) -> int:
    r"""Entry point."""
    keep_freed_memory()  # as the command line does
    options = json.loads(argument)
    task = {'run': run, 'cost': cost}[options.pop('task')]
    torch.set_num_threads(options.pop('threads'))
    sys.stdout.write(json.dumps(task(**options)) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
