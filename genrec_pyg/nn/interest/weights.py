r"""Weights of a mixture of scores, found on validation."""

from __future__ import annotations

from collections.abc import Sequence

from genrec_pyg.nn.interest.held_out import CandidateScores

#: Values that a weight may take.
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)


def mixture_weights(
    candidates: CandidateScores,
    names: Sequence[str],
    starts: Sequence[dict[str, float]] = (),
) -> tuple[dict[str, float], dict[str, float], float]:
    r"""Weights of a mixture by coordinate search from the best single function and from other
    starts, so that it is at least as good as each.

    Args:
        candidates: Scores of the functions.
        names: Their names, in the same order.
        starts: Further weights to start from; those that are not named are 0.

    Returns:
        Weights, the recall of every single function, and that of the mixture.
    """
    single = {name: candidates.recall([float(other == name) for other in names]) for name in names}
    found = [
        coordinate_search(
            {name: start.get(name, 0.0) for name in names},
            lambda weights: candidates.recall(list(weights.values())),
        )
        for start in ({max(names, key=single.get): 1.0}, *starts)
    ]
    weights, value = max(found, key=lambda entry: entry[1])
    return weights, single, value


def best_share(candidates: CandidateScores) -> float:
    r"""Weight in [0, 1] of the second of two functions beside the first, in steps of a tenth; the
    middle one of those that are equally good. 0 and 1 are among them, so that the mixture is at
    least as good as either.
    """
    found = {step / 10: candidates.recall([1 - step / 10, step / 10]) for step in range(11)}
    best = max(found.values())
    equal = [share for share, recall in found.items() if recall == best]
    return equal[len(equal) // 2]


def coordinate_search(
    weights: dict[str, float], measure, values: Sequence[float] = WEIGHTS, num_rounds: int = 2
) -> tuple[dict[str, float], float]:
    r"""Moves one weight after the other to its best value while that is better; at least one stays
    positive.

    Args:
        weights: Where to start.
        measure: Function of the weights.
        values: Values tried.
        num_rounds: Rounds over the weights.

    Returns:
        The weights and their value.
    """
    best = measure(weights)
    for _ in range(num_rounds):
        before = best
        for name in weights:
            for value in values:
                candidate = {**weights, name: value}
                if value == weights[name] or not any(candidate.values()):
                    continue
                found = measure(candidate)
                if found > best:
                    best, weights = found, candidate
        if best <= before:
            break
    return weights, best
