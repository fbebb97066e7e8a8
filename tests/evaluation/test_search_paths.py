import inspect

import pytest

from genrec_pyg.evaluation.search_paths import PATHS
from genrec_pyg.nn.models import get_model


@pytest.mark.parametrize('name', PATHS)
def test_a_path_names_arguments_of_its_model_and_rising_values(name):
    path = PATHS[name]
    accepted = set(inspect.signature(get_model(name)).parameters)
    assert {*path.fitted, *path.adjusted, *path.start, *path.relative} <= accepted
    assert not path.fitted.keys() & path.adjusted.keys()
    for values in (*path.fitted.values(), *path.adjusted.values()):
        assert list(values) == sorted(set(values))


@pytest.mark.parametrize('name', PATHS)
def test_starts_lie_within_what_is_tried(name):
    path = PATHS[name]
    for start in (path.start, *path.others):
        for setting, values in {**path.fitted, **path.adjusted}.items():
            if setting in start:
                assert values[0] <= start[setting] <= values[-1]
