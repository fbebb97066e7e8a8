r"""Runs GenRec of this package for a measurement, through the same configuration and training loop
as a user's run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.common.timing import AnnouncedLoader, PhaseClock
from benchmarks.common.worker import serve

#: Name of a system to what it sets. ``whole chain``: all reverse steps from diffused rows, as in
#: the released implementation, instead of one prediction from the observed rows, our default.
#: ``released``: our model with ``variant="released"``, which computes what the released
#: implementation computes.
SYSTEMS: dict[str, dict[str, str]] = {
    'default': {},
    'linear': {'hparams.denoiser.name': 'linear'},
    'transformer': {'hparams.denoiser.name': 'transformer'},
    'transformer, bf16': {'hparams.denoiser.name': 'transformer', 'trainer.precision': 'bf16'},
    'transformer, whole chain': {
        'hparams.denoiser.name': 'transformer',
        'hparams.diffusion.start': 'diffused',
    },
    'tied': {'hparams.denoiser.name': 'tied', 'hparams.denoiser.num_layers': '2'},
    'tied, whole chain': {
        'hparams.denoiser.name': 'tied',
        'hparams.denoiser.num_layers': '2',
        'hparams.diffusion.start': 'diffused',
    },
    'released': {'hparams.variant': 'released'},
}


class OwnSystem:
    r"""Model, data and trainer of a configuration in this process.

    Args:
        flags: Flags of ``python -m genrec_pyg.train``.
    """

    def __init__(self, flags: Sequence[str]):
        from genrec_pyg.config import parse_train_arguments
        from genrec_pyg.config.build import make_data, make_model
        from genrec_pyg.evaluation import Evaluator
        from genrec_pyg.loader import InteractionLoader
        from genrec_pyg.train import make_trainer
        from genrec_pyg.training import seed_everything
        from genrec_pyg.utils.memory import keep_freed_memory

        keep_freed_memory()  # as the command line does
        self.config = parse_train_arguments([*flags, '--device', 'cpu']).config
        data = make_data(self.config)
        seed_everything(self.config.seed)
        self._model = make_model(self.config, data)
        self._trainer = make_trainer(self.config)
        self._optimizer = self._trainer.make_optimizer(self._model)
        loader = InteractionLoader(
            self._model.graph,
            batch_size=self._trainer.schedule(self._model.graph)[0],
            sampler=self._trainer.sampler,
        )
        self._loader = AnnouncedLoader(loader, lambda: self._clock.start('recommender'))
        self._evaluator = Evaluator(data, 'test', self._trainer.ks)
        seed_everything(self.config.seed)  # as the training loop does before its first epoch
        self._data = data
        self._model.choose(data)  # once per training: no part of an epoch
        self._clock = PhaseClock()
        generator = getattr(self._model, 'generator', None)  # of GenRec
        if generator is not None:
            generator.fit = self._announce('denoiser', generator.fit)
            generator.generate = self._announce('rebuild', generator.generate)

    def run_epoch(self, epoch: int, clock: PhaseClock) -> dict[str, float]:
        r"""One epoch of the training loop, then the evaluation of all test users."""
        self._clock = clock
        for phase in ('denoiser', 'rebuild'):  # a model may have neither
            clock.add(phase, 0.0, 0.0)
        # What precedes the generator, such as encoding the items for it, counts as part of the
        # recommender.
        clock.start('recommender')
        self._trainer.train_epoch(self._model, self._loader, self._optimizer, epoch)
        clock.start('evaluation')
        self._model.refine(self._data)
        figures = self._evaluator(self._model)
        clock.stop()
        return {name: figures[name] for name in ('recall@20', 'ndcg@20', 'num_users')}

    def describe(self) -> dict[str, object]:
        r"""The settings that decide the amount of work, and the number of parameters."""
        from genrec_pyg.config import flatten

        settings, trainer = flatten(self.config.to_dict()), self._trainer
        parameters = sum(parameter.numel() for parameter in self._model.parameters())
        return {
            **{
                label: settings[f'hparams.{name}']
                for label, name in (
                    ('variant', 'variant'),
                    ('denoiser', 'denoiser.name'),
                    ('start', 'diffusion.start'),
                    ('denoiser_layers', 'denoiser.num_layers'),
                    ('num_steps', 'diffusion.num_steps'),
                )
            },
            'batch_size': trainer.schedule(self._model.graph)[0],
            'precision': trainer.precision,
            'parameters': parameters,
        }

    def _announce(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self._clock.start(phase)
            result = function(*args)
            self._clock.start('recommender')
            return result

        return run


def main() -> None:
    r"""Entry point of the child process: ``_ours.py THREADS FLAGS...``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('threads', type=int)
    parser.add_argument('flags', nargs=argparse.REMAINDER)
    args = parser.parse_args(sys.argv[1:])
    serve(lambda: OwnSystem(args.flags), args.threads)


if __name__ == '__main__':
    main()
