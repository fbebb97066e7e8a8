import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.conv import LightConv
from genrec_pyg.nn.models import MMGCL
from genrec_pyg.nn.models.multimodal.mmgcl import other_row
from genrec_pyg.ops import info_nce


def make(num_modalities=2, partial=False, **arguments):
    model = MMGCL(
        toy_data(num_modalities, partial=partial), hidden_channels=4, **arguments
    ).double()
    with torch.no_grad():
        for projection in model.projections.values():
            projection.linear.bias.normal_()
    return model


def plainly(model, inputs, graph=None):
    """Streams propagated one by one."""
    graph = model.interactions.adjacency if graph is None else graph
    conv = LightConv(model.num_layers)
    out = torch.stack(
        [conv(torch.cat([model.embedding.user, rows]), graph) for rows in inputs], dim=1
    )
    return out.split([8, 7])


@pytest.mark.parametrize('precompute', [False, True])
@pytest.mark.parametrize('num_layers', [0, 1, 2, 3])
def test_main_view_is_light_gcn_of_every_stream(num_layers, precompute):
    model = make(3, partial=True, num_layers=num_layers, precompute=precompute)
    inputs = model.inputs()
    assert len(inputs) == 4 and not inputs[1][6].any()  # item 6 has no image
    atol = 1e-6 if precompute else 1e-12  # features are propagated in single precision
    assert all(
        torch.allclose(a, b, atol=atol)
        for a, b in zip(model.main_view(inputs), plainly(model, inputs))
    )


@pytest.mark.parametrize('shared_mask', [False, True])
def test_nothing_dropped_or_masked_gives_the_main_view(shared_mask):
    model = make(edge_dropout=0.0, shared_mask=shared_mask)
    inputs = model.inputs()
    main = model.main_view(inputs)
    assert all(torch.allclose(a, b) for a, b in zip(main, model.dropped_view(inputs)))
    assert all(not change.any() for change in model.masked_change(inputs[1], inputs[1]))


def test_masked_stream_is_propagated_anew():
    model = make()
    inputs, rows = model.inputs(), torch.randn(7, 4, dtype=torch.float64)
    users, items = plainly(model, [inputs[0], rows, inputs[2]])
    main, change = model.main_view(inputs), model.masked_change(rows, inputs[1])
    f = (
        model.user_readout(main.users.flatten(1))
        + change[0] @ model._slice(model.user_readout, 1).t()
    )
    assert torch.allclose(f, model.user_readout(users.flatten(1)))
    f = (
        model.item_readout(main.items.flatten(1))
        + change[1] @ model._slice(model.item_readout, 1).t()
    )
    assert torch.allclose(f, model.item_readout(items.flatten(1)))


@pytest.mark.parametrize('shared_mask', [False, True])
def test_dropped_view_uses_its_graphs(shared_mask):
    model = make(edge_dropout=0.4, shared_mask=shared_mask, resample='epoch')
    model.start_epoch(0)
    assert len(model.view_graphs) == (1 if shared_mask else 3)
    inputs = model.inputs()
    found = model.dropped_view(inputs)
    for stream in range(3):
        expected = plainly(model, inputs, model.view_graphs[0 if shared_mask else stream])
        assert all(torch.allclose(a[:, stream], b[:, stream]) for a, b in zip(found, expected))
    model.resample = 'batch'
    assert not torch.equal(found.users, model.dropped_view(inputs).users)


def test_exchanged_share_is_the_readout_of_the_exchanged_stream(monkeypatch):
    model = make(challenge='own')
    seen = {}

    def record(first, second, disturbed, temperature, own):
        seen.update(second=second, disturbed=disturbed)
        return first.sum()

    monkeypatch.setattr('genrec_pyg.nn.models.multimodal.mmgcl.challenged_contrast', record)
    monkeypatch.setattr(
        'genrec_pyg.nn.models.multimodal.mmgcl.other_row',
        lambda size, device: torch.tensor([2, 0, 1]),
    )
    streams = torch.randn(3, 3, 4, dtype=torch.float64)
    model._contrast(torch.zeros(3, 4, dtype=torch.float64), streams, model.item_readout, 2)
    changed = torch.stack([streams[:, 0], streams[:, 1], streams[[2, 0, 1], 2]], dim=1)
    assert torch.allclose(seen['disturbed'], model.item_readout(changed.flatten(1)))
    assert torch.allclose(seen['second'], model.item_readout(streams.flatten(1)))


def test_released_contrast_is_twice_the_cross_entropy_of_view_b():
    model = make(variant='released', edge_dropout=0.3, resample='epoch', contrast_weight=0.7)
    model.start_epoch(0)
    terms = model.loss(BATCH)
    view = model.dropped_view(model.inputs())
    pair = (
        model.user_readout(view.users[BATCH.user].flatten(1)),
        model.item_readout(view.items[BATCH.pos].flatten(1)),
    )
    assert torch.allclose(terms['contrast'], 0.7 * 2 * info_nce(*pair, 0.2))
    assert set(terms) == {'bpr', 'l2', 'contrast'}


@pytest.mark.parametrize('variant,moves', [('released', False), ('principled', True)])
def test_only_the_principled_contrast_reaches_the_main_view(variant, moves):
    model = make(variant=variant, edge_dropout=0.3, resample='epoch')
    model.start_epoch(0)
    view = model.main_view(model.inputs())
    model.main_view = lambda inputs: view
    contrast = sum(value for name, value in model.loss(BATCH).items() if 'contrast' in name)
    gradient = torch.autograd.grad(contrast, view.users, allow_unused=True)[0]
    assert (gradient is not None and bool(gradient.any())) == moves


@pytest.mark.parametrize('challenge', ['tuple', 'own', 'none'])
def test_challenges_train(challenge):
    model = make(1, challenge=challenge)
    terms = model.loss(BATCH)
    assert set(terms) == {'bpr', 'l2', 'contrast_users', 'contrast_items'}
    sum(terms.values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    lone = type(BATCH)(*(x[:1] for x in BATCH))
    assert model.loss(lone)['contrast_users'].item() == pytest.approx(0.0, abs=1e-12)


def test_zero_features_without_bias_add_nothing():
    data = toy_data(1)
    data['image'].x.zero_()
    model = MMGCL(data, hidden_channels=4)
    before = model.embed()
    with torch.no_grad():
        model.projections['image'].linear.weight.normal_()
    assert all(torch.equal(a, b) for a, b in zip(before, model.embed()))


def test_mask_probability_of_absent_modalities_is_passed_over():
    model = make(1, mask_probability={'image': 0.4, 'text': 0.6})
    assert {model._draw_stream() for _ in range(20)} == {1}
    model = make(3, mask_probability={'image': 0.0, 'text': 1.0, 'audio': 1.0})
    assert {model._draw_stream() for _ in range(100)} == {2, 3}


@pytest.mark.parametrize('size', [2, 3, 50])
def test_no_row_stays_in_place(size):
    for _ in range(10):
        order = other_row(size)
        assert order.sort().values.tolist() == list(range(size)) and not bool(
            (order == torch.arange(size)).any()
        )


@pytest.mark.parametrize(
    'arguments',
    [
        dict(variant='paper'),
        dict(edge_dropout=1.0),
        dict(challenge='all'),
        dict(resample='step'),
        dict(temperature=0.0),
        dict(contrast_weight=-1.0),
        dict(mask_probability={'image': 0.0}),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        MMGCL(toy_data(), **arguments)


@pytest.mark.parametrize('option', [dict(challenge='own'), dict(mask_probability={'image': 0.3})])
def test_the_released_variant_refuses_what_it_does_not_have(option):
    with pytest.raises(
        ConfigError, match=f"{next(iter(option))}: got .* with variant='released', accepted is"
    ):
        MMGCL(toy_data(), variant='released', **option)
