"""Bodies within the limits are taken, others named."""

import pytest

pytest.importorskip('pydantic', reason='NO SERVICE IS TESTED: pip install "genrec_pyg[serve]"')

from pydantic import ValidationError

from genrec_pyg.serving.limits import Limits
from genrec_pyg.serving.schemas import make_requests

LIMITS = Limits(lists=2, k=10, history=3, new_items=2)


@pytest.fixture(scope='module')
def requests():
    return make_requests(LIMITS)


def test_defaults(requests):
    body = requests.recommend(users=['a', 3])
    assert (body.users, body.k, body.exclude) == (['a', 3], 20 if body.k == 20 else 10, 'known')
    assert body.candidates is None and body.block == []


@pytest.mark.parametrize(
    'kind,body,place',
    [
        ('recommend', {'users': []}, 'users'),
        ('recommend', {'users': [1, 2, 3]}, 'users'),
        ('recommend', {'users': [1.5]}, 'users'),
        ('recommend', {'users': [True]}, 'users'),
        ('recommend', {'users': [1], 'k': 0}, 'k'),
        ('recommend', {'users': [1], 'k': 11}, 'k'),
        ('recommend', {'users': [1], 'k': '5'}, 'k'),
        ('recommend', {'users': [1], 'exclude': 'all'}, 'exclude'),
        ('recommend', {'users': [1], 'block': [1, 2, 3, 4]}, 'block'),
        ('recommend', {'users': [1], 'more': 1}, 'more'),
        ('fold_in', {'histories': [[]]}, 'histories'),
        ('fold_in', {'histories': [[1, 2, 3, 4]]}, 'histories'),
        ('similar', {'items': ['x' * 1001]}, 'items'),
        ('rank', {'users': [1], 'items': [{'item': 1}]}, 'items'),
        ('rank', {'users': [1], 'items': [{'item': 1, 'features': {}}]}, 'items'),
        ('rank', {'users': [1], 'items': [{'item': 1, 'features': {'t': ['nan']}}]}, 'items'),
    ],
)
def test_what_is_not_accepted_is_named(requests, kind, body, place):
    with pytest.raises(ValidationError) as caught:
        getattr(requests, kind)(**body)
    assert caught.value.errors()[0]['loc'][0] == place


def test_limits_are_part_of_the_description(requests):
    schema = requests.fold_in.model_json_schema()['properties']['histories']
    assert schema['maxItems'] == 2 and schema['items']['maxItems'] == 3
