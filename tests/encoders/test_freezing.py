import pytest
from torch import nn

from genrec_pyg.encoders.freezing import freeze_first, train_last
from genrec_pyg.exceptions import ConfigError


class Encoder(nn.Module):
    """Embedding, a final norm defined before the blocks, two blocks, and a head."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(3, 2)
        self.final_norm = nn.LayerNorm(2)
        self.layers = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))
        self.head = nn.Linear(2, 2, bias=False)


def trained(module):
    return [name for name, value in module.named_parameters() if value.requires_grad]


def test_the_first_tensors_are_frozen():
    module = Encoder()
    names = [name for name, _ in module.named_parameters()]
    for count in (2, 0, len(names)):
        freeze_first(module, count)
        assert trained(module) == names[count:]


@pytest.mark.parametrize(
    'blocks, layers', [(1, ['layers.1.weight']), (2, ['layers.0.weight', 'layers.1.weight'])]
)
def test_the_last_blocks_are_trained_and_what_follows_them(blocks, layers):
    module = Encoder()
    train_last(module, blocks)
    norm = ['final_norm.weight', 'final_norm.bias']
    assert trained(module) == [*norm, *layers, 'head.weight']


def test_all_or_none():
    module = Encoder()
    train_last(module, 'none')
    assert not trained(module)
    train_last(module, 'all')
    assert len(trained(module)) == len(list(module.parameters()))


@pytest.mark.parametrize('blocks', [0, 3, -1, True, 'some', 1.5])
def test_other_numbers_of_blocks_are_refused(blocks):
    with pytest.raises(ConfigError, match="accepted are 'all', 'none' and 1 to 2 blocks"):
        train_last(Encoder(), blocks)


def test_more_tensors_than_there_are_and_no_blocks_are_refused():
    module = nn.Linear(2, 2)
    for count in (-1, 3):
        with pytest.raises(ConfigError, match=f'got {count}, accepted are 0 to 2 for Linear'):
            freeze_first(module, count)
    with pytest.raises(ConfigError, match='1 to 0 blocks'):
        train_last(module, 1)
    assert len(trained(module)) == 2
