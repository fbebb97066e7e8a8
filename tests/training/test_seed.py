import random

import numpy as np
import torch

from genrec_pyg.training import rng_state, seed_everything, set_rng_state


def draw():
    return (
        random.random(),
        float(np.random.rand()),
        np.random.standard_normal(),
        float(torch.rand(())),
    )


def test_seeds_and_states_repeat(tmp_path):
    seed_everything(7)
    first = draw()
    seed_everything(7)
    assert draw() == first
    torch.save(rng_state(), tmp_path / 'state.pt')
    expected = draw(), draw()
    set_rng_state(torch.load(tmp_path / 'state.pt', weights_only=True))
    assert (draw(), draw()) == expected
