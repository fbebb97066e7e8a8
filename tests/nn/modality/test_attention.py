import pytest
import torch

from genrec_pyg.nn.modality.attention import ModalityAttention


def test_one_modality_is_its_own_common_part():
    z = torch.randn(1, 7, 4)
    fused = ModalityAttention(4)(z)
    assert torch.equal(fused.common, z[0])
    assert not fused.specific(0).any()


def test_weights_sum_to_one_and_common_is_their_mean():
    attention = ModalityAttention(4).double().eval()
    z = torch.randn(3, 7, 4, dtype=torch.float64)
    fused = attention(z)
    logits = torch.stack(
        [torch.tanh(attention.norm(attention.key(view))) @ attention.query.weight[0] for view in z]
    )
    weight = logits.exp() / logits.exp().sum(dim=0)
    assert torch.allclose(fused.weight, weight)
    assert torch.allclose(fused.common, (weight.unsqueeze(-1) * z).sum(dim=0))
    assert torch.equal(fused.specific(1), z[1] - fused.common)


def test_without_batch_normalization_a_node_is_fused_by_itself():
    attention = ModalityAttention(4, batch_norm=False)
    z = torch.randn(3, 7, 4)
    logits = torch.tanh(attention.key(z)) @ attention.query.weight[0]
    assert torch.allclose(attention(z).weight, logits.softmax(dim=0))
    assert torch.allclose(attention(z).common[:2], attention(z[:, :2]).common, atol=1e-6)


@pytest.mark.parametrize('joint', [True, False])
def test_statistics_are_of_all_modalities_together_or_of_each(joint):
    attention = ModalityAttention(4, joint_norm=joint)
    z = torch.randn(3, 7, 4) + torch.arange(3).view(3, 1, 1)
    key = attention.key(z)
    dims = (0, 1) if joint else (1,)
    key = (key - key.mean(dims, keepdim=True)) / (
        key.var(dims, unbiased=False, keepdim=True) + attention.norm.eps
    ).sqrt()
    assert torch.allclose(
        attention(z).weight, (torch.tanh(key) @ attention.query.weight[0]).softmax(dim=0), atol=1e-6
    )


def test_equal_views_have_nothing_specific():
    z = torch.randn(7, 4).expand(3, 7, 4)
    fused = ModalityAttention(4)(z)
    assert torch.allclose(fused.common, z[0], atol=1e-6)
    assert torch.allclose(fused.weight, torch.full((3, 7), 1 / 3))


def test_order_of_modalities_does_not_matter():
    attention = ModalityAttention(4).eval()
    z = torch.randn(3, 7, 4)
    assert torch.allclose(attention(z).common, attention(z.flip(0)).common, atol=1e-6)
