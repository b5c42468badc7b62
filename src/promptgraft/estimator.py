"""`PromptClassifier`: promptgraft behind scikit-learn's fit, predict and score, for images and texts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from promptgraft.adapt.halving import Clock
from promptgraft.adapt.plan import FROM_SCRATCH, Plan, plan_candidates, rank_library
from promptgraft.adapt.run import find_best
from promptgraft.backbones.load import load_backbone
from promptgraft.card import Modality, Score
from promptgraft.errors import InputError, PromptFileError
from promptgraft.files import atomic_folder, canonical_json, open_file, read_file, read_json
from promptgraft.library import open_library
from promptgraft.tasks.arrays import as_inputs
from promptgraft.tasks.base import Task
from promptgraft.tasks.contents import content_hash, number
from promptgraft.tasks.embedded import embed_task
from promptgraft.tasks.labelled import Labelled, assemble
from promptgraft.tasks.sequences import ImageFiles
from promptgraft.tasks.splits import SPLITS, divide
from promptgraft.tuning.adapted import INFO_LIMIT, load_adapted
from promptgraft.tuning.method import METHODS, Layers, Setting
from promptgraft.tuning.recipes import resolve_recipe

PARAMETERS_FILE = "estimator.json"
AUTO = "auto"


class PromptClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A frozen transformer with a prompt and a linear head, as a scikit-learn classifier.

    A part of the training data is held out to choose the method, the epoch and the head; then the winner is trained
    anew on all of it. Equal data, parameters and `random_state` give equal bits on the same machine.

    Inputs `X` are, for images, an array (N, H, W) or (N, H, W, 1 | 3 | 4) of uint8 or of floats in [0, 1], or a
    sequence of arrays, PIL images or paths; for texts a sequence of strings, or of pairs of strings. They have no
    columns, so `n_features_in_` is not defined.

    Args:
        backbone: what `load_backbone` takes; it also decides whether strings are texts or paths of images.
        method: `auto` races the linear probe against prompts from scratch, and those of `library`, by successive
            halving, as `promptgraft adapt` does; else a method that needs no source prompt, such as `vpt` or `lora`.
        image_size: side length in pixels; None takes the model's own.
        max_length: tokens kept of a text.
        prompt_length: rows of a new prompt in each layer.
        layers: `shallow` or `deep`; None takes the method's own. `auto` tries both.
        recipe: the name of a recipe, `short` or `paper`.
        epochs: instead of the recipe's.
        learning_rate: of the prompt, instead of the recipe's.
        validation_fraction: of the training data, held out; at least one example.
        library: prompts that `auto` may transfer: None for none, `starter`, `user`, or a folder.
        top: how many of them are tried.
        budget: seconds for `fit`, None for no limit; with one, results depend on the machine's speed.
        random_state: an int, a `numpy.random.RandomState`, or None for another division and start each time.
        device: where the model runs.
        dtype: `float32`, `float64` or `bfloat16`.

    Attributes:
        classes_: (C,) the labels, sorted.
        adapted_: the `Adapted` classifier that does the work.
        validation_: accuracy on the held-out part, with its interval, of each candidate that was trained to an end.
        seed_: what `random_state` came to.
    """

    def __init__(
        self,
        backbone: str = "packs/dinov2-small",
        method: str = AUTO,
        *,
        image_size: int | None = None,
        max_length: int = 128,
        prompt_length: int = 10,
        layers: Layers | None = None,
        recipe: str = "short",
        epochs: int | None = None,
        learning_rate: float | None = None,
        validation_fraction: float = 0.2,
        library: str | None = None,
        top: int = 3,
        budget: float | None = None,
        random_state: Any = 0,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.image_size = image_size
        self.max_length = max_length
        self.prompt_length = prompt_length
        self.layers = layers
        self.recipe = recipe
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.library = library
        self.top = top
        self.budget = budget
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any) -> "PromptClassifier":
        """Adapt the backbone to labelled inputs.

        Args:
            X: N images or texts, see the class.
            y: (N,) labels, of two classes or more.

        Raises:
            InputError, CompatibilityError, TrainingError: each names the thing and the cure.
        """
        clock = Clock(self.budget)
        self._check_parameters()
        model = load_backbone(
            self.backbone,
            image_size=self.image_size,
            max_length=self.max_length,
            device=self.device,
            dtype=self.dtype,
        )
        seed = _seed(self.random_state)
        classes, labels = _encoded(y)
        data = embed_task(model, self._task(X, labels, classes, model.info.modality, seed))
        setting = Setting(model, data.train, self.prompt_length, "deep", seed)
        if self.method == AUTO:
            plans = [Plan(*start) for start in FROM_SCRATCH]
            if self.library is not None:
                prompts = open_library(self.library)
                plans = plan_candidates(prompts, rank_library(prompts, data, seed), data, self.top)
        else:
            plans = [Plan(self.method, METHODS[self.method].depth(self.layers))]
        recipe = resolve_recipe(
            self.recipe,
            method=None if self.method == AUTO else self.method,
            epochs=self.epochs,
            lr=self.learning_rate,
        )
        best = find_best(plans, data, setting, recipe, clock)
        self.classes_ = classes
        self.adapted_ = best.adapted
        self.seed_ = seed
        self.validation_ = {
            candidate.label if candidate.source is None else f"{candidate.label} of {candidate.source}": score
            for candidate in best.candidates
            if (score := candidate.val_score()) is not None
        }
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Class probabilities (N, C), in the order of `classes_`."""
        check_is_fitted(self)
        inputs, _ = _as_inputs(X, self.adapted_.info.task.modality)
        return self.adapted_.predict_proba(inputs)

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable labels (N,)."""
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[probabilities.argmax(1)]
        return labels

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the fitted classifier's folder, whole or not at all; `promptgraft predict` reads it, too.

        Raises:
            InputError: the folder exists and is not empty, or cannot be written; or a label is no string or number.
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False) | {"random_state": self.seed_}
        document = {
            "parameters": parameters,
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "validation": {name: score.model_dump() for name, score in self.validation_.items()},
        }
        try:
            text = canonical_json(document)
        except (TypeError, ValueError) as error:
            raise InputError(f"the classifier has a label or parameter that JSON cannot hold: {error}.") from error
        with atomic_folder(Path(folder)) as temporary:
            self.adapted_.write_into(temporary)
            (temporary / PARAMETERS_FILE).write_text(text + "\n", encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, device: str = "cpu") -> "PromptClassifier":
        """Read what `save` wrote.

        Raises:
            PromptFileError: a file is missing, cut or altered.
            CompatibilityError: the backbone's weights are not those that the classifier was made with.
        """
        path = Path(folder) / PARAMETERS_FILE
        try:
            document = read_json(read_file(path, INFO_LIMIT))
            loaded = cls(**document["parameters"] | {"device": device})
            kind = np.dtype(document["dtype"])
            classes = np.array(document["classes"], dtype=kind if kind.kind in "biufO" else np.str_)
            loaded.validation_ = {name: Score(**score) for name, score in document["validation"].items()}
            loaded.seed_ = int(document["parameters"]["random_state"])
            if not isinstance(loaded.dtype, str):
                raise TypeError(f"dtype {loaded.dtype!r} is no text")
        except FileNotFoundError as error:
            raise PromptFileError(f"{folder} holds no PromptClassifier: {PARAMETERS_FILE} is missing.") from error
        except OSError as error:
            raise PromptFileError(f"cannot read {path}: {error.strerror or error}.") from error
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise PromptFileError(f"{path} is damaged ({error}). Get an unaltered copy.") from error
        loaded.adapted_ = load_adapted(folder, device=device, dtype=loaded.dtype)
        if classes.shape != (len(loaded.adapted_.classes),):
            raise PromptFileError(f"{path} has {classes.shape} labels, its model {len(loaded.adapted_.classes)}.")
        loaded.classes_ = classes
        return loaded

    def __getstate__(self) -> Any:
        if hasattr(self, "adapted_"):
            raise InputError(
                "a fitted PromptClassifier is not pickled: its backbone stays where it is, and unpickling runs code. "
                "Use save(folder) and PromptClassifier.load(folder)."
            )
        return super().__getstate__()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True  # inputs have no columns to be checked
        return tags

    def _check_parameters(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation_fraction must be between 0 and 1, got {self.validation_fraction!r}.")
        if self.prompt_length < 1:
            raise InputError(f"prompt_length must be at least 1, got {self.prompt_length}.")
        if self.layers not in (None, "shallow", "deep"):
            raise InputError(f"layers must be 'shallow', 'deep' or None, got {self.layers!r}.")
        if self.method != AUTO and METHODS[self.method].sources != "none":
            raise InputError(
                f"method {self.method!r} starts from source prompts. Use `promptgraft.transfer`, or method 'auto' "
                "with a library."
            )

    def _task(self, X: Any, labels: NDArray[np.int64], classes: NDArray[Any], modality: Modality, seed: int) -> Task:
        inputs, hashes = _as_inputs(X, modality)
        if len(inputs) != len(labels):
            raise InputError(
                f"there are {len(inputs)} inputs and {len(labels)} labels. Pass one label for each input."
            )
        held_out = max(1, round(self.validation_fraction * len(labels)))
        sizes = [len(labels) - held_out, held_out]  # equal inputs stay on one side, so that sizes may vary
        sides = divide(labels, number(hashes), sizes, exact=[False, False], seed=seed)
        if len(np.unique(sides)) < 2:
            raise InputError(
                f"{len(labels)} inputs, {len(set(hashes))} of them different, are too few to hold out any for "
                "validation. Pass more."
            )
        data = Labelled(
            modality=modality,
            inputs=inputs,
            labels=labels,
            classes=tuple(map(str, classes)),
            names=[str(i) for i in range(len(labels))],
            hashes=hashes,
            given=[SPLITS[side] for side in sides],
        )
        return assemble(data, "fit", n_test=0, seed=seed)


def _encoded(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct labels (C,), sorted, and the number (N,) of each example's."""
    if y is None:
        raise InputError("requires y to be passed, but the target y is None. Pass one label for each input.")
    values = column_or_1d(y, warn=True)
    check_classification_targets(values)
    classes, labels = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        named = f"1 class, {classes[0]!r}" if len(classes) else "no labels"
        raise InputError(f"y has {named}. A classifier needs two classes or more: add examples of another.")
    return classes, labels.astype(np.int64)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _as_inputs(X: Any, modality: Modality) -> tuple[Sequence[Any], list[str]]:
    """Inputs as a task has them, and their content hashes; for a vision model strings are paths.

    Raises:
        InputError: they are not understood, cannot be read, or are of the other modality.
    """
    if issparse(X):
        raise InputError("sparse input is not supported: images and texts are dense. Pass them as they are.")
    if hasattr(X, "iloc"):
        X = X.to_numpy()
    if isinstance(X, np.ndarray) and X.dtype.kind not in "buif":
        X = X.tolist()
    if modality == "vision" and not hasattr(X, "shape"):
        X = list(X)
        if X and all(isinstance(item, str | os.PathLike) for item in X):
            files = [Path(item) for item in X]
            return ImageFiles(files), [content_hash(_bytes(file)) for file in files]
    found, inputs, hashes = as_inputs(X)
    if found != modality:
        nouns = {"vision": "images", "text": "texts"}
        raise InputError(f"these are {nouns[found]}, and the backbone takes {nouns[modality]}. Name another backbone.")
    return inputs, hashes


def _bytes(path: Path) -> bytes:
    try:
        with open_file(path) as stream:
            return stream.read()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}. A vision backbone takes strings as paths of images; "
            "texts need a language model."
        ) from error
