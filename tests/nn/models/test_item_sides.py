"""What models do with every item side."""

import pytest
import torch
from helpers.content_graphs import titled_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import get_model
from genrec_pyg.training import Trainer

SEQUENTIAL = ('SASRec', 'GRU4Rec', 'DSSM', 'MIND', 'ComiRecSA', 'REMI')
GRAPH = (
    'LightGCN',
    'MFBPR',
    'NGCF',
    'SGL',
    'NCL',
    'SELFCFED',
    'HCCF',
    'BM3',
    'FREEDOM',
    'LATTICE',
    'SMORE',
    'LGMRec',
    'DAMRS',
    'MMGCF',
    'MGCN',
    'GenRec',
)
NAMES = (*SEQUENTIAL, *GRAPH)
KINDS = ('id', 'frozen', 'encoder', 'id+frozen', 'id+encoder')
SETTINGS = {
    'MIND': dict(num_negatives=4),
    'ComiRecSA': dict(num_negatives=4),
    'REMI': dict(num_negatives=4),
}


def data_with_everything():
    data = titled_data()
    data['text'].x = torch.randn(11, 6, generator=torch.Generator().manual_seed(0))
    data['item', 'has', 'text'].edge_index = torch.arange(11).expand(2, 11).contiguous()
    return data


def side(kind, folder, **settings):
    return {
        'kind': kind,
        **({'encoder': str(folder)} if kind.endswith('encoder') else {}),
        **settings,
    }


def make(name, kind, folder, data=None, item_side=None, **settings):
    torch.manual_seed(0)
    return get_model(name)(
        data_with_everything() if data is None else data,
        hidden_channels=8,
        item_side=side(kind, folder, **(item_side or {})),
        **SETTINGS.get(name, {}),
        **settings,
    )


def steps(model, count=3):
    optimizer = torch.optim.Adam(model.trained_parameters(), lr=1e-2)
    model.train()
    losses = []
    for number in range(count):
        torch.manual_seed(number)
        for batch in model.make_loader(4, 'edge'):
            optimizer.zero_grad()
            loss = sum(model.loss(batch).values())
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', NAMES)
def test_every_model_trains_with_every_side(name, kind, text_folder):
    model = make(name, kind, text_folder('bert'))
    before = {
        key: value.clone() for key, value in model.state_dict().items() if torch.is_tensor(value)
    }
    steps(model)
    changed = [
        key
        for key, value in model.state_dict().items()
        if key in before and not torch.equal(value, before[key])
    ]
    assert any('network.encoder' in key for key in changed) == kind.endswith('encoder')
    model.eval()
    scores = model.score(torch.arange(5))
    assert scores.shape == (5, 11) and bool(torch.isfinite(scores).all())
    with model.cached_embeddings():
        assert torch.allclose(scores, model.score(torch.arange(5)), atol=1e-5)


@pytest.mark.parametrize('name', ['SASRec', *GRAPH])
def test_items_that_nobody_has_get_the_row_of_their_content(name, text_folder):
    """The last item is in no interaction; its rank follows its title."""
    found = []
    for title in ('the best', 'rain rain'):
        data = data_with_everything()
        data['item'].title[10] = title
        model = make(name, 'encoder', text_folder('bert'), data)
        found.append(model.eval().embed()[1])
    if name in ('SASRec', 'LightGCN', 'MFBPR'):  # others have neighbors by features
        assert torch.allclose(found[0][:10], found[1][:10], atol=1e-6)
    assert not torch.allclose(found[0][10], found[1][10], atol=1e-5)
    if name == 'SASRec':
        assert torch.allclose(found[0][10], found[0][0], atol=1e-6)  # the same title as item 0


@pytest.mark.parametrize('loss', ['bce', 'inbatch', 'sampled', 'softmax'])
def test_a_batch_encodes_each_distinct_item_once(loss, text_folder):
    model = make(
        'SASRec',
        'encoder',
        text_folder('bert'),
        item_side=dict(chunk_size=3),
        loss=loss,
        num_negatives=2,
    )
    count = []
    model.items.network.register_forward_pre_hook(
        lambda module, inputs: count.append(inputs[0].size(0))
    )
    batch = next(iter(model.make_loader(8, 'user')))
    model.loss(batch)
    items = torch.cat([batch.item.flatten(), batch.negative.flatten()])
    distinct = items[items < 11].unique().numel()
    assert (
        sum(count) == (11 if loss == 'softmax' else distinct)
        if loss != 'sampled'
        else sum(count) <= distinct + 2
    )


@pytest.mark.parametrize('kind', ['encoder', 'id+encoder'])
def test_encoding_again_in_backward_gives_the_same_training(kind, text_folder):
    plain, cached = (
        make(
            'SASRec',
            kind,
            text_folder('bert'),
            loss='inbatch',
            item_side=dict(recompute=recompute, chunk_size=3),
        )
        for recompute in (False, True)
    )
    assert steps(plain) == pytest.approx(steps(cached), rel=1e-5)
    for a, b in zip(plain.parameters(), cached.parameters()):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize('name', GRAPH)
def test_a_step_of_a_graph_model_encodes_every_item_once(name, text_folder):
    """However often it reads their first rows; dropout would make each reading another one."""
    model = make(name, 'encoder', text_folder('bert'))
    model.start_epoch(0)
    count = []
    network = next(one for one in model.modules() if type(one).__name__ == 'Network')
    network.register_forward_pre_hook(lambda module, inputs: count.append(inputs[0].size(0)))
    terms = model.loss(next(iter(model.make_loader(4, 'edge'))))
    assert sum(count) == 11
    sum(terms.values()).backward()
    assert all(torch.isfinite(one.grad).all() for one in model.encoder_parameters())


def test_the_whole_of_an_evaluation_encodes_every_item_once(text_folder):
    model = make('SASRec', 'encoder', text_folder('bert')).eval()
    count = []
    model.items.network.register_forward_pre_hook(
        lambda module, inputs: count.append(inputs[0].size(0))
    )
    with model.cached_embeddings():
        model.score(torch.arange(5))
    assert sum(count) == 11


def fit(model, folder, epochs, resume=False, **settings):
    trainer = Trainer(
        epochs=epochs,
        lr=0.01,
        batch_size=4,
        patience=0,
        ks=(2, 5),
        monitor='recall@5',
        device='cpu',
        progress=False,
        output=folder,
        sampler='user',
        **settings,
    )
    return trainer.fit(model, data_with_everything(), resume=resume)


def test_a_resumed_run_gives_the_same_numbers(text_folder, tmp_path):
    whole, stopped, resumed = (
        make('SASRec', 'id+encoder', text_folder('bert'), item_side=dict(unfreeze=1))
        for _ in range(3)
    )
    settings = dict(encoder_lr=1e-3, encoder_weight_decay=0.1, decoupled_weight_decay=True)
    expected = fit(whole, tmp_path / 'whole', 4, **settings)
    fit(stopped, tmp_path / 'parts', 2, **settings)
    found = fit(resumed, tmp_path / 'parts', 4, resume=True, **settings)
    assert found.test == expected.test
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
    state = torch.load(tmp_path / 'whole' / 'checkpoints' / 'last.pt', weights_only=True)['model']
    assert not any('embeddings' in key for key in state)  # frozen: they are in the encoder's folder


def test_an_encoder_has_its_own_learning_rate(text_folder):
    model = make('SASRec', 'id+encoder', text_folder('bert'))
    trainer = Trainer(lr=1e-3, encoder_lr=1e-5, weight_decay=0.1, device='cpu', progress=False)
    head, encoder = trainer.make_optimizer(model).param_groups
    assert (head['lr'], encoder['lr'], head['weight_decay'], encoder['weight_decay']) == (
        1e-3,
        1e-5,
        0.1,
        0.1,
    )
    own = {id(parameter) for parameter in model.items.content.network.parameters()}
    assert {id(parameter) for parameter in encoder['params']} == own
    assert len(head['params']) + len(own) == len(list(model.parameters()))
    assert not own & {id(parameter) for parameter in head['params']}
    with pytest.raises(ConfigError, match='encoder_lr: got 1e-05 for SASRec, accepted is a model'):
        trainer.make_optimizer(make('SASRec', 'frozen', None))


def test_decoupled_decay_shrinks_what_has_no_gradient(text_folder):
    model = make('DSSM', 'id', None)
    # of an item without interactions, and no negative here
    before = model.items.weight.detach()[10].clone()
    trainer = Trainer(
        lr=0.1, weight_decay=0.5, decoupled_weight_decay=True, device='cpu', progress=False
    )
    optimizer = trainer.make_optimizer(model)
    model.items.weight.grad = torch.zeros_like(model.items.weight)
    optimizer.step()
    assert torch.allclose(model.items.weight.detach()[10], before * 0.95)


@pytest.mark.parametrize('kind', KINDS)
def test_items_that_come_after_the_training_are_ranked_by_their_content(kind, text_folder):
    """Rows of new items stand below those of the graph; with a learned part there are none."""
    model = make('SASRec', kind, text_folder('bert')).eval()
    new = {'text': torch.randn(2, 6)} if kind == 'frozen' else ['the best games', 'rain rain']
    with torch.no_grad():
        if kind.startswith('id'):
            with pytest.raises(
                ConfigError,
                match='content: got 2 new items for .*, whose rows are learned; accepted are',
            ):
                model.items.new_rows(new)
            return
        users, items = model.embed()
        rows = model.items.new_rows(new)
        direction = users[0] / users[0].norm()
        scores = users @ torch.cat([items, rows, 1e4 * direction.unsqueeze(0)]).t()
    assert rows.shape == (2, 8) and bool(torch.isfinite(scores).all())
    assert int(scores[0].argmax()) == 13  # far along the direction of a user: his first
    if kind == 'frozen':
        with pytest.raises(
            ConfigError, match='content: got text .2, 5., accepted are features of width 6 of text'
        ):
            model.items.new_rows({'text': torch.randn(2, 5)})


def test_a_wrong_setting_is_named_once():
    with pytest.raises(ConfigError, match="^item_side.kind: got 'nonsense', accepted are 'id'"):
        get_model('BM3')(data_with_everything(), item_side={'kind': 'nonsense'})
