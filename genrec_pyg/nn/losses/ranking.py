r"""Losses shared by the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import info_nce, rows_per_block, unit_info_nce, unit_rows
from genrec_pyg.utils.collectives import batch_is_shared, batch_rows

#: Accepted shapes of :func:`row_penalty`.
ROW_PENALTIES = ('frobenius', 'l2', 'mean_square')


def bpr_loss(
    user: Tensor, positive: Tensor, negative: Tensor, mask: Tensor | None = None
) -> Tensor:
    r"""Bayesian personalized ranking (Rendle et al., UAI 2009).

    .. math::
        \mathcal{L} = \frac{1}{B} \sum_k \mathrm{softplus}\left(
        \mathbf{u}_k \cdot \mathbf{i}^-_k - \mathbf{u}_k \cdot \mathbf{i}^+_k \right)

    Args:
        user: User rows ``[B, d]``.
        positive: Rows of interacted items ``[B, d]``.
        negative: Rows of sampled items ``[B, d]``.
        mask: Triples that take part, boolean ``[B]``; all by default. If none does, the loss is 0.

    Returns:
        Scalar, divided by the true size of the batch, or by the number of triples that take part.
    """
    return _mean(F.softplus((user * (negative - positive)).sum(dim=-1)), mask)


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    return x.mean() if mask is None else (x * mask).sum() / mask.sum().clamp(min=1)


def hinge_loss(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    r"""Mean of :math:`\max(0, 1 - s^+ + s^-)`; arguments as in :func:`bpr_loss`."""
    return F.relu(1 - (user * (positive - negative)).sum(dim=-1)).mean()


def squared_norm(*tables: Tensor) -> Tensor:
    r"""Sum of the squared entries of all ``tables``; times :math:`\lambda` it is the L2 penalty on
    whole tables.
    """
    return sum(table.square().sum() for table in tables)


def batch_l2(*rows: Tensor) -> Tensor:
    r"""Half the squared norm of the gathered ``rows`` per triple, with multiplicity.

    .. math::
        \frac{1}{2B} \sum_k \left( \Vert \mathbf{u}_k \Vert^2 + \Vert \mathbf{i}^+_k \Vert^2 +
        \Vert \mathbf{i}^-_k \Vert^2 \right)

    Weights published for other forms of the penalty have to be converted: the most common one, an
    unsquared Frobenius norm over the batch, is weaker by that norm.

    Args:
        rows: Tables of ``B`` rows each.
    """
    return squared_norm(*rows) / (2 * rows[-1].size(0))


def row_penalty(*tables: Tensor, shape: str = 'l2') -> Tensor:
    r"""L2-type penalty on ``tables`` in one of the forms used in the literature; an equal weight
    means something else in each.

    ===============  ===============================================================================
    ``shape``        penalty
    ===============  ===============================================================================
    ``frobenius``    :math:`\frac{1}{n} \sum_k \Vert \mathbf{T}_k \Vert_F`, not squared: its pull on
                     a row fades as the tables grow
    ``l2``           :math:`\frac{1}{2n} \sum_k \Vert \mathbf{T}_k \Vert_F^2`, :func:`batch_l2` for
                     rows of a batch
    ``mean_square``  :math:`\sum_k` of the mean of the squared entries of :math:`\mathbf{T}_k`
    ===============  ===============================================================================

    Args:
        tables: Tables ``[n_k, d_k]``; :math:`n` is the number of rows of the last.
        shape: A name of :data:`ROW_PENALTIES`.

    Raises:
        ConfigError: If ``shape`` is unknown.
    """
    if shape == 'frobenius':
        return sum(torch.linalg.vector_norm(table) for table in tables) / tables[-1].size(0)
    if shape == 'l2':
        return batch_l2(*tables)
    if shape == 'mean_square':
        return sum(table.square().mean() for table in tables)
    raise ConfigError(f'shape: got {shape!r}, accepted are {", ".join(map(repr, ROW_PENALTIES))}')


def bank_contrast(
    first: Tensor, second: Tensor, index: Tensor, temperature: float, symmetric: bool = False
) -> Tensor:
    r"""InfoNCE of a node in one view against all nodes of its type in another (SGL: Wu et al.,
    SIGIR 2021, Eq. 10).

    Args:
        first: View of the anchors ``[n, d]``.
        second: View of the bank ``[n, d]``.
        index: Anchors ``[B]``; a repeated node counts as often as it occurs.
        temperature: Temperature :math:`\tau`.
        symmetric: Whether both directions are averaged.
    """
    loss = info_nce(first[index], None, temperature, second, index)
    if symmetric:
        loss = (loss + info_nce(second[index], None, temperature, first, index)) / 2
    return loss


def two_view_contrast(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""InfoNCE of a node in one view with itself in another, against all other nodes in both views
    (GRACE: Zhu et al., 2020, https://arxiv.org/abs/2006.04131, in one direction).

    .. math::
        \frac{1}{n} \sum_k -\log \frac{e^{\cos(\mathbf{x}_k, \mathbf{y}_k) / \tau}}{\sum_j
        e^{\cos(\mathbf{x}_k, \mathbf{y}_j) / \tau} + \sum_{j \neq k} e^{\cos(\mathbf{x}_k,
        \mathbf{x}_j) / \tau}}

    Args:
        first: View of the anchors ``[n, d]``.
        second: The other view ``[n, d]``.
        temperature: Temperature :math:`\tau`, positive.
    """
    x, y = unit_rows(first), unit_rows(second)
    own = torch.arange(x.size(0), device=x.device)
    return unit_info_nce(x, y, temperature, torch.cat([x, y]), excluded=own)


def challenged_contrast(
    x: Tensor, y: Tensor, extra: Tensor, temperature: float, own: bool = False
) -> Tensor:
    r"""In-batch InfoNCE with one challenging negative made from every row (MMGCL: Yi et al., SIGIR
    2022).

    Anchors pass in blocks, and backward computes those of a block again where there are several.

    Args:
        x: Anchors ``[n, d]``.
        y: Positives ``[n, d]``; those of other rows are negatives.
        extra: Challenging negatives ``[n, d]``, row ``j`` made from ``y`` row ``j``.
        temperature: Temperature :math:`\tau`.
        own: Whether anchor ``k`` meets row ``k`` of ``extra`` alone, or all but row ``k``.
    """
    x, y, extra = unit_rows(x), unit_rows(y), unit_rows(extra)
    num_rows = x.size(0)

    def total(anchors: Tensor, index: Tensor) -> Tensor:
        if own:
            hard = (anchors * extra[index]).sum(dim=1, keepdim=True)
        else:
            hard = (anchors @ extra.t()).scatter(1, index.unsqueeze(1), -torch.inf)
        return F.cross_entropy(
            torch.cat([anchors @ y.t(), hard], dim=1) / temperature, index, reduction='sum'
        )

    blocks = torch.arange(num_rows, device=x.device).split(rows_per_block(2 * num_rows, num_rows))
    if len(blocks) == 1:
        return total(x, blocks[0]) / num_rows
    return (
        sum(checkpoint(total, x[index], index, use_reentrant=False) for index in blocks) / num_rows
    )


def cosine_distance(online: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Mean cosine distance :math:`1 - \cos(\mathbf{a}_k, \mathrm{sg}(\mathbf{b}_k))` of rows, in
    [0, 2]; the target has no gradient.

    Args:
        online: Rows :math:`\mathbf{a}` ``[n, d]``.
        target: Rows :math:`\mathbf{b}` ``[n, d]``.
        mask: Rows that take part, boolean ``[n]``; all by default. If none does, the distance is 0.
    """
    return _mean(1 - (unit_rows(online) * unit_rows(target.detach())).sum(dim=1), mask)


def first_of_list(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Softmax cross-entropy of lists ``[B, 1 + n]`` whose first entry is the positive.

    With all logits equal it is :math:`\log(1 + n)`; with ``n = 1`` it is :func:`bpr_loss`.

    Args:
        logits: Scores over temperature.
        mask: Entries that do not take part, boolean; they count as :math:`-\infty`.

    Raises:
        ConfigError: If shapes differ.
    """
    if mask is not None:
        if mask.shape != logits.shape:
            raise ConfigError(
                f'mask: got shape {tuple(mask.shape)}, accepted is that of the logits, '
                f'{tuple(logits.shape)}'
            )
        logits = logits.masked_fill(mask, -torch.inf)
    return (logits.logsumexp(dim=1) - logits[:, 0]).mean()


def grouped_info_nce(x: Tensor, y: Tensor, temperature: float, group_size: int) -> Tensor:
    r"""In-batch InfoNCE within groups of rows, so that its cost grows linearly with the batch.

    Rows are cut into equal groups of about ``group_size`` in the order of the batch, which is
    random; with one group it is :func:`genrec_pyg.ops.info_nce`. Where processes share a batch
    (:func:`genrec_pyg.utils.collectives.shared_batch`), the groups are those of the whole batch and
    the mean runs over the anchors of this process.

    Args:
        x: Anchors ``[B, d]``.
        y: Positives ``[B, d]``; those of the other rows of a group are its negatives.
        temperature: Temperature :math:`\tau`.
        group_size: Wanted rows per group.

    Returns:
        Scalar mean over all rows.
    """
    x, y = unit_rows(x), unit_rows(y)  # once, not in every group
    bank, first = batch_rows(y)
    num_rows = bank.size(0)
    num_groups = max(1, round(num_rows / group_size))
    length = -(-num_rows // num_groups)
    # one process: by split, whose backward joins the gradients once and not once per group
    if bank is y:
        groups = zip(x.split(length), y.split(length))
        return sum(unit_info_nce(a, b, temperature) * a.size(0) for a, b in groups) / x.size(0)
    terms = []
    for begin in range(0, num_rows, length):
        low, high = max(begin - first, 0), min(begin + length - first, x.size(0))
        if low < high:
            group = unit_info_nce(
                x[low:high], y[low:high], temperature, bank[begin : begin + length]
            )
            terms.append(group * (high - low))
    return sum(terms) / x.size(0)


def loss_in_parts(
    terms: Callable[[Sequence[Tensor], Tensor], dict[str, Tensor]],
    tables: Sequence[Tensor],
    batch: Tensor,
    part_rows: int,
) -> dict[str, Tensor]:
    r"""Computes the loss in chunks so that peak memory does not grow with the batch size.

    What made ``tables``, say a propagation over the whole graph, runs forward and backward once;
    only the terms are computed and differentiated part by part, and the gradients of the tables are
    summed. Their graph is built here if gradients are recorded, so second derivatives through a
    batch of several parts do not exist.

    Args:
        terms: Terms on detached tables and one part of the batch, each a mean over its rows.
        tables: Tensors with gradient that ``terms`` reads.
        batch: Rows ``[B, ...]``.
        part_rows: Most rows per part, rounded up so that parts have equal lengths. Where processes
            share a batch, every process takes its rows in one part, because the rows of different
            processes meet.

    Returns:
        The terms, each the mean over all rows. Only the gradient of their **sum** is defined; it is
        attached to the first.
    """
    num_rows = batch.size(0)
    num_parts = -(-num_rows // part_rows)
    if num_parts <= 1 or batch_is_shared():
        return terms(tables, batch)
    leaves = [
        table.detach().requires_grad_(table.requires_grad and torch.is_grad_enabled())
        for table in tables
    ]
    total: dict[str, Tensor] = {}
    for part in batch.tensor_split(num_parts):
        found = {
            name: value * (part.size(0) / num_rows) for name, value in terms(leaves, part).items()
        }
        loss = sum(found.values())
        if loss.requires_grad:
            loss.backward()
        for name, value in found.items():
            total[name] = total.get(name, 0) + value.detach()
    carrier = sum(
        (table * leaf.grad).sum() for table, leaf in zip(tables, leaves) if leaf.grad is not None
    )
    first = next(iter(total))
    if torch.is_tensor(carrier):
        total[first] = total[first] + (carrier - carrier.detach())
    return total
