import math

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.sequence import CausalTransformer


def test_attention_of_two_positions():
    """With b^2 = ln 3 the second position weighs itself 3 to 1 in its second head."""
    block = CausalTransformer(2, 2, 1, 2, 0.0).blocks[0]
    with torch.no_grad():
        block.qkv.weight.copy_(torch.eye(2).repeat(3, 1))
        torch.nn.init.eye_(block.out.weight)
    block.attention_norm = torch.nn.Identity()
    block.output_norm = torch.nn.Identity()
    torch.nn.init.zeros_(block.contract.weight)
    b = math.sqrt(math.log(3))
    x = torch.tensor([[[2.0, 0.0], [0.0, b]]])
    assert torch.allclose(block(x) - x, torch.tensor([[[2.0, 0.0], [1.0, 0.75 * b]]]), atol=1e-6)


def test_normalization_comes_after_each_sum():
    model = CausalTransformer(2, 3, 2, 1, 0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'norm' not in name:
                parameter.zero_()
    x, length = torch.tensor([[[1.0, 3.0], [5.0, 1.0], [0.0, 0.0]]]), torch.tensor([2])
    assert torch.allclose(
        model(x, length)[0, :2], torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), atol=1e-5
    )
    with torch.no_grad():
        for block in model.blocks:
            block.contract.bias.copy_(torch.tensor([2.0, 0.0]))
    # Where the branch cancels the row, its normalization is near zero and the second block turns it
    # around.
    assert torch.allclose(
        model(x, length)[0, :2], torch.tensor([[1.0, -1.0], [1.0, -1.0]]), atol=1e-4
    )


@pytest.mark.parametrize('channels,positions,count', [(8, 5, 1736), (512, 20, 6_311_936)])
def test_number_of_parameters(channels, positions, count):
    assert (
        sum(p.numel() for p in CausalTransformer(channels, positions, 2, 2).parameters()) == count
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CausalTransformer(8, 6, 2, 2, 0.1).eval()


def test_a_later_item_changes_no_earlier_output(model):
    x, length = torch.randn(2, 6, 8), torch.tensor([6, 4])
    changed = x.clone()
    changed[:, 3] += 1
    first, second = model(x, length), model(changed, length)
    assert torch.equal(first[:, :3], second[:, :3]) and not torch.equal(first[:, 3], second[:, 3])


def test_padding_and_the_other_rows_change_nothing(model):
    x, length = torch.randn(3, 6, 8), torch.tensor([2, 6, 4])
    expected = model(x, length)
    noisy = x.clone()
    for row, real in enumerate(length.tolist()):
        noisy[row, real:] = 100
    found = model(noisy, length)
    for row, real in enumerate(length.tolist()):
        assert torch.equal(found[row, :real], expected[row, :real])
        alone = model(x[row : row + 1, :real], length[row : row + 1])
        assert torch.allclose(alone[0], expected[row, :real], atol=1e-6)


def test_positions_count_from_the_end(model):
    """A sequence in the last rows of a table twice as long."""
    longer = CausalTransformer(8, 12, 2, 2, 0.1).eval()
    state = model.state_dict()
    state['position'] = torch.cat([torch.randn(6, 8), state['position']])
    longer.load_state_dict(state)
    x, length = torch.randn(2, 6, 8), torch.tensor([6, 3])
    assert torch.allclose(longer(x, length)[:, :3], model(x, length)[:, :3], atol=1e-6)


@pytest.mark.parametrize(
    'arguments,message',
    [
        (dict(num_layers=0), 'num_layers: got 0'),
        (dict(num_heads=3), 'num_heads: got 3, accepted are divisors'),
        (dict(dropout=1.0), 'dropout: got'),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CausalTransformer(8, 4, **arguments)
