import math

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.training.optimizer import batch_and_rate, with_encoder_group, with_moments


@pytest.mark.parametrize(
    'num_edges,batch',
    [
        (0, 256),
        (14 * 300, 256),
        (14 * 256, 256),
        (14 * 363, 512),
        (14 * 2048, 2048),
        (14 * 8192 * 9, 8192),
    ],
)
def test_automatic_batches_are_powers_of_two_between_bounds(num_edges, batch):
    assert batch_and_rate(num_edges, 'auto', 0.01) == (
        batch,
        pytest.approx(0.01 * math.sqrt(batch / 2048)),
    )


def test_steps_per_epoch_decide_the_batch_and_with_it_the_rate():
    assert batch_and_rate(1001, 'auto', 0.5, steps_per_epoch=10) == (
        101,
        pytest.approx(0.5 * math.sqrt(101 / 2048)),
    )
    assert batch_and_rate(0, 'auto', 0.5, steps_per_epoch=10)[0] == 1


def test_a_given_batch_leaves_the_rate_as_it_is():
    assert batch_and_rate(10**6, 777, 0.3) == (777, 0.3)


class Encoded(torch.nn.Module):
    def __init__(self, encoded):
        super().__init__()
        self.table, self.encoder = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
        self.encoded = encoded

    def encoder_parameters(self):
        return list(self.encoder.parameters()) if self.encoded else []


def test_parameters_of_an_encoder_get_a_group_of_their_own_and_none_is_lost():
    model = Encoded(True)
    first, second = with_encoder_group(model, list(model.parameters()), False, {'lr': 1e-5})
    assert [id(x) for x in first['params']] == [id(x) for x in model.table.parameters()] and set(
        first
    ) == {'params'}
    assert [id(x) for x in second['params']] == [
        id(x) for x in model.encoder.parameters()
    ] and second['lr'] == 1e-5


@pytest.mark.parametrize(
    'encoded,sharded,accepted',
    [
        (False, False, 'accepted is a model with an encoder'),
        (True, True, 'accepted is --distributed ddp'),
    ],
)
def test_where_there_is_no_such_group_the_settings_are_refused(encoded, sharded, accepted):
    model = Encoded(encoded)
    with pytest.raises(
        ConfigError, match=f'encoder_lr, encoder_weight_decay: got 0.1, 0.2 for Encoded, {accepted}'
    ):
        with_encoder_group(
            model, list(model.parameters()), sharded, {'lr': 0.1, 'weight_decay': 0.2}
        )


def test_moments_go_to_the_places_of_their_parameters():
    state = {'state': {}, 'param_groups': [{'params': [0, 1], 'lr': 0.1}]}
    found = with_moments(state, ['a', 'b'], {'b': {'step': 3}, 'other': {'step': 4}})
    assert found == {**state, 'state': {1: {'step': 3}}}
    mirror = with_moments({'optimizer': state, 'batch': 0}, ['b'], {'b': {'step': 3}})
    assert mirror == {'optimizer': {**state, 'state': {0: {'step': 3}}}, 'batch': 0}
    groups = {'state': {}, 'param_groups': [{'params': [0]}, {'params': [1]}]}
    assert with_moments(groups, ['a', 'b'], {'b': {'step': 3}}) == groups
