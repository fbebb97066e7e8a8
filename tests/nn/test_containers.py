import copy
import pickle

import pytest
import torch

from genrec_pyg.nn.containers import ModuleDict, ParameterDict

NAMES = [
    'image',
    'type',
    'keys',
    'values',
    'items',
    'forward',
    'training',
    'train',
    'pop',
    'update',
    'parameters',
    'to',
    'clip.v1',
    'clip#v1',
    '<type>',
    'a%2Eb',
    'a.b%',
    '.',
    '',
    '_modules',
    '_keys',
    '_parameters',
    'get',
    'name@x',
    'ünï',
    'with space',
    '42',
    '__class__',
    '_escape',
    '_reserved',
]


def fill(kind):
    entries = {
        name: torch.nn.Linear(1, number + 1)
        if kind is ModuleDict
        else torch.nn.Parameter(torch.ones(number + 1))
        for number, name in enumerate(NAMES)
    }
    container = kind()
    for name, entry in entries.items():
        container[name] = entry
    return container, entries


@pytest.mark.parametrize('kind', [ModuleDict, ParameterDict])
def test_every_name_is_a_key(kind):
    container, entries = fill(kind)
    assert list(container) == list(container.keys()) == NAMES and len(container) == len(NAMES)
    assert all(container[name] is entry and name in container for name, entry in entries.items())
    assert dict(container.items()) == entries and list(container.values()) == list(entries.values())
    assert 'absent' not in container and 1 not in container
    made = kind(entries)
    assert dict(made.items()) == entries
    del made['clip.v1']
    assert 'clip.v1' not in made and 'clip#v1' in made
    assert sum(1 for _ in container.parameters()) == len(NAMES) * (2 if kind is ModuleDict else 1)
    assert container.train().training is True and container.to(torch.float64) is container


@pytest.mark.parametrize('kind', [ModuleDict, ParameterDict])
def test_states_and_copies_keep_their_names(kind):
    container, _ = fill(kind)
    state = container.state_dict()
    assert len(state) == len({key.split('.')[0] for key in state}) * (
        2 if kind is ModuleDict else 1
    )
    other, _ = fill(kind)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    for copied in (other, copy.deepcopy(container), pickle.loads(pickle.dumps(container))):
        assert list(copied) == NAMES
        assert all(torch.equal(a, b) for a, b in zip(copied.parameters(), container.parameters()))


def test_names_that_torch_takes_are_keys_of_the_state_as_they_are():
    names = ['image', 'text', 'clip#v1', '<type>', 'a%2Eb', 'ünï', 'with space', '42']
    entries = {name: torch.nn.Linear(1, 1) for name in names}
    assert (
        ModuleDict(entries).state_dict().keys() == torch.nn.ModuleDict(entries).state_dict().keys()
    )
    values = {name: torch.nn.Parameter(torch.ones(1)) for name in names}
    assert (
        ParameterDict(values).state_dict().keys()
        == torch.nn.ParameterDict(values).state_dict().keys()
    )


def test_parameters_keep_the_order_in_which_they_were_given():
    names = ['text', 'image', 'audio']
    assert (
        list(ParameterDict({name: torch.nn.Parameter(torch.zeros(1)) for name in names})) == names
    )
    assert list(ParameterDict()) == []
