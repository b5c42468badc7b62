"""Weights of an ensemble of source prompts: HGPrompt's objective, from evidence that is gathered once.

Zhang et al., "Learning Optimal Prompt Ensemble for Multi-source Visual Prompt Transfer"
(https://arxiv.org/abs/2504.12311), eq. 3 to 12 and Algorithm 1.

Neither the features under each prompt nor the gradients depend on the weights α, so no step needs the model, and none
needs the examples either. With the features of source i centred in X_i:

- The covariance of fused features is Σ_ij α_i α_j X_iᵀ X_j / N: made once for the M (M + 1) / 2 pairs, symmetric, so
  one half is kept, with √2 on what stands for two entries (inner products stay those of matrices). A step reads them
  once for all restarts. At M = 20, D = 768 they take 0.5 GB; at N = 1,000 a step then takes a tenth of the
  multiplications of fusing the features, forming their covariance and going back through both.
- H(α) = max over A of (1 - δ) (2 tr(Aᵀ B) - tr(Aᵀ S A)), with S the (shrunk) covariance and B the class means times
  the root of their shares. The maximum is at A = S⁻¹ B: one Cholesky factor and C solves, and since A is best, nothing
  has to be differentiated through them (envelope theorem).
- The intensity of Ledoit and Wolf needs the trace and the square of the covariance, and |x|⁴, from the M x M inner
  products of each example.
- <ĝ_i, ĝ_α> = (G α)_i / √(αᵀ G α), with G the M x M inner products of the unit gradients.

The mean of <ĝ_i, u> over i is greatest for u along the sum of all ĝ_i, so L_align is always least at equal weights: λ
holds the weights near equal ones, and no source loses weight because its gradient differs.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from promptgraft.errors import InputError
from promptgraft.transfer.labelled import as_classes, as_features, centred, class_means, ledoit_wolf

LR = 0.1
STILL = 1e-6  # the search ends when no weight of any restart moves further in a step
LESS = 1e-9  # by how much a loss must be lower to count: of sources that are alike none is preferred


def ensemble_weights(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    gradients: ArrayLike | Tensor,
    *,
    lam: float = 1.0,
    shrinkage: Literal["ledoit-wolf"] | None = "ledoit-wolf",
    steps: int = 200,
    restarts: int = 4,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Convex weights (M,) of M source prompts that maximise H(α) - λ L_align(α) (eq. 12, Algorithm 1).

    The paper leaves open how α stays on the simplex, where it starts and when it stops. Here α is the softmax of M
    logits; Adam (learning rate 0.1), unlike plain gradient descent, does not depend on the scale of H, which grows
    with the number of classes. The first start is equal weights, the others are drawn uniformly from the simplex. All
    starts step together until no weight moves by more than 1e-6, or for `steps` steps; the best weights met on the
    way are returned.

    H is `h_score` of the fused features (eq. 4 and 5), shrinkage at every step included.

    Args:
        features: (M, N, D): of N labelled target examples under each source prompt, N >= 2.
        labels: (N,) classes from 0 on.
        gradients: (M, G): of the task loss with respect to each prompt, flat; scaled to unit length (eq. 8).
        lam: λ, the weight of the alignment loss; the paper's best is 1.
        shrinkage: of the covariance, "ledoit-wolf" or None, which needs more examples than D.
        steps: at most.
        restarts: starts in all.
        seed: of the starts.

    Returns:
        (M,) weights, not negative, sum 1.

    Raises:
        InputError: an argument is out of range, shapes do not fit, values are not finite, features of a source are all
            alike, a gradient is zero, there is one class only, or a covariance is singular without shrinkage.
    """
    if steps < 1 or restarts < 1:
        raise InputError(f"steps is {steps}, restarts {restarts}. Give at least 1 of each.")
    if not 0 <= lam < np.inf:
        raise InputError(f"lam is {lam}. Give a number that is not negative.")
    if shrinkage not in ("ledoit-wolf", None):
        raise InputError(f"shrinkage is {shrinkage!r}. Give 'ledoit-wolf' or None.")
    if len(features) != len(gradients) or not len(features):  # type: ignore[arg-type]
        raise InputError("features and gradients must be of the same prompts, (M, N, D) and (M, G).")
    objective = _Objective(features, labels, gradients, lam, shrinkage is not None)
    drawn = np.random.default_rng(seed).standard_exponential((restarts - 1, objective.sources))  # Dirichlet, unscaled
    start = torch.from_numpy(np.concatenate([np.zeros((1, objective.sources)), np.log(drawn)]))
    best, lowest = torch.empty(0), float("inf")
    for weights, losses in descend(objective, start, steps):
        if float(losses.min()) < lowest - LESS:
            lowest = float(losses.min())
            best = weights[int((losses <= lowest + LESS).int().argmax())]  # the first of them
    found: NDArray[np.float64] = best.numpy()
    return found


def descend(loss: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights (R, M) and their losses (R,) at each step from logits (R, M): the start first, `steps` + 1 at most."""
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=LR)
    last = torch.full_like(start, torch.inf)
    for _ in range(steps + 1):
        weights = torch.softmax(logits, dim=1)
        losses = loss(weights)
        yield weights.detach(), losses.detach()
        if float((weights.detach() - last).abs().max()) <= STILL:
            return
        last = weights.detach()
        logits.grad = torch.autograd.grad(losses.sum(), logits)[0]
        optimizer.step()


def gradient_cosines(gradients: ArrayLike | Tensor) -> Tensor:
    """Cosines (M, M) of the gradients of M prompts, float64: figure 3, and all that eq. 10 needs of them.

    Args:
        gradients: (M, G), one flat row per prompt.

    Raises:
        InputError: another shape, or a gradient is zero or not finite.
    """
    g = torch.as_tensor(gradients).double()
    if g.ndim != 2:
        raise InputError(f"gradients must be (M, G), one flat row per prompt; got shape {tuple(g.shape)}.")
    norms = torch.linalg.vector_norm(g, dim=1, keepdim=True)
    if not bool(((norms > 0) & norms.isfinite()).all()):
        row = int((~((norms > 0) & norms.isfinite())).nonzero()[0, 0])
        raise InputError(f"the gradient of source {row} is zero or not finite: it has no direction. Leave it out.")
    g = g / norms
    cosines: Tensor = g @ g.T
    return cosines


class _Objective:
    """The loss (R,) of weights (R, M), eq. 12, with its gradient."""

    def __init__(
        self,
        features: ArrayLike | Tensor,
        labels: ArrayLike | Tensor,
        gradients: ArrayLike | Tensor,
        lam: float,
        shrink: bool,
    ) -> None:
        sources = [as_features(each, f"features of source {index}") for index, each in enumerate(features)]  # type: ignore[arg-type]
        if len({each.shape for each in sources}) > 1:
            raise InputError("features must be of the same examples and width under every prompt, (M, N, D).")
        self.examples, self.width = sources[0].shape
        y, counts = as_classes(labels, self.examples)
        if not shrink and self.examples <= self.width:
            raise InputError(
                f"{self.examples} examples {self.width} wide have a singular covariance: every weight would get the "
                "same score. Use shrinkage='ledoit-wolf'."
            )
        X = np.stack([centred(each, f"features of source {index}") for index, each in enumerate(sources)])
        self.sources, self.lam, self.shrink = len(X), lam, shrink
        root = np.sqrt(counts / self.examples)[:, None]
        self._means = torch.from_numpy(np.stack([root * class_means(each, y, counts) for each in X]))
        self._first, self._second = torch.triu_indices(self.sources, self.sources)
        self._entry = torch.tril_indices(self.width, self.width)
        self._scale = torch.full((self._entry.shape[1],), 2**0.5, dtype=torch.float64)
        self._scale[self._entry[0] == self._entry[1]] = 1
        F = torch.from_numpy(X)
        self._pairs = torch.empty(len(self._first), len(self._scale), dtype=torch.float64)
        for row, i, j in zip(self._pairs, self._first, self._second, strict=True):
            product = F[i].T @ F[j]
            row.copy_(self._half(product if i == j else product + product.T)).div_(self.examples)
        products = F.transpose(0, 1) @ F.permute(1, 2, 0)  # (N, M, M), of each example with itself
        twice = torch.where(self._first == self._second, 1.0, 2.0).double()
        self._products = products[:, self._first, self._second] * twice
        self._gram = gradient_cosines(gradients)

    def __call__(self, weights: Tensor) -> Tensor:
        return self.lam * self._misalignment(weights) - self.transferability(weights)

    def transferability(self, weights: Tensor) -> Tensor:
        """H(α), (R,), eq. 5."""
        quadratic = weights[:, self._first] * weights[:, self._second]
        covariance = quadratic @ self._pairs
        means = torch.einsum("rm,mcd->rcd", weights, self._means)
        norms = quadratic @ self._products.T  # (R, N), |x|²
        trace = norms.mean(1)
        shrunk = torch.zeros_like(trace)
        if self.shrink:
            square, fourth = covariance.square().sum(1), norms.square().mean(1)
            shrunk = ledoit_wolf(trace, square, fourth, self.examples, self.width)
        keep, ridge = 1 - shrunk, shrunk * trace / self.width
        scores = []
        for r in range(len(weights)):
            A = self._solve(covariance[r].detach(), means[r].detach(), keep[r].detach(), ridge[r].detach())
            quadric = keep[r] * (self._half(A @ A.T) @ covariance[r]) + ridge[r] * A.square().sum()
            scores.append(keep[r] * (2 * (A * means[r].T).sum() - quadric))
        return torch.stack(scores)

    def _solve(self, covariance: Tensor, means: Tensor, keep: Tensor, ridge: Tensor) -> Tensor:
        """A = S⁻¹ B, (D, C)."""
        S = torch.zeros(self.width, self.width, dtype=torch.float64)
        S[self._entry[0], self._entry[1]] = keep * covariance / self._scale  # Cholesky reads the lower half only
        S.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(S)
        if failed:
            raise InputError(
                "the covariance of the fused features is singular: features repeat or cancel each other. Use "
                "shrinkage='ledoit-wolf' or leave constant features out."
            )
        return torch.cholesky_solve(means.T, factor)

    def _half(self, symmetric: Tensor) -> Tensor:
        half: Tensor = symmetric[self._entry[0], self._entry[1]] * self._scale
        return half

    def _misalignment(self, weights: Tensor) -> Tensor:
        """L_align(α), (R,), eq. 10; 1 where the gradients cancel out."""
        towards = weights @ self._gram
        length = (towards * weights).sum(1).clamp_min(torch.finfo(torch.float64).eps).sqrt()
        return 1 - towards.mean(1) / length
