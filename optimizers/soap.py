"""SOAP, Adam in the eigenbasis of Shampoo's preconditioner. Vyas et al. 2024, arXiv 2409.11321, algorithm 3."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers.adam import calculate_adam_update
from optimizers.rule import (
    Betas,
    ParamGroup,
    Rule,
    Scalar,
    bias_correction,
    check_at_least,
    check_betas,
    check_count,
    check_fraction,
    ema_,
    normalize,
    zeros_state,
)
from optimizers.rule_optimizer import RuleOptimizer

NULL = 1e-6  # an eigenvalue below this part of the largest is 0


def calculate_soap_update(
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    gram_left: Tensor,
    gram_right: Tensor,
    basis_left: Tensor,
    basis_right: Tensor,
    *,
    betas: Betas,
    shampoo_beta: Scalar | None,
    eps: Scalar,
    correct_bias: bool,
    precondition_frequency: int,
    step: int,
) -> Tensor:
    r"""The direction of a parameter of two or more axes, which is seen as `[shape[0], -1]`.

    $$m = \beta_1 m + (1 - \beta_1) g, \quad v = \beta_2 v + (1 - \beta_2) (Q_L^T g Q_R)^2, \quad
      u = Q_L \frac{Q_L^T \hat m Q_R}{\sqrt{\hat v} + \epsilon} Q_R^T$$

    $$L = \beta_s L + (1 - \beta_s) g g^T, \quad R = \beta_s R + (1 - \beta_s) g^T g$$

    $Q_L, Q_R$ are the eigenvectors of L and R: after the first step the singular vectors of its gradient, then at every
    `precondition_frequency`-th by one QR step of power iteration, $Q = QR(L Q)$. As in the authors' code, of which the
    paper says nothing, the first step moves nothing, since a gradient in its own eigenbasis is noise off the diagonal;
    and the columns, with the entries of v, are sorted by their eigenvalues before each QR step. Their code adds eps
    before the bias correction; here it is Adam's, so that SOAP with identity bases is Adam.

    Rounding: vectors of close eigenvalues turn by the rounding of their matrix over the gap between them, whoever
    computes them; `svd`, `eigh` and `qr` of a stack are those of each matrix in every bit. So a trial in a pack, whose
    gradients are rounded otherwise, is off by as much as one alone whose weights begin an ulp elsewhere. Singular
    vectors of the gradient see its gaps, eigenvectors of L their squares: a hundred times more on `mlp`.

    eps convention: outside the root, after bias correction.

    Args:
        grad: gradient `[..., *shape]`; left unchanged.
        exp_avg: first moment m, `[..., rows, cols]`; changed in place, like all that follow.
        exp_avg_sq: second moment v in the eigenbasis, `[..., rows, cols]`.
        gram_left: L, `[..., rows, rows]`, or `[..., 0, 0]` where rows are too many to be preconditioned.
        gram_right: R, `[..., cols, cols]`, likewise.
        basis_left: Q_L, in the shape of L.
        basis_right: Q_R, in the shape of R.
        betas: decay rates (beta1, beta2).
        shampoo_beta: decay rate of L and R; None for beta2.
        eps: added to the root of the corrected second moment.
        correct_bias: divide the moments by 1 - beta^(t - 1).
        precondition_frequency: steps from one QR step to the next.
        step: 1-based step count t, a number: it decides what is computed.

    Returns:
        The update before the learning rate, a new tensor in the shape of `grad`.
    """
    (beta1, beta2), matrix = betas, grad.reshape(exp_avg.shape).to(exp_avg.dtype)
    update = torch.zeros_like(matrix)
    if step > 1:
        ema_(exp_avg, matrix, beta1)
        ema_(exp_avg_sq, _rotate(matrix, basis_left, basis_right).square(), beta2)
        corrections = (bias_correction(beta, step - 1, correct_bias) for beta in betas)
        update = normalize(_rotate(exp_avg, basis_left, basis_right), exp_avg_sq, eps, *corrections)
        update = _rotate(update, basis_left.mT, basis_right.mT)
    beta = beta2 if shampoo_beta is None else shampoo_beta
    for gram, basis, factor, axis in ((gram_left, basis_left, matrix, -2), (gram_right, basis_right, matrix.mT, -1)):
        if gram.numel():
            ema_(gram, factor @ factor.mT, beta)
            if step > 1 and (step - 1) % precondition_frequency == 0:
                _refresh(gram, basis, exp_avg_sq, axis)
    if step == 1:
        _begin(matrix, basis_left, basis_right)
    return update.reshape(grad.shape)


def _rotate(matrix: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """`left^T matrix right`, without a side that is not preconditioned."""
    matrix = left.mT @ matrix if left.numel() else matrix
    return matrix @ right if right.numel() else matrix


def _begin(matrix: Tensor, left: Tensor, right: Tensor) -> None:
    """Set the bases to the first gradient's singular vectors, which are the eigenvectors of its products with itself.

    A gradient that is not finite, which `svd` would refuse for a whole stack, gives those of a diagonal.
    """
    if not left.numel() and not right.numel():
        return
    finite = matrix.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    diagonal = torch.eye(*matrix.shape[-2:], dtype=matrix.dtype, device=matrix.device)
    both = bool(left.numel() and right.numel())  # one alone is that of the shorter axis
    u, values, vh = torch.linalg.svd(torch.where(finite, matrix, diagonal), full_matrices=both)
    for basis, vectors in ((left, u), (right, vh.mT)):
        if basis.numel():
            basis.copy_(_with_fixed_null(vectors, values))


def _with_fixed_null(vectors: Tensor, values: Tensor) -> Tensor:
    """Singular vectors `[..., n, n]`; within the null space, where they are rounding's choice, those of a diagonal."""
    count = vectors.shape[-1]
    squares = torch.nn.functional.pad(values.square(), (0, count - values.shape[-1]))
    is_null = (squares <= NULL * squares[..., :1])[..., None, :]
    null = vectors * is_null
    diagonal = torch.linspace(1, 2, count, dtype=vectors.dtype, device=vectors.device)
    split = null @ (null.mT @ (diagonal[:, None] * null)) @ null.mT
    return torch.where(is_null, torch.linalg.eigh(split).eigenvectors, vectors)  # both have the null space last


def _refresh(gram: Tensor, basis: Tensor, exp_avg_sq: Tensor, axis: int) -> None:
    """One QR step of power iteration in place; the second moment's entries along `axis` follow their eigenvectors."""
    shift = NULL * gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]  # keeps a basis of the null space
    product = gram @ basis + shift * basis
    order = (basis * product).sum(-2).argsort(dim=-1, descending=True)
    along = order[..., :, None] if axis == -2 else order[..., None, :]
    exp_avg_sq.copy_(torch.take_along_dim(exp_avg_sq, along.expand(exp_avg_sq.shape), axis))
    product = torch.take_along_dim(product, order[..., None, :].expand(product.shape), -1)
    basis.copy_(torch.linalg.qr(product).Q)


def init_state(param: Tensor, left: bool, right: bool) -> dict[str, Tensor]:
    """The buffers of one matrix, at least float32, in the order in which `calculate_soap_update` takes them."""
    dtype = torch.promote_types(param.dtype, torch.float32)
    moment = torch.zeros_like(param, dtype=dtype, memory_format=torch.contiguous_format).view(param.shape[0], -1)
    rows, cols = moment.shape[0] if left else 0, moment.shape[1] if right else 0
    return {
        "exp_avg": moment,
        "exp_avg_sq": torch.zeros_like(moment),
        "gram_left": moment.new_zeros(rows, rows),
        "gram_right": moment.new_zeros(cols, cols),
        "basis_left": torch.eye(rows, dtype=dtype, device=param.device),
        "basis_right": torch.eye(cols, dtype=dtype, device=param.device),
    }


class SOAP(RuleOptimizer):
    """SOAP for parameters of two or more axes, Adam for the others.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay rates of the first and second moment, each in [0, 1).
        shampoo_beta: decay rate of the preconditioner's statistics, in [0, 1); None for that of the second moment.
        eps: stability term, outside the root and after bias correction.
        weight_decay: decay coefficient.
        correct_bias: divide the moments by 1 - beta^t.
        precondition_frequency: steps from one update of the eigenbases to the next.
        max_precondition_dim: a longer axis is not preconditioned.
        weight_decay_method: `decoupled`, `independent`, `l2` or `palm`.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    vector_rule = Rule(calculate_adam_update, zeros_state("exp_avg", "exp_avg_sq"), "flat")
    matrix_rules: ClassVar[dict[tuple[bool, bool], Rule]] = {
        (left, right): Rule(calculate_soap_update, partial(init_state, left=left, right=right), "stack")
        for left in (False, True)
        for right in (False, True)
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        correct_bias: bool = True,
        precondition_frequency: int = 10,
        max_precondition_dim: int = 10000,
        weight_decay_method: str = "decoupled",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "shampoo_beta": shampoo_beta,
            "eps": eps,
            "weight_decay": weight_decay,
            "correct_bias": correct_bias,
            "nesterov": False,
            "precondition_frequency": precondition_frequency,
            "max_precondition_dim": max_precondition_dim,
            "weight_decay_method": weight_decay_method,
        }
        super().__init__(params, defaults)

    def check_group(self, group: ParamGroup) -> None:
        super().check_group(group)
        group["betas"] = check_betas("betas", group["betas"], 2)
        if group["shampoo_beta"] is not None:
            group["shampoo_beta"] = check_fraction("shampoo_beta", group["shampoo_beta"])
        group["eps"] = check_at_least("eps", group["eps"], 0)
        for name in ("precondition_frequency", "max_precondition_dim"):
            check_count(name, group[name])

    def rule_for(self, param: Tensor, group: ParamGroup) -> Rule:
        if param.ndim < 2:
            return self.vector_rule
        rows, longest = param.shape[0], group["max_precondition_dim"]
        return self.matrix_rules[rows <= longest, param.numel() // max(rows, 1) <= longest]
