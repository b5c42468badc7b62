"""The modality gap: maximum mean discrepancy between a source prompt and the target's embedded tokens.

Equation 4 and Algorithm 1 of Zhang et al., "Release the Powers of Prompt Tuning: Cross-Modality Prompt Transfer"; MMD
after Gretton et al., "A Kernel Two-Sample Test", JMLR 2012. The paper leaves kernel, bandwidth and estimate open, so
they are arguments here.

Every number equals that of the literal algorithm; only repeated work is left out. Squared distances inside a draw are
shared by all prompts, those inside a prompt by all draws, those between prompts and patches by all epochs. Bandwidths
that double need one exponential: exp(-d / (w / 2)) is the square of exp(-d / w). With a fixed bandwidth the cross
term is a sum over patches, each weighted by how often it is drawn.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptgraft.errors import CompatibilityError, InputError
from promptgraft.registry import did_you_mean
from promptgraft.transferability.arrays import Array, as_array
from promptgraft.transferability.base import Estimator, Evidence, Sketches

Kernel = Literal["rbf5", "rbf", "linear"]

EPOCHS = 5  # of Algorithm 1, unless another number is asked for
_CHUNK = 2**21  # elements worked on at a time: few enough for the cache, and threads seldom wait for each other
_CROSS_BYTES = 2**29  # memory for the distances of a group of prompts to all patches
_MEDIAN_ROWS = 1000  # patches that the default bandwidth of "rbf" is measured on


def modality_gap(
    prompts: Array | Sequence[Array],
    patches: Array,
    *,
    kernel: Kernel = "rbf5",
    bandwidth: float | None = None,
    epochs: int = EPOCHS,
    seed: int = 0,
    unbiased: bool = False,
) -> NDArray[np.float64]:
    """Modality gap of M prompts to one target: the mean squared MMD to draws of P patches (eq. 4, Algorithm 1).

    Each epoch shuffles the patches and deals them out in disjoint draws of P rows; what is left over, fewer than P
    rows, is dropped. The draws are the same for all prompts: `numpy.random.default_rng(seed)` gives one permutation
    per epoch. The MMD of a draw enters squared, as mean(XX) + mean(YY) - 2 mean(XY) over kernel values, the form that
    is common in public code. Arithmetic is float64 if an input is, otherwise float32 (agrees to 1e-4). Beyond the
    inputs it takes about 0.6 GB, or P / D of the size of the patches where that is more.

    Args:
        prompts: (M, P, D), or M arrays (P, D).
        patches: (n, D) embedded tokens of the target task, n >= P.
        kernel: "rbf5": five Gaussians, sum over i = 0..4 of exp(-d² / (2^i w / 4)), where w is the mean squared
            distance between different rows among the 2P at hand, computed anew for every prompt and draw. "rbf": one
            Gaussian exp(-d² / w) with one w for all prompts and draws. "linear": the inner product.
        bandwidth: a fixed w, a squared distance. By default "rbf" takes the median squared distance among the patches
            (1,000 of them at most, chosen at random), and "rbf5" adapts as above, which makes the gaps of prompts of
            very different scale hard to compare.
        epochs: passes over the patches.
        seed: seeds the shuffles and the choice of patches for the default bandwidth.
        unbiased: leave the pairs of a row with itself out (Gretton et al. 2012, eq. 3), which makes prompts of
            different length comparable; the result can then be negative.

    Returns:
        (M,) gaps, float64, smaller = nearer.

    Raises:
        InputError: an argument is out of range, values are not finite, lengths are mixed, there are fewer patches than
            prompt rows, or points coincide so that no bandwidth is defined.
        CompatibilityError: prompts and patches differ in width.
    """
    X, Y = _check(prompts, patches)
    if kernel not in get_args(Kernel):
        raise InputError(
            f"there is no kernel {kernel!r}.{did_you_mean(kernel, [*get_args(Kernel)])} Known: rbf5, rbf, linear."
        )
    if epochs < 1:
        raise InputError(f"epochs is {epochs}. Give at least 1.")
    if bandwidth is not None and (kernel == "linear" or not 0 < bandwidth < np.inf):
        raise InputError(
            f"bandwidth is {bandwidth} with kernel {kernel!r}. Give a positive number to 'rbf' or 'rbf5'."
        )
    if unbiased and X.shape[1] < 2:
        raise InputError("the unbiased estimate needs prompts of at least two rows. Use unbiased=False.")
    generator = np.random.default_rng(seed)
    draws = deal(len(Y), X.shape[1], epochs, generator)
    sample = _Sample(X, Y)
    if kernel == "linear":
        return _linear(sample, draws, unbiased)
    if kernel == "rbf5" and bandwidth is None:
        return _adaptive(sample, draws, unbiased)
    if bandwidth is None:
        bandwidth = _median_distance(sample, generator)
    return _fixed(sample, draws, unbiased, *((4 * bandwidth, 5) if kernel == "rbf5" else (bandwidth, 1)))


def deal(n: int, P: int, epochs: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of the patches in each draw of Algorithm 1: n patches dealt out P at a time, anew in each epoch."""
    rows = n - n % P
    return np.concatenate([generator.permutation(n)[:rows].reshape(-1, P) for _ in range(epochs)])


def median_bandwidth(patches: Array, *, epochs: int = EPOCHS, seed: int = 0) -> float:
    """The bandwidth that `modality_gap` takes for the kernel "rbf" by default, the same for all prompts.

    Args:
        patches: (n, D) embedded tokens of the target task, float32.
        epochs: as for the gap.
        seed: as for the gap.
    """
    Y, generator = as_array(patches), np.random.default_rng(seed)
    for _ in range(epochs):
        generator.permutation(len(Y))  # the shuffles come first
    return _median_distance(_Sample(Y[None, :1], Y), generator)


class _Sample:
    """Prompts and patches seen from the patches' mean: MMD does not change, and float32 distances lose fewer digits.

    prompts: (M, P, D). patches(rows) copies, casts and shifts only the rows asked for.
    """

    def __init__(self, prompts: NDArray[Any], patches: NDArray[Any]) -> None:
        dtype = np.result_type(prompts, patches, np.float32)
        self._patches = patches
        self._centre = patches.mean(0, dtype=np.float64).astype(dtype)
        self.prompts = torch.from_numpy(np.subtract(prompts, self._centre, dtype=dtype))
        self.size = len(patches)
        # Two points nearer than this are one point as far as the dtype can tell.
        self.resolution = float((4 * np.finfo(dtype).eps) ** 2 * np.square(self._centre).sum())

    def patches(self, rows: NDArray[np.int64] | slice) -> Tensor:
        chosen = self._patches[rows]
        return torch.from_numpy(np.subtract(chosen, self._centre, dtype=self._centre.dtype))


def _linear(sample: _Sample, draws: NDArray[np.int64], unbiased: bool) -> NDArray[np.float64]:
    """Closed form: the squared distance of the means; the unbiased estimate takes their sampling variances off."""
    P = draws.shape[1]
    X = sample.prompts.double()
    mean, variance = X.mean(1), X.var(1).sum(-1) / P if unbiased else 0
    total = torch.zeros(len(X), dtype=torch.float64)
    for chunk in _chunks(draws, P * X.shape[-1]):
        Y = sample.patches(chunk)
        total += torch.cdist(mean, Y.mean(1).double(), compute_mode="donot_use_mm_for_euclid_dist").square().sum(1)
        if unbiased:
            total -= Y.var(1).double().sum() / P
    gaps: NDArray[np.float64] = (total / len(draws) - variance).numpy()
    return gaps


def _fixed(
    sample: _Sample, draws: NDArray[np.int64], unbiased: bool, widest: float, kernels: int
) -> NDArray[np.float64]:
    """Gaussians of bandwidth `widest`, `widest` / 2, ...: each term of the mean over draws is computed once."""
    M, P, D = sample.prompts.shape
    within = _kernel_sum(_pairs(sample.prompts) / -widest, kernels, (1,))
    for chunk in _chunks(draws, P * max(P, D)):
        within += _kernel_sum(_pairs(sample.patches(chunk)) / -widest, kernels, (0, 1)) / len(draws)
    between = torch.zeros(M, dtype=torch.float64)
    times_drawn = torch.from_numpy(np.bincount(draws.ravel(), minlength=sample.size)).double()
    for rows in _slices(sample.size, max(M * P, D)):
        distances = _squared_distances(sample.patches(rows), sample.prompts.flatten(0, 1)).view(-1, M, P)
        between += times_drawn[rows] @ _kernel_sum(distances.div_(-widest), kernels, (2,)) / len(draws)
    return _statistic(within, between, P, kernels, unbiased).numpy()


def _adaptive(sample: _Sample, draws: NDArray[np.int64], unbiased: bool) -> NDArray[np.float64]:
    """Five Gaussians whose bandwidth follows from the mean squared distance of each (prompt, draw)."""
    M, P, D = sample.prompts.shape
    total = torch.zeros(M, dtype=torch.float64)
    pairs = 2 * P * (2 * P - 1)  # ordered, of different rows
    group = max(1, _CROSS_BYTES // (P * sample.size * sample.prompts.element_size()))
    for first in range(0, M, group):
        X = sample.prompts[first : first + group]
        G = len(X)
        distances = X.new_empty(sample.size, G, P)
        for rows in _slices(sample.size, max(G * P, D)):
            distances[rows] = _squared_distances(sample.patches(rows), X.flatten(0, 1)).view(-1, G, P)
        xx = _pairs(X)
        for chunk in _chunks(draws, P * max(G * P, D)):
            yy = _pairs(sample.patches(chunk))
            xy = distances[torch.from_numpy(chunk)]
            spread = 2 * (xx.sum(1) + yy.sum(1, keepdim=True) + xy.sum((1, 3)))  # (draws, G)
            if bool((spread <= pairs * sample.resolution).any()):
                index = first + int((spread <= pairs * sample.resolution).any(0).nonzero()[0])
                raise InputError(
                    f"prompt {index} and a draw of {P} patches are all one point, so the bandwidth of 'rbf5' is zero. "
                    "Check how the patches were made, or give a bandwidth."
                )
            rate = -pairs / (4 * spread)  # the widest bandwidth is 2^4 times a quarter of the mean
            alike = torch.cat([xx.expand(len(chunk), -1, -1), yy[:, None].expand(-1, G, -1)], dim=2)
            within = _kernel_sum(alike.mul_(rate[:, :, None]), 5, (2,))
            between = _kernel_sum(xy.mul_(rate[:, None, :, None]), 5, (1, 3))
            total[first : first + G] += _statistic(within, between, P, 5, unbiased).sum(0)
    gaps: NDArray[np.float64] = (total / len(draws)).numpy()
    return gaps


def _statistic(within: Tensor, between: Tensor, P: int, kernels: int, unbiased: bool) -> Tensor:
    """Squared MMD of two samples of P rows, from kernel sums over pairs i < j within and all pairs between."""
    if unbiased:
        return 2 * within / (P * (P - 1)) - 2 * between / P**2
    return (2 * within + 2 * P * kernels - 2 * between) / P**2


def _kernel_sum(exponents: Tensor, kernels: int, dims: tuple[int, ...]) -> Tensor:
    """Sum of exp(e) + exp(2 e) + exp(4 e) + ..., `kernels` terms, over `dims` in float64; overwrites its argument."""
    values = exponents.exp_()
    total = values.sum(dims)
    for _ in range(kernels - 1):
        total += values.square_().sum(dims)
    return total.double()


def _pairs(X: Tensor) -> Tensor:
    """Squared distances (B, P (P - 1) / 2) of all rows i < j within each of B samples (B, P, D)."""
    first, second = torch.triu_indices(X.shape[1], X.shape[1], offset=1)
    return _squared_distances(X, X).flatten(1)[:, first * X.shape[1] + second]


def _squared_distances(A: Tensor, B: Tensor) -> Tensor:
    """Squared Euclidean distances (..., a, b) of rows (..., a, D) to rows (..., b, D)."""
    rows, columns = (torch.linalg.vector_norm(X, dim=-1).square() for X in (A, B))  # no temporary of the size of X
    return (A @ B.mT).mul_(-2).add_(rows[..., None]).add_(columns[..., None, :]).clamp_(min=0)


def _median_distance(sample: _Sample, generator: np.random.Generator) -> float:
    rows = generator.choice(sample.size, min(sample.size, _MEDIAN_ROWS), replace=False)
    median = float(np.median(_pairs(sample.patches(rows)[None]).numpy())) if len(rows) > 1 else 0.0
    if median <= sample.resolution:
        raise InputError(
            "the median squared distance among the patches is zero: most of them are one point. "
            "Check how they were made, or give a bandwidth."
        )
    return median


def _slices(total: int, width: int) -> list[slice]:
    step = max(1, _CHUNK // width)
    return [slice(start, start + step) for start in range(0, total, step)]


def _chunks(draws: NDArray[np.int64], width: int) -> list[NDArray[np.int64]]:
    return [draws[rows] for rows in _slices(len(draws), width)]


def _check(prompts: Array | Sequence[Array], patches: Array) -> tuple[NDArray[Any], NDArray[Any]]:
    sources = [as_array(prompt) for prompt in prompts]
    Y = as_array(patches)
    if Y.ndim != 2 or not Y.size:
        raise InputError(f"patches must be (n, D) with at least one row; got shape {Y.shape}.")
    if not sources:
        raise InputError("there is no prompt to measure. Give prompts as (M, P, D).")
    for index, prompt in enumerate(sources):
        if prompt.ndim != 2 or not prompt.size:
            raise InputError(
                f"prompt {index} must be (P, D), not empty; got shape {prompt.shape}. Give prompts as (M, P, D)."
            )
        if prompt.shape[1] != Y.shape[1]:
            raise CompatibilityError(
                f"prompt {index} is {prompt.shape[1]} wide, the patches are {Y.shape[1]} wide. The gap compares rows "
                "of one width: leave the prompt out or project it first."
            )
        if len(prompt) != len(sources[0]):
            raise InputError(
                f"prompt {index} has {len(prompt)} rows, prompt 0 has {len(sources[0])}. Measure prompts of one "
                "length at a time."
            )
        _check_finite(prompt, f"prompt {index}")
    _check_finite(Y, "the patch array")
    if len(Y) < len(sources[0]):
        raise InputError(f"{len(Y)} patches are fewer than the {len(sources[0])} rows of a prompt. Embed more inputs.")
    return np.stack(sources), Y


def _check_finite(rows: NDArray[Any], what: str) -> None:
    sums = rows.sum(1, dtype=np.result_type(rows, np.float32))  # NaN and infinity survive a sum, and no mask is needed
    if not np.isfinite(sums).all():
        index = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise InputError(f"{what} holds NaN or infinite values in row {index}. Leave it out or make it anew.")


def _score(evidence: Evidence, kernel: Kernel) -> NDArray[np.float64]:
    """Minus the gap, unbiased: only then does a score not depend on the prompt's length."""
    patches = evidence.patches
    scores = np.full(len(evidence.prompts), np.nan)
    comparable = [
        index
        for index, prompt in enumerate(evidence.prompts)
        if prompt.shape[1] == patches.shape[1] and 2 <= len(prompt) <= len(patches)
    ]
    for length in {len(evidence.prompts[index]) for index in comparable}:
        same = [index for index in comparable if len(evidence.prompts[index]) == length]
        sources = [evidence.prompts[index] for index in same]
        scores[same] = -modality_gap(sources, patches, kernel=kernel, seed=evidence.seed, unbiased=True)
    return scores


def _by_sketch(evidence: Evidence, kernel: Kernel) -> Callable[[Sketches], NDArray[np.float64]]:
    from promptgraft.transferability.gap_sketch import gap_by_sketch  # which imports this file

    return gap_by_sketch(evidence, kernel)


def _estimator(name: str, kernel: Kernel, words: str) -> Estimator:
    return Estimator(
        name=name,
        summary=f"maximum mean discrepancy ({words}) between the prompt's rows and the embedded inputs of the target",
        paper="Zhang et al., Release the Powers of Prompt Tuning: Cross-Modality Prompt Transfer (eq. 4, Algorithm 1)",
        needs="patches",
        cost="5 epochs of n / P draws; M P n D multiplications",
        applies="prompts as wide as the embedded inputs, of at least two rows and no more than there are patches",
        score=lambda evidence: _score(evidence, kernel),
        by_sketch=lambda evidence: _by_sketch(evidence, kernel),
    )


GAP = _estimator("gap", "rbf5", "five Gaussians")
GAP_RBF = _estimator("gap-rbf", "rbf", "one Gaussian for all prompts")
GAP_LINEAR = _estimator("gap-linear", "linear", "distance of means")
