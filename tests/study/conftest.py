"""Small studies on tiny random models."""

import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from comparing import Calm, findings
from drivers import Nursery, finished, steps
from servers import Postgres, running_postgres

from promptgraft.study.document import write_spec
from promptgraft.study.drive import run_study
from promptgraft.study.engines.base import Resources
from promptgraft.study.engines.inline import InlineEngine
from promptgraft.study.plan import plan_study
from promptgraft.study.spec import StudySpec
from promptgraft.study.store import Store


def write_texts(path: Path) -> Path:
    """A table of 24 short texts in two classes, easy to tell apart."""
    words = {"good": "fine great warm clever", "bad": "dull poor cold silly"}
    subjects = ("the film", "the plot", "the cast", "a song", "the song", "a plot")
    lines = [f"{s} is {word},{label}" for s in subjects for label in words for word in words[label].split()[:2]]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def texts_csv(tmp_path: Path) -> Path:
    """A table of 24 short texts in two classes, easy to tell apart."""
    return write_texts(tmp_path / "reviews.csv")


@pytest.fixture(scope="session")
def finished_study(
    tmp_path_factory: pytest.TempPathFactory, tiny_vit_folder: Path, tiny_bert_folder: Path, image_folder: Path
) -> Path:
    """The folder of a study that is done: 2 tuned sources, 2 estimators, linear, projection of each source and of the
    one that the norm prefers, 2 seeds. To be copied by who changes it."""
    folder = tmp_path_factory.mktemp("studies") / "finished"
    folder.mkdir()
    texts = [{"task": str(write_texts(folder.parent / f"{name}.csv")), "label": name} for name in ("films", "songs")]
    content: dict[str, Any] = {
        "study": "finished",
        "backbones": [{"name": f"dir:{tiny_vit_folder}", "label": "vit"}],
        "targets": [{"task": str(image_folder), "n_train": 16, "n_val": 8, "n_test": 16}],
        "methods": [
            "linear",
            "projection",
            {"method": "projection", "sources": {"top": 1, "by": "norm"}, "label": "preferred"},
        ],
        "sources": {
            "tune": [
                {
                    "backbone": f"dir:{tiny_bert_folder}",
                    "tasks": texts[:1],
                    "recipe": {"epochs": 1},
                    "prompt_length": 2,
                },
                {
                    "backbone": f"dir:{tiny_bert_folder}",
                    "tasks": texts[1:],
                    "recipe": {"epochs": 1},
                    "prompt_length": 3,
                },
            ]
        },
        "estimators": ["norm", "gap"],
        "seeds": [0, 1],
        "recipe": {"epochs": 2, "batch_size": 8},
    }
    spec = StudySpec.model_validate(content)
    (folder / "study.yaml").write_text(write_spec(spec), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPTGRAFT_CACHE", str(folder.parent / "cache"))
        store = Store(folder, spec.study)
        run_study(plan_study(spec), store, InlineEngine(Resources()))
        store.close()
    return folder


@pytest.fixture
def finished_copy(finished_study: Path, tmp_path: Path) -> Path:
    """A copy of `finished_study` for this test alone."""
    return Path(shutil.copytree(finished_study, tmp_path / "finished"))


@pytest.fixture
def tiny_study(
    tmp_path: Path,
    tiny_vit_folder: Path,
    tiny_bert_folder: Path,
    image_folder: Path,
    texts_csv: Path,
    own_cache: Path,
    one_thread: None,
) -> Callable[..., StudySpec]:
    """`tiny_study(**fields)`: linear and deep VPT of 2 epochs on 40 images, two seeds; `sources=True` adds a text
    prompt that the study tunes, transferred by projection."""

    def make(sources: bool | dict[str, Any] = False, **fields: Any) -> StudySpec:
        content: dict[str, Any] = {
            "study": "tiny",
            "backbones": [f"dir:{tiny_vit_folder}"],
            "targets": [{"task": str(image_folder), "n_train": 16, "n_val": 8, "n_test": 16}],
            "methods": ["linear", {"method": "vpt", "prompt_length": 2}],
            "seeds": [0, 1],
            "recipe": {"name": "short", "epochs": 2, "batch_size": 8},
        }
        if isinstance(sources, dict):
            content["sources"] = sources
        elif sources:
            content["sources"] = {
                "tune": [{"backbone": f"dir:{tiny_bert_folder}", "tasks": [str(texts_csv)], "recipe": {"epochs": 1}}]
            }
            content["methods"] = [*content["methods"], "projection"]
        return StudySpec.model_validate(content | fields)

    return make


@pytest.fixture(scope="session")
def postgres() -> Generator[Postgres, None, None]:
    """A PostgreSQL server for all tests."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Callable[..., Store], None, None]:
    """`make_store(study="tiny", folder=tmp_path)`: one more connection to one store, in each kind of database."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").database()
    opened: list[Store] = []

    def make(study: str = "tiny", folder: Path = tmp_path) -> Store:
        opened.append(Store(folder, study, url))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture(scope="session")
def nursery(tiny_vit_folder: Path, tiny_bert_folder: Path) -> Generator[Nursery, None, None]:
    """Starts drivers in processes of their own."""
    made = Nursery(tiny_vit_folder, tiny_bert_folder)
    yield made
    made.close()


@pytest.fixture(scope="session")
def calm(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_vit_folder: Path,
    tiny_bert_folder: Path,
    image_folder: Path,
    nursery: Nursery,
) -> Calm:
    """A study with every kind of trial that ran undisturbed."""
    folder = tmp_path_factory.mktemp("calm")
    spec = StudySpec.model_validate(
        {
            "study": "tiny",
            "backbones": [f"dir:{tiny_vit_folder}"],
            "targets": [{"task": str(image_folder), "n_train": 16, "n_val": 8, "n_test": 16}],
            "methods": ["linear", {"method": "vpt", "prompt_length": 2, "search": False}, "projection"],
            "sources": {
                "tune": [{"backbone": f"dir:{tiny_bert_folder}", "tasks": [str(write_texts(folder / "texts.csv"))]}]
            },
            "seeds": [0, 1],
            "recipe": {"name": "short", "epochs": 2, "batch_size": 8},
            "search": {"sampler": "tpe", "over": {"lr": {"low": 0.01, "high": 1.0}}, "trials": 2},
        }
    )
    (folder / "study.yaml").write_text(write_spec(spec), encoding="utf-8")
    driver = nursery.start(folder)
    assert driver.wait() == 0, driver.output
    return Calm(folder, findings(folder), frozenset(finished(folder)), steps(folder))
