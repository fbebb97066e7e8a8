import importlib
import json
import sys

import pytest
import torch
import torch.nn.functional as F

from benchmarks.parity import agreement, comparison
from benchmarks.parity.comparison import (
    Agreement,
    copy_weights,
    fixed_dropout,
    layer_tables,
    loss_agreements,
    pair_agreements,
    randomize,
    toy_batch,
    toy_graph,
)
from genrec_pyg.graph import split_edges, training_graph
from genrec_pyg.nn.bootstrap import Predictor
from genrec_pyg.nn.modality import encoder
from genrec_pyg.nn.models import Recommender, get_model

# A stand-in toolbox, whose program prints, wants a GPU and has one wrong model, and its adapter.
TOOLBOX = """
import torch


class Factors(torch.nn.Module):
    def __init__(self, num_users, num_items, factor):
        super().__init__()
        print('progress')
        self.user = torch.nn.Parameter(torch.ones(num_users, 4))
        self.item = torch.nn.Parameter(torch.ones(num_items, 4))
        self.factor = factor

    def forward(self, user, positive, negative):
        gap = self.factor * (self.user[user].cuda() * (self.item[positive] - self.item[negative])).sum(dim=1)
        return -torch.nn.functional.logsigmoid(gap).mean()
"""  # noqa: E501
ADAPTER = """
import importlib

from benchmarks.parity.comparison import (
    copy_weights, foreign_code, loss_agreements, pair_agreements, randomize, toy_batch, toy_graph,
)
from genrec_pyg.nn.bootstrap import Predictor
from genrec_pyg.nn.modality import encoder

from genrec_pyg.graph import training_graph
from genrec_pyg.nn.models import get_model

REPOSITORY = 'nobody/stand-in (public domain)'


def compare(checkout, factor):
    graph = training_graph(toy_graph(), [])
    ours = get_model('MFBPR')(graph, hidden_channels=4, l2=0.0)
    with foreign_code(checkout):
        theirs = importlib.import_module('stand_in_toolbox').Factors(graph.num_users, graph.num_items, factor).cuda()
        tables = {'user table': (theirs.user, ours.embedding.user), 'item table': (theirs.item, ours.embedding.item)}
        randomize(theirs.parameters())
        copy_weights(tables)
        batch = toy_batch(graph)
        return [*pair_agreements((theirs.user, theirs.item), ours.embed()),
                *loss_agreements(theirs(*batch), sum(ours.loss(batch).values()), tables, 'no penalty')]


def missing(checkout):
    with foreign_code(checkout):
        importlib.import_module('no_such_module')


MODELS = {'Right': lambda checkout: compare(checkout, 1), 'Wrong': lambda checkout: compare(checkout, 1.5), 'Missing': missing}
"""  # noqa: E501


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    folder = tmp_path / 'checkout'
    folder.mkdir()
    (folder / 'stand_in_toolbox.py').write_text(TOOLBOX)
    adapters = tmp_path / 'adapters'
    adapters.mkdir()
    (adapters / 'adapter_of_a_stand_in.py').write_text(ADAPTER)
    monkeypatch.syspath_prepend(adapters)
    monkeypatch.setenv('PYTHONPATH', str(adapters), prepend=':')
    monkeypatch.setitem(agreement.TOOLBOXES, 'stand_in', 'adapter_of_a_stand_in')
    return folder


@pytest.fixture
def call(checkout, tmp_path):
    def call(*flags):
        output = str(tmp_path / 'out')
        return agreement.main(
            ['--toolbox', 'stand_in', '--checkout', str(checkout), '--output', output, *flags]
        )

    return call


def test_what_agrees_is_reported(call, checkout, tmp_path):
    before = {path: path.read_bytes() for path in checkout.rglob('*.py')}
    assert call('--models', 'Right') == 0
    document = json.loads((tmp_path / 'out' / 'agreement-stand_in.json').read_text())
    assert document['repository'] == 'nobody/stand-in (public domain)' and document['failed'] == []
    figures = document['models']['Right']
    assert [figure['quantity'] for figure in figures] == [
        'user embeddings',
        'item embeddings',
        'loss',
        'gradient of the loss: user table',
        'gradient of the loss: item table',
    ]
    assert all(figure['agrees'] and figure['relative'] <= 1e-5 for figure in figures)
    assert figures[2]['note'] == 'no penalty'
    markdown = (tmp_path / 'out' / 'agreement-stand_in.md').read_text()
    assert (
        '| Right | item embeddings | 0.0e+00 | 0.0e+00 |  |' in markdown
        and 'Everything compared agrees.' in markdown
    )
    assert str(tmp_path) not in markdown
    assert {path: path.read_bytes() for path in checkout.rglob('*.py')} == before


def test_what_disagrees_or_fails_is_named(call, tmp_path, caplog):
    caplog.set_level('INFO')
    assert call('--models', 'Missing', 'Wrong', '--name', 'both') == 1
    document = json.loads((tmp_path / 'out' / 'both.json').read_text())
    assert list(document['models']) == ['Wrong']
    wrong = [figure['quantity'] for figure in document['models']['Wrong'] if not figure['agrees']]
    assert wrong == ['loss', 'gradient of the loss: user table', 'gradient of the loss: item table']
    assert document['failed'] == [
        "Missing could not be compared: ModuleNotFoundError: No module named 'no_such_module'"
    ]
    for text in ((tmp_path / 'out' / 'both.md').read_text(), caplog.text):
        assert '* Wrong, loss: differs by ' in text and '* Wrong, user embeddings' not in text
        assert f'* {document["failed"][0]}' in text and 'Everything compared agrees.' not in text


def test_usage_errors(call, tmp_path, capsys):
    for flags, message in (
        (
            ['--models', 'Right', 'Nothing'],
            '--models: got Nothing, accepted for stand_in are Right, Wrong, Missing',
        ),
        (['--checkout', str(tmp_path / 'absent')], 'absent is not a folder'),
        (['--toolbox', 'other'], "invalid choice: 'other'"),
    ):
        with pytest.raises(SystemExit) as error:
            call(*flags)
        assert error.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_every_adapter_names_its_repository_and_our_models():
    for module in agreement.TOOLBOXES.values():
        adapter = importlib.import_module(module)
        assert '/' in adapter.REPOSITORY
        assert all(
            issubclass(get_model(name.partition(',')[0]), Recommender) for name in adapter.MODELS
        )


def test_differences():
    theirs, ours = torch.tensor([1.0, -4.0]), torch.tensor([1.5, -4.0])
    found = Agreement('x', theirs, ours)
    assert (found.difference, found.relative, found.agrees) == (0.5, 0.125, False)
    assert (
        Agreement('x', theirs, theirs * (1 + 5e-6)).agrees
        and not Agreement('x', theirs, theirs * (1 + 2e-5)).agrees
    )
    precise = theirs.double()
    assert not Agreement('x', precise, precise * (1 + 5e-6)).agrees
    zero = Agreement('x', torch.zeros(2), torch.zeros(2))
    assert zero.relative == 0 and zero.agrees
    assert not Agreement('x', theirs, torch.tensor([torch.nan, -4.0])).agrees
    with pytest.raises(ValueError, match=r'x: theirs has shape \(2,\), ours \(1,\)'):
        _ = Agreement('x', theirs, ours[:1]).relative


def test_gradients_of_both_sides():
    theirs, ours = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    tables = {'t': (theirs, ours), 'n': tuple(torch.ones(1, requires_grad=True) for _ in range(2))}
    loss, table, other = loss_agreements((theirs**2).sum().view(1), 3 * ours.sum(), tables, 'why')
    assert (loss.theirs, loss.ours, loss.note) == (5, 9, 'why')
    assert table.quantity == 'gradient of the loss: t'
    assert table.theirs.tolist() == [2, 4] and table.ours.tolist() == [3, 3]
    assert other.theirs.tolist() == other.ours.tolist() == [0]
    assert [one.quantity for one in loss_agreements(theirs.sum(), ours.sum(), {}, name='term')] == [
        'term'
    ]


def test_weights():
    layers = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    tables = layer_tables(
        {'a': layers, 'b': (torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))}
    )
    assert list(tables) == ['a weight', 'a bias', 'b weight']
    randomize(theirs for theirs, _ in tables.values())
    copy_weights(tables)
    assert all(torch.equal(*pair) for pair in tables.values()) and layers[0].bias.abs().min() > 0
    with pytest.raises(ValueError, match=r't: theirs has shape \(2,\), ours \(3,\)'):
        copy_weights({'t': (torch.zeros(2), torch.zeros(3))})
    users, items = pair_agreements((torch.zeros(2), torch.ones(3)), (torch.ones(2), torch.ones(3)))
    assert (users.quantity, users.difference, items.difference) == ('user embeddings', 1, 0)


def test_both_sides_see_the_same_toy_graph():
    data = toy_graph(('image', 'text', 'audio'))
    graph = training_graph(data)
    assert (graph.num_users, graph.num_items, graph.num_edges) == (30, 20, 120)
    assert [split_edges(data, split).size(1) for split in ('train', 'val', 'test')] == [120, 15, 15]
    for degree in (graph.user_degree(), graph.item_degree()):
        assert degree.min() == 1 and degree[-3:].tolist() == [1, 1, 1]
    again = training_graph(toy_graph(('image', 'text', 'audio')))
    assert torch.equal(graph.edge_index, again.edge_index)
    assert [tuple(modality.x.shape) for modality in graph.modalities.values()] == [
        (20, 5),
        (20, 7),
        (20, 9),
    ]
    assert all(
        torch.equal(modality.x, again.modalities[name].x)
        for name, modality in graph.modalities.items()
    )


def test_the_batch_has_held_and_unheld_items():
    graph = training_graph(toy_graph())
    batch = toy_batch(graph)
    held = set(zip(*graph.edge_index.tolist()))
    assert set(zip(batch.user.tolist(), batch.pos.tolist())) <= held
    assert not set(zip(batch.user.tolist(), batch.neg.tolist())) & held
    assert all(len(set(ids.tolist())) < len(ids) == 64 for ids in batch)
    assert all(torch.equal(*pair) for pair in zip(batch, toy_batch(graph)))


def test_dropout_is_the_same_before_and_after_taking_rows():
    x, index = torch.randn(5, 4), torch.tensor([3, 3, 0])
    with fixed_dropout():
        assert torch.equal(F.dropout(x, 0.75)[index], F.dropout(x[index], 0.75))
        assert torch.equal(F.dropout(x, 0.75), 4 * x.relu())
        assert torch.equal(F.dropout(x, 0.5, training=False), x) and torch.equal(
            F.dropout(x, 0.0), x
        )
        # dropout that is keyed by rows, of targets and of modality encoders
        assert torch.equal(Predictor(4, 0.75).target(x), 4 * x.relu())
        assert torch.equal(encoder.keyed_dropout(x, 0.75, True), 4 * x.relu())
    assert comparison.F.dropout is F.dropout and F.dropout.__module__ == 'torch.nn.functional'


def test_foreign_code_leaves_no_trace(tmp_path):
    import scipy.sparse

    (tmp_path / 'stand_in_project.py').write_text(
        "import setproctitle\nsetproctitle.setproctitle('x')\nvalue = 3\n"
    )
    path, cuda = list(sys.path), torch.Tensor.cuda
    with comparison.foreign_code(tmp_path):
        import stand_in_project

        assert stand_in_project.value == 3 and sys.path[0] == str(tmp_path)
        x = torch.ones(2)
        assert x.cuda() is x and x.cuda(0) is x
        matrix = scipy.sparse.dok_matrix((2, 2))
        matrix._update({(0, 1): 5.0})
        assert matrix.tocsr().A.tolist() == [[0, 5], [0, 0]]
    assert sys.path == path and torch.Tensor.cuda is cuda
