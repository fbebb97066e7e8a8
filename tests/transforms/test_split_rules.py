"""Rules of splits on hand-made pairs."""

import pytest
import torch

from genrec_pyg.transforms.split_rules import (
    KNOWN,
    TEST,
    TRAIN,
    VAL,
    drawn_labels,
    last_labels,
    random_labels,
    rank_in_user,
    time_bounds,
    user_labels,
)

USER, DEGREE = torch.tensor([0, 0, 0, 0, 1, 2, 2, 2]), torch.tensor([4, 1, 3])
KEY = torch.tensor([3.0, 0.0, 2.0, 1.0, 9.0, 5.0, 7.0, 6.0])


def test_ranks_start_anew_with_every_user():
    assert rank_in_user(USER, DEGREE, KEY).tolist() == [3, 0, 2, 1, 0, 0, 2, 1]
    # equal keys keep their order, users without pairs take no place
    found = rank_in_user(torch.tensor([1, 1, 3]), torch.tensor([0, 2, 0, 1]), torch.zeros(3))
    assert found.tolist() == [0, 1, 0]


def test_the_smallest_keys_are_held_out_and_a_user_keeps_one_pair():
    offset = torch.zeros(3)
    found = random_labels(USER, DEGREE, KEY, offset, 0.25, 0.25)
    # of 4 pairs 1 and 1, of 1 none, of 3 the whole part of 0.75 and that of 1.5 for both
    assert found.tolist() == [TRAIN, TEST, TRAIN, VAL, TRAIN, VAL, TRAIN, TRAIN]
    # an offset rounds up with the probability of the fraction
    found = random_labels(USER, DEGREE, KEY, torch.tensor([0.0, 0.9, 0.5]), 0.25, 0.25)
    assert found.tolist()[4:] == [TRAIN, TEST, TRAIN, VAL]
    everything = random_labels(USER, DEGREE, KEY, torch.full((3,), 0.99), 0.0, 0.99)
    assert everything.tolist() == [TRAIN, TEST, TEST, TEST, TRAIN, TEST, TRAIN, TEST]
    assert (random_labels(USER, DEGREE, KEY, offset, 0.25, None) != TEST).all()


def test_the_last_two_are_held_out_from_three_pairs_on():
    found = last_labels(USER, DEGREE, KEY)
    assert found.tolist() == [TEST, TRAIN, VAL, TRAIN, TRAIN, TRAIN, TEST, VAL]
    short = last_labels(torch.tensor([0, 0]), torch.tensor([2]), torch.tensor([1, 2]))
    assert short.tolist() == [TRAIN, TRAIN]


@pytest.mark.parametrize('share,known', [(0.5, [1, 3]), (0.0, []), (1.0, [0, 1, 2, 3])])
def test_held_out_users_keep_their_first_pairs_as_known(share, known):
    of_user = torch.tensor([TEST, TRAIN, VAL])
    found = user_labels(USER, DEGREE, KEY, of_user, share)
    assert (found[:4] == KNOWN).nonzero().flatten().tolist() == known
    assert found[4] == TRAIN and set(found[5:].tolist()) <= {VAL, KNOWN}
    # 0.7 x 10 is 7
    ten = user_labels(
        torch.zeros(10, dtype=torch.long),
        torch.tensor([10]),
        torch.arange(10),
        torch.tensor([TEST]),
        0.7,
    )
    assert ten.tolist() == [KNOWN] * 7 + [TEST] * 3


def test_shares_of_users_and_items_are_of_those_that_are_active():
    active = torch.arange(0, 40, 2)
    found = drawn_labels(active, 40, 0.1, 0.25, 3)
    assert [(found == split).sum().item() for split in (TRAIN, VAL, TEST)] == [33, 2, 5]
    assert (found[1::2] == TRAIN).all()
    assert torch.equal(found, drawn_labels(active, 40, 0.1, 0.25, 3))
    assert not torch.equal(found, drawn_labels(active, 40, 0.1, 0.25, 4))


def test_bounds_of_time():
    assert time_bounds(10, 0.2, 0.1) == (7, 9)
    assert time_bounds(10, 0.2, None) == (8, 10)
    assert time_bounds(7, 0.1, 0.1) == (5, 6)
