import pytest

from genrec_pyg.datasets import parse_modalities
from genrec_pyg.exceptions import ConfigError


def test_modalities_of_the_command_line():
    assert parse_modalities(None) is None and parse_modalities([]) == {}
    assert parse_modalities(['image', 'text=all-MiniLM-L6-v2']) == {'image': None, 'text': 'all-MiniLM-L6-v2'}


@pytest.mark.parametrize('names', [['=x'], ['text='], ['image', 'image=a'], ['']])
def test_bad_entries_are_named(names):
    with pytest.raises(ConfigError, match='modalities: got'):
        parse_modalities(names)
