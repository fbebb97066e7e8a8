from types import SimpleNamespace

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion import SparseRows
from genrec_pyg.nn.diffusion.reverse_chain import ReverseChain

ROWS = SparseRows.from_dense(torch.tensor([[1.0, 0, 1], [0, 1, 0]]))
KEYS = torch.tensor([[1.0, 0], [0, 2], [3, 1]])


class Denoiser:
    """Query of a row: its step and 1; so logits of item i are step * KEYS[i, 0] + KEYS[i, 1]."""

    def __init__(self, trainable=False):
        self.trainable, self.steps, self.states = trainable, [], []

    def keys(self, views):
        return KEYS

    def query(self, state, t, views):
        self.steps.append(t.tolist())
        self.states.append(state)
        return torch.stack([t.float(), torch.ones(t.numel())], dim=1)


class Process:
    """Four steps, each of which names itself and what it took."""

    num_steps, linear, binary = 4, False, False

    def rates(self, rows):
        return 'rates'

    def diffuse(self, rows, t, rates):
        return f'diffused {t.tolist()}'

    def reverse(self, state, estimate, step, rates):
        return step, estimate


def chain(start, **options):
    objective = SimpleNamespace(is_estimate=True)
    return ReverseChain(Denoiser(**options), Process(), objective, start)


@pytest.mark.parametrize(
    'start, steps, first',
    [
        ('diffused', [3, 2, 1, 0], 'diffused [3, 3]'),
        ('clean', [3, 2, 1, 0], ROWS),
        ('observed', [0], ROWS),
    ],
)
def test_steps_go_down_from_the_start(start, steps, first):
    process = chain(start)
    logits = process.sample(ROWS, None)
    assert process.denoiser.steps == [[step] * 2 for step in steps]
    assert process.denoiser.states[0] is first or process.denoiser.states[0] == first
    assert logits.tolist() == [[0, 2, 1]] * 2  # the last prediction is that of step 0
    for step, state in zip(steps, process.denoiser.states[1:]):
        assert state[0] == step
        assert state[1].tolist() == [[step, 2, 3 * step + 1]] * 2


def test_only_what_is_not_trained_and_not_drawn_is_constant():
    assert chain('observed').is_constant
    assert not chain('observed', trainable=True).is_constant
    assert not chain('diffused').is_constant


def test_an_unknown_start_is_refused():
    with pytest.raises(ConfigError, match='start: got middle|start: got .middle.'):
        chain('middle')
