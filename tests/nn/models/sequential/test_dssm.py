import math

import pytest
import torch
from helpers.toy_graphs import toy_data, train_steps

from genrec_pyg.evaluation import evaluate
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import get_model
from genrec_pyg.training import Trainer


def make(**arguments):
    torch.manual_seed(0)
    return get_model('DSSM')(toy_data(0), **{'hidden_channels': 8, **arguments})


def test_loss():
    model = make(hidden_channels=1)
    with torch.no_grad():
        model.user.fill_(1)
        model.items.weight.copy_(torch.tensor([[0.0], [math.log(3)]] + [[0.0]] * 5))
    batch = Triples(torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    assert float(model.loss(batch)['bce']) == pytest.approx(1.039721, abs=1e-6)
    assert float(model.score(torch.tensor([2]))[0, 1].detach()) == pytest.approx(math.log(3))


@pytest.mark.parametrize('num_layers', [0, 2])
def test_held_out_edges_change_no_embedding_and_every_parameter_is_learned(num_layers):
    first = train_steps(make(num_layers=num_layers))
    torch.manual_seed(0)
    other = get_model('DSSM')(
        toy_data(0, held_out=torch.tensor([[7, 3, 5], [6, 0, 1]])),
        hidden_channels=8,
        num_layers=num_layers,
    )
    second = train_steps(other)
    assert all(torch.equal(a, b) for a, b in zip(first.embed(), second.embed()))
    assert all(p.grad is not None and bool(p.grad.any()) for p in first.parameters())
    assert len(list(first.parameters())) == 2 + 4 * num_layers


def test_fits_and_beats_popularity(demo_data):
    torch.manual_seed(0)
    model = get_model('DSSM')(demo_data)
    found = Trainer(
        epochs=40, lr=0.02, batch_size=512, eval_every=4, progress=False, device='cpu'
    ).fit(model, demo_data)
    popular = evaluate(get_model('Popularity')(demo_data), demo_data, 'val', (20,))['recall@20']
    assert found.validation['recall@20'] > popular + 0.1


@pytest.mark.parametrize(
    'arguments', [dict(hidden_channels=0), dict(num_layers=-1), dict(dropout=1.0)]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        make(**arguments)
