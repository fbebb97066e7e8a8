import pytest
import torch

from genrec_pyg.graph import training_graph
from genrec_pyg.nn.interest import FlipSchedule, HeldOutLists, InterestConfig, schedule_search
from genrec_pyg.nn.interest.schedule_search import RIDGES, ScheduleSearch, climb
from genrec_pyg.nn.interest.views import Views


@pytest.mark.parametrize(
    'start,best,tried',
    [
        (8.0, 32.0, [8.0, 16.0, 32.0, 64.0]),
        (8.0, 2.0, [8.0, 16.0, 4.0, 2.0, 1.0]),
        (8.0, 8.0, [8.0, 16.0, 4.0]),
        (512.0, 1024.0, [512.0, 1024.0]),
        (3.0, 4.0, [3.0, 4.0, 8.0]),
    ],
)
def test_a_setting_climbs_while_the_recall_grows(start, best, tried):
    seen = []

    def measure(schedule):
        seen.append(schedule.ridge)
        return -abs(schedule.ridge - best)

    found = climb(FlipSchedule(ridge=start), 'ridge', RIDGES, measure)
    assert found == FlipSchedule(ridge=best) and seen == tried


def search_of(data, **settings):
    config = InterestConfig(rank=16, **settings)
    return ScheduleSearch(
        Views(training_graph(data), 16, 20, config.max_items), HeldOutLists(data), config
    )


@pytest.mark.parametrize('decomposed', [True, False])
def test_the_whole_kernel_is_at_least_as_good_as_with_the_schedule_of_its_leading_eigenpairs(
    demo_data, monkeypatch, decomposed
):
    if not decomposed:
        monkeypatch.setattr(schedule_search, 'MAX_DECOMPOSED', 10)
    search = search_of(demo_data)
    leading, _ = search.low_rank()
    schedule, kernel = search.whole(leading)
    assert torch.equal(kernel.weight, search.views.whole_kernel(schedule).weight)

    def recall(candidate):
        search.views.add_whole(search.views.whole_kernel(candidate), candidate)
        return search.held_out.recall(search.views.score('kernel'))

    found = [entry for entry in search.curve if entry['rank'] == 80]
    assert recall(schedule) == pytest.approx(max(entry['recall'] for entry in found), abs=1e-3)
    assert recall(schedule) >= recall(leading)


@pytest.mark.parametrize('budget', [0, 1, 2])
def test_no_more_inverses_are_tried_than_the_budget_allows(demo_data, monkeypatch, budget):
    monkeypatch.setattr(schedule_search, 'MAX_DECOMPOSED', 10)
    monkeypatch.setattr(schedule_search, 'TRIAL_OPERATIONS', budget * 80.0**3)
    search = search_of(demo_data, discount=0.0)
    made = []
    whole_kernel = search.views.whole_kernel
    monkeypatch.setattr(
        search.views,
        'whole_kernel',
        lambda schedule: made.append(schedule) or whole_kernel(schedule),
    )
    search.whole(FlipSchedule(ridge=64.0, discount=0.0))
    assert len(made) == 1 + budget


def test_numbers_are_kept_and_without_users_the_defaults_taken(demo_data):
    search = search_of(demo_data, ridge=3.0, row_weight=0.1)
    schedule, path = search.low_rank()
    assert (schedule.ridge, schedule.row_weight) == (3.0, 0.1) and search.curve
    assert {entry['ridge'] for entry in search.curve} == {3.0}
    without = ScheduleSearch(search.views, None, InterestConfig(rank=16, ridge=3.0))
    assert (
        without.low_rank()[0] == FlipSchedule(ridge=3.0)
        and without.whole(without.start)[0] == without.start
    )
    assert without.sparse(without.start, path)[0] == without.start and without.curve == []
