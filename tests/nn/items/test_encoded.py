import copy

import pytest
import torch
from helpers.content_graphs import TITLES, titled_items

from genrec_pyg.exceptions import CheckpointError
from genrec_pyg.nn.items import EncodedRows

ITEMS = torch.tensor([[3, 2, 11], [2, 8, 10]])


@pytest.fixture
def folder(text_folder):
    return text_folder('bert')


def test_rows_are_the_projected_vectors_of_the_titles(folder):
    side = titled_items(folder).eval()
    encoder = side.network.encoder
    expected = torch.stack(
        [
            torch.nn.functional.gelu(side.projection(encoder(*encoder.tokenize([title]))))[0]
            for title in TITLES
        ]
    )
    assert torch.allclose(side(), expected, atol=1e-6)
    rows = side.rows(ITEMS)
    assert torch.allclose(rows[0, :2], expected[[3, 2]], atol=1e-6) and not bool(rows[0, 2].any())
    assert torch.allclose(side.new_rows(TITLES[:3]), expected[:3], atol=1e-6)


def test_each_distinct_item_is_encoded_once_and_padding_never(folder):
    side = titled_items(folder, chunk_size=2)
    seen = []
    side.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    with side.computed(ITEMS, torch.tensor([2, 3])):
        side.rows(ITEMS)
        side.rows(torch.tensor([2, 3]))
    # widths by length
    assert [rows for rows, _ in seen] == [2, 2] and sum(width for _, width in seen) == 4 + 6
    assert len(seen) == 2


@pytest.mark.parametrize('chunk_size', [2, 3, 100])
def test_encoding_again_in_backward_gives_the_exact_gradient(folder, chunk_size):
    """Also with dropout, whose draws are repeated."""
    torch.manual_seed(0)
    plain = titled_items(folder, chunk_size=chunk_size, projection_layers=1).double().train()
    cached = (
        titled_items(folder, chunk_size=chunk_size, projection_layers=1, recompute=True)
        .double()
        .train()
    )
    cached.load_state_dict(plain.state_dict())
    weight = torch.randn(2, 3, 8, dtype=torch.float64)
    losses = []
    for side in (plain, cached):
        torch.manual_seed(1)
        rows = side.rows(ITEMS)
        losses.append((rows * weight).sum() + (rows[0, 0] @ rows[1, 1]) ** 2)
        torch.rand(3)  # whatever is drawn before backward
        losses[-1].backward()
    assert torch.equal(*losses)
    for (name, a), b in zip(plain.named_parameters(), cached.parameters()):
        assert (a.grad is None) == (b.grad is None), name
        assert a.grad is None or torch.allclose(a.grad, b.grad, rtol=1e-12, atol=1e-14), name
    assert any(a.grad is not None and bool(a.grad.any()) for a in plain.network.parameters())


def test_the_gradient_of_chunks_is_that_of_one_piece(folder):
    torch.manual_seed(0)
    whole = titled_items(folder).double().eval()
    chunks = titled_items(folder, chunk_size=2, recompute=True).double().eval()
    chunks.load_state_dict(whole.state_dict())
    for side in (whole, chunks):
        side.rows(ITEMS).square().sum().backward()
    for a, b in zip(whole.parameters(), chunks.parameters()):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.allclose(a.grad, b.grad, rtol=1e-10, atol=1e-13)


def test_memory_between_forward_and_backward_is_that_of_the_rows(folder):
    def kept(recompute):
        side = titled_items(folder, chunk_size=2, recompute=recompute).train()
        total = []

        def pack(tensor):
            total.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            side.rows(torch.arange(11))
        return sum(total)

    assert kept(True) < kept(False) / 10


def test_dropout_draws_nothing_from_what_follows_but_a_seed(folder):
    side = titled_items(folder, chunk_size=2).train()
    found = []
    for items in (torch.tensor([0]), torch.arange(11)):
        torch.manual_seed(3)
        side.rows(items)
        found.append(torch.rand(1))
    assert torch.equal(*found)
    torch.manual_seed(3)
    side.eval().rows(torch.arange(11))
    assert not torch.equal(torch.rand(1), found[0])


@pytest.mark.parametrize(
    'settings, frozen',
    [
        (dict(), 0),
        (dict(unfreeze='none'), 37),
        (dict(unfreeze=1), 5 + 16),
        (dict(frozen_tensors=21), 21),
    ],
)
def test_what_is_frozen(folder, settings, frozen):
    side = titled_items(folder, **settings)
    tensors = list(side.network.parameters())
    assert len(tensors) == 37 and [p.requires_grad for p in tensors] == [False] * frozen + [
        True
    ] * (37 - frozen)
    assert len(list(side.encoder_parameters())) == 37 - frozen


def test_frozen_tensors_are_no_part_of_a_state_and_the_files_must_be_the_same(folder, text_folder):
    side = titled_items(folder, unfreeze=1)
    state = side.state_dict()
    assert sum(key.startswith('network.') for key in state) == 16
    other = titled_items(folder, unfreeze=1)
    with torch.no_grad():
        side.projection.weight.add_(1)
        next(side.encoder_parameters()).add_(1)
    other.load_state_dict(copy.deepcopy(side.state_dict()))
    assert torch.equal(other.eval()(), side.eval()())
    with pytest.raises(RuntimeError, match='Missing key'):
        other.load_state_dict(
            {key: value for key, value in state.items() if key != 'projection.weight'}
        )
    with pytest.raises(
        CheckpointError, match=r'item_side.encoder: its files have the digest \w+, accepted is'
    ):
        titled_items(text_folder('roberta'), unfreeze=1).set_extra_state(state['_extra_state'])


def test_reset_gives_back_the_loaded_weights_and_another_head(folder):
    side = titled_items(folder)
    before = {name: value.clone() for name, value in side.named_parameters()}
    with torch.no_grad():
        for parameter in side.parameters():
            parameter.add_(1)
    side.reset_parameters()
    for name, value in side.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith('network.'), name


def test_an_untrained_network_is_drawn_from_the_seed(folder):
    def drawn(seed):
        torch.manual_seed(seed)
        return titled_items(folder, weights='random').eval()()

    assert torch.equal(drawn(0), drawn(0)) and not torch.allclose(drawn(0), drawn(1))
    torch.manual_seed(0)
    trained = titled_items(folder).network.state_dict()
    fresh = titled_items(folder, weights='random').network.state_dict()
    weights = [name for name in trained if name.endswith('dense.weight')]
    assert weights and not any(torch.equal(trained[name], fresh[name]) for name in weights)


@pytest.mark.parametrize('kind', ['roberta', 'opt'])
def test_other_text_encoders(text_folder, kind):
    side = titled_items(text_folder(kind), unfreeze=1).train()
    side.rows(ITEMS).sum().backward()
    trained = list(side.encoder_parameters())
    assert trained and all(bool(torch.isfinite(p.grad).all()) for p in trained)
    assert len({tuple(row) for row in side.eval()().tolist()}) == 11


def test_batch_normalization_keeps_its_statistics(image_folder, tmp_path):
    from PIL import Image

    from genrec_pyg.graph import training_graph
    from genrec_pyg.nn.items import ItemSide, make_items
    from genrec_pyg.testing import toy_graph

    data = toy_graph(0)
    files = [str(tmp_path / f'{item}.png') for item in range(6)]
    for item, file in enumerate(files):
        Image.new('RGB', (9, 7), (40 * item, 100, 200)).save(file)
    data['item'].image = [*files, '']  # the last one has none
    graph = training_graph(data, [], contents=['image'])
    side = make_items(graph, 4, ItemSide('encoder', str(image_folder('resnet'))))
    assert isinstance(side, EncodedRows)
    before = [buffer.clone() for buffer in side.buffers()]
    alone = side.train().rows(torch.tensor([1]))
    assert torch.allclose(side.rows(torch.arange(7))[1], alone[0], atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before, side.buffers()))
    alone.sum().backward()
    assert any(bool(p.grad.any()) for p in side.encoder_parameters() if p.grad is not None)
