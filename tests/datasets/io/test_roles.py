"""Columns are found by usual names, and what is not clear is asked for."""

import pytest

from genrec_pyg.datasets.io.roles import check_columns, check_roles, find_columns
from genrec_pyg.exceptions import ConfigError


@pytest.mark.parametrize(
    'names,expected',
    [
        (['user_id', 'Item ID', 'Time-Stamp'], ('user_id', 'Item ID', 'Time-Stamp')),
        (['reviewerID', 'asin', 'unixReviewTime'], ('reviewerID', 'asin', 'unixReviewTime')),
        (
            ['user_id:token', 'item_id:token', 'ts:float'],
            ('user_id:token', 'item_id:token', 'ts:float'),
        ),
    ],
)
def test_usual_names(names, expected):
    found = find_columns([*names, 'note'], {}, 'log')
    assert tuple(found[role] for role in ('user', 'item', 'time')) == expected and len(found) == 3


def test_products_of_amazon_reviews_2023_are_listed_by_their_parent():
    assert find_columns(['user_id', 'asin', 'parent_asin'], {}, 'log')['item'] == 'parent_asin'


def test_a_column_that_is_named_counts_before_usual_names():
    names = ['user', 'uid', 'item', 'when']
    found = find_columns(names, {'user': 'uid', 'time': 'when'}, 'log')
    assert found == {'user': 'uid', 'item': 'item', 'time': 'when'}
    # taken for one role, a usual name is none of another
    assert find_columns(['user', 'date', 'item'], {'rating': 'date'}, 'log') == {
        'user': 'user',
        'item': 'item',
        'rating': 'date',
    }


def test_other_roles_than_those_of_a_log():
    names = ['item_id', 'productName', 'user']
    found = find_columns(names, None, 'items', ('item', 'title'), ('item', 'title'))
    assert found == {'item': 'item_id', 'title': 'productName'}


@pytest.mark.parametrize(
    'names,columns,message',
    [
        (['user', 'item', 'uid'], {}, r"'user', 'uid' may all be the user; say which .*user=NAME"),
        (['user', 'thing'], {}, r"none of its columns \('user', 'thing'\) is known as item"),
        (['user', 'thing'], None, 'accepted is one column called item, itemid'),
        (['user', 'item'], {'time': 'when'}, '--columns time=when: there is no such column'),
        (['user', 'item', 'x', 'x'], {'time': 'x'}, 'there are several such column'),
    ],
)
def test_what_is_missing_or_not_clear_is_named(names, columns, message):
    with pytest.raises(ConfigError, match=f'^log: .*{message}'):
        find_columns(names, columns, 'log')


def test_columns_are_checked_against_the_file():
    check_columns(['1', '2'], {'user': '1', 'item': '2'}, 'log', ('user', 'item'))
    with pytest.raises(ConfigError, match='numbers from 1 where there is no header'):
        check_columns(['1', '2'], {'user': '1'}, 'log', ('user', 'item'))


def test_only_roles_have_columns():
    given = {'user': 'who'}
    found = check_roles(given)
    assert found == given and found is not given and check_roles(None) == {}
    with pytest.raises(ConfigError, match="columns: got 'usr', accepted are user, item"):
        check_roles({'usr': 'who'})
