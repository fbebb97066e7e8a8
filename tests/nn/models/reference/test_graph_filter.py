import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import GraphFilter

#: The path user 0 (items 0, 1), user 1 (items 1, 2).
GRAPH = TrainingGraph(2, 3, torch.tensor([[0, 0, 1, 1], [0, 1, 1, 2]]))


@pytest.mark.parametrize('power', [1.0, 0.5])
def test_hops_by_hand(power):
    # a = 1: entries 1/2 in both rows, Q_01 = Q_12 = 1/4 and 1/2 after the root, Q_02 = 0.
    entry = 0.25**power
    one, two = (
        GraphFilter(GRAPH, user_power=1.0, power=power, hops=hops, k=3).score(torch.tensor([0]))
        for hops in (1, 2)
    )
    assert one.tolist()[0] == pytest.approx([entry, entry, entry])
    assert two.tolist()[0] == pytest.approx([entry**2, 2 * entry**2, entry**2])


@pytest.mark.parametrize('arguments', [dict(hops=3), dict(power=0.0), dict(k=0)])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        GraphFilter(GRAPH, **arguments)
