import pytest

from genrec_pyg.datasets.io.item_table import read_titles
from genrec_pyg.exceptions import ConfigError, DataError


def table(folder, text):
    path = folder / 'items.csv'
    path.write_text(text)
    return path


def test_titles_are_found_by_usual_names(tmp_path):
    path = table(tmp_path, 'item_id,price,title\n07,3,"Alien, 1979"\nä b,4,\n')
    assert read_titles(path) == {'07': 'Alien, 1979', 'ä b': ''}


def test_of_several_titles_the_first_in_the_alphabet_counts(tmp_path):
    steps = {}
    path = table(tmp_path, 'item,title\nx,Zulu\ny,M\nx,Alpha\n')
    assert read_titles(path, steps) == {'x': 'Alpha', 'y': 'M'}
    assert steps == {'item table': {'rows': 3, 'rows repeat an item': 1}}


def test_the_column_of_the_log_is_the_column_of_the_table(tmp_path):
    path = table(tmp_path, 'sku,name,item\na,Chair,1\n')
    assert read_titles(path, item='sku') == {'a': 'Chair'}
    assert read_titles(path, item='product') == {'1': 'Chair'}  # no such column here


@pytest.mark.parametrize(
    'text,item,message',
    [
        ('sku,title\na,b\n', None, r"none of its columns \('sku', 'title'\) is known as item"),
        ('sku,label\na,b\n', 'sku', r"none of its columns \('label'\) is known as title"),
        ('item,title,name\na,b,c\n', None, "'title', 'name' may all be the title"),
    ],
)
def test_a_missing_column_is_named(tmp_path, text, item, message):
    with pytest.raises(ConfigError, match=message):
        read_titles(table(tmp_path, text), item=item)


def test_an_empty_id_is_refused(tmp_path):
    with pytest.raises(DataError, match='row 2 has an empty item id'):
        read_titles(table(tmp_path, 'item,title\na,b\n,c\n'))
