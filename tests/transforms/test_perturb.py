import copy

import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, check_graph, split_edges, training_graph
from genrec_pyg.transforms import (
    AddFeatureNoise,
    AddNoiseInteractions,
    DropModality,
    ShuffleFeatures,
)

FEATURES = [AddFeatureNoise(0.5, seed=1), ShuffleFeatures(0.5, seed=1), DropModality(0.5, seed=1)]


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 50, 40
    store = data[INTERACTS]
    store.edge_index = (torch.rand(50, 40, generator=generator) < 0.2).nonzero().t()
    split = torch.rand(store.edge_index.size(1), generator=generator)
    store.train_mask = split < 0.8
    store.val_mask = (split >= 0.8) & (split < 0.9)
    store.test_mask = split >= 0.9
    store.time = torch.arange(split.numel())
    store.note = [str(edge) for edge in range(split.numel())]
    data['image'].x = (
        torch.randn(40, 6, generator=generator) * torch.tensor([1.0, 10.0, 100.0, 1.0, 1.0, 0.0])
        + 5
    )
    data['item', 'has', 'image'].edge_index = torch.arange(40).repeat(2, 1)
    # items 0 to 9 have two nodes, 10 to 19 one, 20 to 39 none
    data['text'].x = torch.arange(30.0).view(30, 1)
    data['item', 'has', 'text'].edge_index = torch.stack([torch.arange(30) % 20, torch.arange(30)])
    return data


def same(a, b):
    for key, value in a.to_dict().items():
        for name, entry in value.items() if isinstance(value, dict) else ():
            other = b.to_dict()[key][name]
            if not (
                torch.equal(entry, other) if isinstance(entry, torch.Tensor) else entry == other
            ):
                return False
    return True


@pytest.mark.parametrize(
    'transform', [*FEATURES, AddNoiseInteractions(0.3, seed=1)], ids=lambda t: type(t).__name__
)
def test_deterministic_without_side_effects(transform, data):
    before = copy.deepcopy(data)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = transform(data)
    assert torch.equal(torch.get_rng_state(), state) and same(data, before)
    torch.manual_seed(4)
    assert same(first, transform(data)) and not same(data, first)
    other = copy.copy(transform)
    other.seed = 2
    assert not same(first, other(data))
    check_graph(first)
    training_graph(first)


@pytest.mark.parametrize(
    'transform',
    [AddFeatureNoise(0), ShuffleFeatures(0), DropModality(0), AddNoiseInteractions(0)],
    ids=lambda t: type(t).__name__,
)
def test_strength_zero_changes_nothing(transform, data):
    assert same(data, transform(data))


def test_noise_is_relative_to_the_column():
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 1, 20_000
    data[INTERACTS].edge_index = torch.zeros(2, 1, dtype=torch.long)
    data['image'].x = (
        torch.randn(20_000, 3, generator=torch.Generator().manual_seed(9))
        * torch.tensor([1.0, 100.0, 0.0])
        + 7
    )
    data['item', 'has', 'image'].edge_index = torch.arange(20_000).repeat(2, 1)
    noise = AddFeatureNoise(0.5)(data)['image'].x - data['image'].x
    assert noise.std(dim=0).tolist() == pytest.approx([0.5, 50, 0], rel=0.03)
    assert bool((noise.mean(dim=0).abs() < torch.tensor([0.02, 2.0, 1e-6])).all())
    assert (
        torch.corrcoef(torch.stack([noise[:, 0], data['image'].x[:, 0], noise[:, 1]]))[0, 1:]
        .abs()
        .max()
        < 0.03
    )


def test_twice_the_strength_is_twice_the_same_noise(data):
    once, twice = (
        AddFeatureNoise(sigma, ['image'])(data)['image'].x - data['image'].x for sigma in (0.5, 1.0)
    )
    assert torch.allclose(2 * once, twice, atol=1e-4)
    assert AddFeatureNoise(1.0, ['image'])(data)['text'].x is data['text'].x


@pytest.mark.parametrize('share, moved', [(0.25, 10), (0.5, 20), (1.0, 40), (0.01, 0)])
def test_shuffled_nodes_take_the_features_of_others(data, share, moved):
    x, shuffled = data['image'].x, ShuffleFeatures(share)(data)['image'].x
    changed = (x != shuffled).any(dim=1)
    assert int(changed.sum()) == moved
    assert torch.equal(x.sort(dim=0).values, shuffled.sort(dim=0).values)  # the same rows
    assert {tuple(row) for row in x.tolist()} == {tuple(row) for row in shuffled.tolist()}


def test_dropped_items_lose_all_their_nodes(data):
    out = DropModality(0.5)(data)
    for name, carriers in (('image', 40), ('text', 20)):
        before, after = (training_graph(graph).modalities[name] for graph in (data, out))
        lost = before.present() & ~after.present()
        assert int(lost.sum()) == carriers // 2 and bool((after.item_features()[lost] == 0).all())
        kept = after.present()
        assert torch.equal(before.item_features()[kept], after.item_features()[kept])
    assert out['text'].x.size(0) == 30
    nothing = training_graph(DropModality(1.0, ['text'])(data)).modalities
    assert not bool(nothing['text'].present().any()) and bool(nothing['image'].present().all())


def test_smaller_shares_are_part_of_larger_ones(data):
    def dropped(share):
        return ~training_graph(DropModality(share)(data)).modalities['image'].present()

    def moved(share):
        return (ShuffleFeatures(share)(data)['image'].x != data['image'].x).any(dim=1)

    def added(share):
        out = AddNoiseInteractions(share)(data)[INTERACTS]
        return {tuple(pair) for pair in out.edge_index[:, out.noise].t().tolist()}

    for chosen in (dropped, moved):
        assert bool((chosen(0.25) <= chosen(0.75)).all())
    assert added(0.1) < added(0.3) < added(1.0)


def test_noise_interactions_are_new_pairs_in_training(data):
    num_edges, train = data[INTERACTS].edge_index.size(1), split_edges(data, 'train').size(1)
    out = AddNoiseInteractions(0.5)(data)
    store = out[INTERACTS]
    count = round(0.5 * train)
    assert (
        store.edge_index.size(1) == num_edges + count
        and split_edges(out, 'train').size(1) == train + count
    )
    # none twice, none held out
    assert len({tuple(pair) for pair in store.edge_index.t().tolist()}) == num_edges + count
    for split in ('val', 'test'):
        assert torch.equal(split_edges(out, split), split_edges(data, split))
    assert int(store.noise.sum()) == count and not bool(store.noise[:num_edges].any())
    assert set(store.time[num_edges:].tolist()) <= set(
        data[INTERACTS].time[data[INTERACTS].train_mask].tolist()
    )
    assert len(store.note) == num_edges + count and store.note[num_edges] == str(
        int(store.time[num_edges])
    )
    again = AddNoiseInteractions(0.1, seed=5)(out)[INTERACTS]  # on top, what was noise stays noise
    assert int(again.noise.sum()) == count + round(0.1 * (train + count))


def test_noise_interactions_are_uniform():
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 100, 200
    data[INTERACTS].edge_index = torch.stack(
        [torch.arange(100), torch.zeros(100, dtype=torch.long)]
    )
    data[INTERACTS].train_mask = torch.ones(100, dtype=torch.bool)
    out = AddNoiseInteractions(60.0)(data)[INTERACTS]
    user, item = out.edge_index[:, out.noise]
    # mean 60, binomial deviation about 6.5
    assert torch.bincount(user, minlength=100).float().std() < 8
    share = torch.bincount(item, minlength=200)[1:].float() / 100
    assert abs(float(share.mean()) - 0.3015) < 1e-3 and float(share.max()) < 0.5


def test_too_many_noise_interactions(data):
    with pytest.raises(DataError, match='noise interactions are asked for and'):
        AddNoiseInteractions(4.0)(data)
    del data[INTERACTS].train_mask
    with pytest.raises(DataError, match="no 'train_mask'"):
        AddNoiseInteractions(0.1)(data)


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: AddFeatureNoise(-0.1), 'sigma: got -0.1'),
        (lambda: AddFeatureNoise(float('inf')), 'sigma: got inf'),
        (lambda: ShuffleFeatures(1.1), 'share: got 1.1'),
        (lambda: DropModality(float('nan')), 'share: got nan'),
        (lambda: AddNoiseInteractions(-1), 'share: got -1'),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize('transform', FEATURES, ids=lambda t: type(t).__name__)
def test_unknown_modality(transform, data):
    other = copy.copy(transform)
    other.modalities = ['audio']
    with pytest.raises(ConfigError, match="no modality 'audio'"):
        other(data)


def test_noise_scales_with_large_features_and_not_with_nodes_of_no_item(data):
    data['image'].x = torch.cat([data['image'].x, torch.full((5, 6), 1e6)])
    exact = data['image'].x[:40].double().std(dim=0, correction=0)
    noise = (AddFeatureNoise(1.0)(data)['image'].x - data['image'].x)[:40]
    assert torch.allclose(noise.double().std(dim=0), exact, rtol=0.5) and bool(
        (noise[:, 5] == 0).all()
    )
    data['image'].x = data['image'].x * 1e20  # squares overflow float32
    assert bool(AddFeatureNoise(1.0)(data)['image'].x.isfinite().all())
