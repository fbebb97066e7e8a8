import pytest
import torch

from genrec_pyg.nn.conv.hyper_conv import HyperConv, SoftHyperConv


def set_weight(conv, weight):
    with torch.no_grad():
        conv.weight.copy_(torch.as_tensor(weight))
    return conv


def test_activations_by_hand():
    conv = set_weight(HyperConv(2, 1, slope=0.5), [[1.0], [0.0]])
    table, x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    assert conv(table, x).tolist() == [[-0.5, 1.0], [1.0, -0.5]]


def test_orthogonal_memberships():
    conv = set_weight(HyperConv(4, 4), torch.linalg.qr(torch.randn(4, 4))[0])
    table, x = torch.randn(9, 4), torch.randn(9, 4)
    assert torch.allclose(conv(table, x), table @ (table.t() @ x), atol=1e-5)


@pytest.mark.parametrize('slope', [1.0, 0.3])
def test_low_rank_equals_memberships(slope):
    conv = HyperConv(4, 6, num_layers=2, num_maps=2, slope=slope, scale=0.7).double()
    table, x = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)
    members = 0.7 * table @ conv.weight
    q = torch.nn.functional.leaky_relu(members.t() @ x, slope)
    for matrix in conv.maps[1]:
        q = torch.nn.functional.leaky_relu(matrix @ q, slope) + q
    assert torch.allclose(
        conv(table, x, 1), torch.nn.functional.leaky_relu(members @ q, slope), atol=1e-12
    )


@pytest.mark.parametrize('dropout', ['element', 'edge'])
def test_dropout_acts_in_training_and_is_unbiased_on_the_way_in(dropout):
    conv = HyperConv(3, 5, edge_dropout=0.5, dropout=dropout)
    table, x = torch.randn(6, 3), torch.randn(6, 3)
    assert not torch.equal(conv.train()(table, x), conv(table, x))
    assert torch.equal(conv.eval()(table, x), conv(table, x))
    # whole hyperedges: g = sum over surviving k of 4 times its part, half of the time
    if dropout == 'edge':
        parts = torch.stack(
            [torch.outer(table @ w, w @ (table.t() @ x)) for w in conv.weight.detach().t()]
        )
        found = conv.train()(table, x).detach()
        share = torch.linalg.lstsq(
            parts.flatten(1).t(), found.flatten().unsqueeze(1)
        ).solution.view(-1)
        assert all(min(abs(s), abs(s - 4)) < 1e-3 for s in share.tolist())


def test_soft_memberships_pass_the_sum_of_the_rows_on():
    conv = SoftHyperConv(2).eval()
    logits, x = torch.randn(5, 3), torch.rand(5, 2) + 1
    hyperedges = conv.memberships(logits).t() @ x
    assert torch.allclose(hyperedges.sum(0), x.sum(0))
    users, items = conv(logits[:2], logits, x)
    # a constant per row changes no membership
    moved = conv(logits[:2] + torch.tensor([[3.0], [-1.0]]), logits + 2, x)
    assert torch.allclose(moved[0], users, rtol=1e-4) and torch.allclose(moved[1], items, rtol=1e-4)


@pytest.mark.parametrize(
    'noise, mean, deviation', [('gumbel', 0.5772, 1.2825), ('logistic', 0.0, 1.8138)]
)
def test_noise_of_soft_memberships_has_its_moments(noise, mean, deviation):
    drawn = SoftHyperConv(noise=noise)._draw(torch.zeros(400, 500))
    assert drawn.mean().item() == pytest.approx(
        mean, abs=0.02
    ) and drawn.std().item() == pytest.approx(deviation, rel=0.02)
