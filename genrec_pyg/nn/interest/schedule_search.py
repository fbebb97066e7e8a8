r"""Finds the flip schedule of the kernel of an interest on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from genrec_pyg.nn.closed_form import ItemKernel
from genrec_pyg.nn.interest.config import InterestConfig
from genrec_pyg.nn.interest.held_out import HeldOutLists, Score
from genrec_pyg.nn.interest.schedule import FlipSchedule, KernelPath, popularity_discount
from genrec_pyg.nn.interest.views import Views

#: Values that the settings of a schedule may take.
RIDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
RIDGE_POWERS = (0.0, 0.15, 0.3)
ROW_WEIGHTS = (0.0, 0.25, 0.5)
DISCOUNTS = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5)

#: Most items of which all eigenpairs are found.
MAX_DECOMPOSED = 2_048
#: Items to the third power, over all inverses tried for the ridge of a larger catalog: a dozen
#: seconds of one core.
TRIAL_OPERATIONS = 2.5e11

#: Recall of a schedule.
Measure = Callable[[FlipSchedule], float]


class ScheduleSearch:
    r"""Search of a schedule along the grids of its settings, one setting after the other.

    Args:
        views: Views of the items.
        held_out: Validation users; without them the settings are the defaults.
        config: Settings, of which numbers are kept.

    Attributes:
        curve: Schedules tried, with the rank of the kernel and the recall.
    """

    def __init__(self, views: Views, held_out: HeldOutLists | None, config: InterestConfig):
        self.views, self.held_out, self.config = views, held_out, config
        self.pinned = {
            name: value
            for name in vars(FlipSchedule())
            if (value := getattr(config, name)) != 'auto'
        }
        self.start = replace(FlipSchedule(), **self.pinned)
        self.curve: list[dict[str, Any]] = []

    @property
    def searches(self) -> bool:
        r"""Whether anything is to be found."""
        return self.held_out is not None and len(self.pinned) < len(vars(self.start))

    def low_rank(self) -> tuple[FlipSchedule, KernelPath]:
        r"""Schedule and path of the kernel of the leading eigenpairs."""
        return self._best(self.config.rank)

    def whole(self, schedule: FlipSchedule) -> tuple[FlipSchedule, ItemKernel]:
        r"""Schedule and matrix of the whole kernel, given the schedule of its leading eigenpairs.
        Truncation regularizes too, so that the whole kernel wants another ridge: found on all
        eigenpairs of a small catalog, on a few inverses of a larger one.
        """
        num_items = self.views.graph.num_items
        if self.searches and self.config.rank < num_items:
            if num_items > MAX_DECOMPOSED:
                return self._by_inverses(schedule)
            schedule, _ = self._best(num_items)
        return schedule, self.views.whole_kernel(schedule)

    def sparse(self, schedule: FlipSchedule, path: KernelPath) -> tuple[FlipSchedule, ItemKernel]:
        r"""Schedule and kernel as low rank plus sparse: ridge and discount once more, with the
        entries that the leading eigenpairs leave out.
        """
        views, kernels = self.views, self.views.sparse_path(path, schedule)
        found: dict[FlipSchedule, float] = {}

        def measure(candidate: FlipSchedule) -> float:
            if candidate not in found:
                kernel = views.discounted(kernels.kernel(candidate.ridge), candidate)
                found[candidate] = self._recall(
                    candidate,
                    lambda user: kernel(views.histories(user)),
                    rank=self.config.rank,
                    entries=kernel.neighbors.nnz,
                )
            return found[candidate]

        if self.searches:
            schedule = self._climb(schedule, measure)
        return schedule, views.discounted(kernels.kernel(schedule.ridge), schedule)

    def _best(self, rank: int) -> tuple[FlipSchedule, KernelPath]:
        r"""The schedule of the best kernel of a rank: ridge and discount on one eigendecomposition,
        the two powers one after the other.
        """
        if not self.searches:
            return self.start, self._path(self.start, rank)
        best = self._best_ridge(self.start, rank)
        for name, values in (('row_weight', ROW_WEIGHTS), ('ridge_power', RIDGE_POWERS)):
            if name in self.pinned:
                continue
            for value in values:
                if value != getattr(best[1], name):
                    found = self._best_ridge(replace(best[1], **{name: value}), rank)
                    best = found if found[0] > best[0] else best
        return best[1:]

    def _path(self, schedule: FlipSchedule, rank: int) -> KernelPath:
        return KernelPath(self.views.statistics(schedule.row_weight), schedule.ridge_power, rank)

    def _best_ridge(
        self, schedule: FlipSchedule, rank: int
    ) -> tuple[float, FlipSchedule, KernelPath]:
        path = self._path(schedule, rank)
        found: dict[FlipSchedule, float] = {}

        def measure(candidate: FlipSchedule) -> float:
            if candidate not in found:
                discount = popularity_discount(self.views.degree, candidate.discount)
                key = path.keys(candidate.ridge) * discount.unsqueeze(1)
                found[candidate] = self._recall(
                    candidate, lambda user: path.history[user] @ key.t(), rank=rank
                )
            return found[candidate]

        for _ in range(2):
            before, schedule = schedule, self._climb(schedule, measure)
            if schedule == before:
                break
        return measure(schedule), schedule, path

    def _by_inverses(self, schedule: FlipSchedule) -> tuple[FlipSchedule, ItemKernel]:
        num_items = self.views.graph.num_items
        kernel, trials = self.views.whole_kernel(schedule), int(TRIAL_OPERATIONS / num_items**3)
        if 'ridge' in self.pinned or trials < 1:
            return schedule, kernel

        def measure(candidate: FlipSchedule, matrix: ItemKernel) -> float:
            discount = popularity_discount(self.views.degree, candidate.discount)
            return self._recall(
                candidate,
                lambda user: matrix(self.views.histories(user)) * discount,
                rank=num_items,
            )

        best = measure(schedule, kernel)
        for ridges in (
            [v for v in RIDGES if v > schedule.ridge],
            [v for v in reversed(RIDGES) if v < schedule.ridge],
        ):
            start = schedule
            for ridge in ridges[:trials]:
                trials -= 1
                candidate = replace(schedule, ridge=ridge)
                matrix = self.views.whole_kernel(candidate)
                recall = measure(candidate, matrix)
                if recall <= best:
                    break
                best, schedule, kernel = recall, candidate, matrix
            if schedule is not start:
                break
        if 'discount' not in self.pinned:
            schedule = climb(
                schedule, 'discount', DISCOUNTS, lambda candidate: measure(candidate, kernel)
            )
        return schedule, kernel

    def _recall(self, schedule: FlipSchedule, score: Score, **more: Any) -> float:
        assert self.held_out is not None
        recall = self.held_out.recall(score)
        self.curve.append({**vars(schedule), **more, 'recall': recall})
        return recall

    def _climb(self, schedule: FlipSchedule, measure: Measure) -> FlipSchedule:
        for name, values in (('ridge', RIDGES), ('discount', DISCOUNTS)):
            if name not in self.pinned:
                schedule = climb(schedule, name, values, measure)
        return schedule


def climb(
    schedule: FlipSchedule, name: str, values: Sequence[float], measure: Measure
) -> FlipSchedule:
    r"""Moves one setting along its grid, upward or else downward, while the recall grows.

    Args:
        schedule: Where to start.
        name: Setting.
        values: Grid, ascending; the setting need not start on it.
        measure: Recall of a schedule.
    """
    best = measure(schedule)
    for grid in (values, values[::-1]):
        here = getattr(schedule, name)
        for value in grid:
            if value <= here if grid is values else value >= here:
                continue
            candidate = replace(schedule, **{name: value})
            recall = measure(candidate)
            if recall <= best:
                break
            best, schedule = recall, candidate
        if getattr(schedule, name) != here:
            break
    return schedule
