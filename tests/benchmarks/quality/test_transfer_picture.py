import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.quality.transfer_picture import COLUMNS, PANEL, bars, picture


def runs(*tests):
    return {str(seed): {'test': value} for seed, value in enumerate(tests)}


SYSTEMS = {
    'A': runs(0.1),
    'B': runs(0.3),
    'GenRec': runs(0.2, 0.4),
    'C': runs(0.2),
    'D': runs(0.25),
}


def test_genrec_comes_first_then_the_best_others():
    found = bars(SYSTEMS)
    assert [name for name, *_ in found] == ['GenRec', 'B', 'D', 'C']
    assert found[0][1:] == pytest.approx((0.3, 0.02**0.5)) and found[1][1:] == (0.3, None)


def test_bars_are_proportional_and_stay_within_their_panel():
    data = {'runs': {'first': SYSTEMS, 'second': {'GenRec': runs(0.1), 'A': runs(0.05)}}}
    data['runs']['GenRec alone'] = {'GenRec': runs(0.1)}
    root = ElementTree.fromstring(picture(data))
    space = '{http://www.w3.org/2000/svg}'
    width = [float(rect.get('width')) for rect in root.iter(f'{space}rect')]
    assert len(width) == 6 and width[5] == pytest.approx(width[4] / 2)
    assert width[1] == width[0] and width[3] == pytest.approx(width[0] * 2 / 3, abs=0.1)
    texts = [(float(text.get('x')), text.text) for text in root.iter(f'{space}text')]
    assert 'GenRec alone' not in [text for _, text in texts]
    for x, text in texts:  # eight pixels a character are more than the font takes
        assert (x % PANEL) + 8 * len(text) <= PANEL
    assert float(root.get('width')) == COLUMNS * PANEL
