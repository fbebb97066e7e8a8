import pytest

from genrec_pyg.evaluation import check_row


@pytest.mark.parametrize(
    'row,bad',
    [
        ((0.1165, 0.0058, 0.0492), None),
        ((0.0346, 0.0017, 0.0130), None),
        ((0.0346, 0.0017, 0.0030), 'ndcg'),  # the published MF-BPR row lost a digit
        ((0.0662, 0.0029, 0.0267), 'precision'),  # the published HCCF row
        ((1.2, 0.1, 0.5), 'recall'),
    ],
)
def test_published_rows(row, bad):
    found = check_row(*row, k=20)
    assert (not found) if bad is None else any(sentence.startswith(bad) for sentence in found)
