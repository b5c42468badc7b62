import os
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promptgraft.errors import InputError
from promptgraft.study.document import add_to_document, read_spec, write_spec
from promptgraft.study.spec import (
    BackboneSpec,
    MethodSpec,
    RecipeSpec,
    SearchSpec,
    SomeSources,
    SourcesSpec,
    Span,
    StudySpec,
    TaskSpec,
    TunedSources,
)

GOOD = """\
# birds, at last
study: birds   # its name
backbones: [packs/dinov2-small]

targets:
  - builtin/digits       # easy
  - task: photos/
    n_train: 400

# the first is the one to beat
methods:
- linear
- {method: vpt, layers: shallow}
# - spt  (slow)
estimators: []
sources:
  library: starter
  prompts: [vision/land, text/news]  # two of them
  tune:
    - backbone: packs/minilm-l6
      tasks:
        - builtin/sarcasm
seeds: [0, 1]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(GOOD)
    return tmp_path / "study.yaml"


def refusal(path, text=None):
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_spec(path)
    return str(caught.value)


def test_a_study_is_read(study):
    assert read_spec(study) == StudySpec(
        study="birds",
        backbones=(BackboneSpec(name="packs/dinov2-small"),),
        targets=(TaskSpec(task="builtin/digits"), TaskSpec(task="photos/", n_train=400)),
        methods=(MethodSpec(method="linear"), MethodSpec(method="vpt", layers="shallow")),
        sources=SourcesSpec(
            library="starter",
            prompts=("vision/land", "text/news"),
            tune=(
                TunedSources(backbone=BackboneSpec(name="packs/minilm-l6"), tasks=(TaskSpec(task="builtin/sarcasm"),)),
            ),
        ),
        seeds=(0, 1),
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("n_train: 400", "n_trin: 400", "8: targets.1.n_trin: there is no such key. Did you mean 'n_train'?"),
        ("n_train: 400", "seats: 400", "8: targets.1.seats: there is no such key. Known: task, n_train, n_val"),
        ("n_train: 400", 'n_train: "400"', "8: targets.1.n_train: must be a whole number, got '400'"),
        ("n_train: 400", "n_train: 0", "8: targets.1.n_train: must be at least 1, got 0"),
        ("n_train: 400", "n_train: [4]", "8: targets.1.n_train: must be a whole number, got a list"),
        ("task: photos/", "label: x", "7: targets.1: `task` is missing"),
        ("- builtin/digits ", "- 3 ", "6: targets.0: must be a word or a mapping with `task`, got 3"),
        ("- builtin/digits ", "- '' ", "6: targets.0.task: must not be empty"),
        ("[0, 1]", "[0, true]", "23: seeds.1: must be a whole number, got true"),
        ("[0, 1]", "[0, 1.0]", "23: seeds.1: must be a whole number, got 1.0"),
        ("[0, 1]", "[-1]", "23: seeds.0: must be at least 0, got -1"),
        ("[0, 1]", f"[{2**63}]", f"23: seeds.0: must be less than {2**63}, got {2**63}"),
        ("[0, 1]", "[]", "23: seeds: must have an entry at least"),
        ("[0, 1]", "", "23: seeds: must be a list, got nothing"),
        ("[0, 1]", "[0, 0]", " seed 0 stands there twice; leave one out"),
        ("birds  ", "a/b  ", "2: study: must be letters, digits, '.', '_' or '-'"),
        ("birds  ", "2024  ", "2: study: must be text, got 2024; put it in quotes"),
        ("study: birds", "{}: x", "2: a key must be text"),
        ("- linear", "- linea", "12: methods.0: there is no method named 'linea'. Did you mean 'linear'?"),
        ("- linear", "- spt: 3", "12: methods.0: `method` is missing"),
        ("layers: shallow", "layers: low", "13: methods.1.layers: must be 'shallow' or 'deep', got 'low'"),
        (
            "layers: shallow",
            "sources: some",
            "13: methods.1.sources: must be 'all' or a list or a mapping, got 'some'",
        ),
        ("layers: shallow", "sources: [3]", "13: methods.1.sources.0: must be text, got 3; put it in quotes"),
        (
            "layers: shallow",
            "sources: {top: 1, bye: x}",
            "13: methods.1.sources.bye: there is no such key. Did you mean 'by'?",
        ),
        (
            "layers: shallow",
            "sources: {modality: sound}",
            "13: methods.1.sources.modality: must be 'vision' or 'text', got 'sound'",
        ),
        (
            "layers: shallow",
            "sources: {top: 1}",
            "13: methods.1.sources: `top` and `by` belong together: the best sources, by an estimator",
        ),
        ("layers: shallow", "sources: {}", "13: methods.1.sources: name a `modality`, or `top` and `by`"),
        (
            "layers: shallow",
            "recipe: {epoch: 3}",
            "13: methods.1.recipe: a recipe has no 'epoch'. Did you mean 'epochs'?",
        ),
        ("layers: shallow", "search: yes", "13: methods.1.search: must be true or false, got 'yes'"),
        (
            "estimators: []",
            "estimators: [norm, nrm]",
            "15: estimators.1: there is no estimator named 'nrm'. Did you mean 'norm'?",
        ),
        ("estimators: []", "recipe: sort", "15: recipe: there is no recipe named 'sort'. Did you mean 'short'?"),
        ("estimators: []", "recipe: {epochs: '3'}", "15: recipe: recipe: epochs: must be a value like 3, got '3'"),
        ("estimators: []", "recipe: {lr: true}", "15: recipe: recipe: lr: must be a value like 1.0, got True"),
        (
            "estimators: []",
            "search: {over: {lr: 3}}",
            "15: search.over.lr: must be a list or a mapping with `low` and `high`, got 3",
        ),
        (
            "estimators: []",
            "search:\n over:\n  lr: {low: 1, hig: 2}",
            "17: search.over.lr.hig: there is no such key. Did you mean 'high'?",
        ),
        (
            "estimators: []",
            "search: {over: {lr: [null]}}",
            "15: search: recipe: lr: must be a value like 0.01, got None",
        ),
        ("estimators: []", "search: {over: {}}", "15: search.over: must have an entry at least"),
        ("library: starter", "libary: starter", "17: sources.libary: there is no such key. Did you mean 'library'?"),
        (
            "backbone: packs/minilm-l6",
            "backbone: {name: x, dtype: f8}",
            "20: sources.tune.0.backbone.dtype: must be 'float32' or 'float64'",
        ),
        (
            "- builtin/sarcasm",
            "- []",
            "22: sources.tune.0.tasks.0: must be a word or a mapping with `task`, got a list",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_cure(study, old, new, expected):
    assert GOOD.count(old) == 1
    message = refusal(study, GOOD.replace(old, new))
    assert f"{study}:{expected}" in message
    assert not re.search("Input should|pydantic|Value error|literal|function-|tuple", message)


def test_all_mistakes_are_listed_in_the_order_of_lines_and_no_more_than_five(study):
    lines = refusal(study, "targets: [{task: 3}]\nmethods: 4\nstud: x\nthreads: 0\nseeds: [a, b]\n").splitlines()
    assert lines[0] == f"{study}: `study` is missing"
    assert lines[1] == f"{study}: `backbones` is missing"
    assert lines[2:] == [
        f"{study}:1: targets.0.task: must be text, got 3; put it in quotes",
        f"{study}:2: methods: must be a list, got 4",
        f"{study}:3: stud: there is no such key. Did you mean 'study'?",
        "and 3 more",
    ]


def test_a_mistake_of_the_whole_has_no_line(study):
    assert refusal(study, GOOD.replace("- linear", "- {method: vpt, layers: shallow}")) == (
        f"{study}: method 'vpt shallow' stands there twice; give one of them another `label`"
    )


def test_text_of_the_file_cannot_steer_the_terminal(study):
    message = refusal(study, GOOD.replace("n_train", '"\\e[2J\\u202e"').replace("shallow", '"a\\nb\\e[1m"'))
    assert message.replace("\n", "").isprintable()
    assert len(message.splitlines()) == 2


def test_files_that_are_no_study_are_refused(tmp_path):
    path = tmp_path / "study.yaml"
    assert "does not exist" in refusal(path)
    assert "is a folder. Name the file in it" in refusal(tmp_path)
    path.write_bytes(b"study: a\nx: \xff\n")
    assert f"{path}:2: this is not UTF-8" in refusal(path)
    path.write_bytes("study: a".encode("utf-16"))
    assert f"{path}:1: this is not UTF-8" in refusal(path)
    assert "larger than the 1000000 bytes" in refusal(path, "#" * 1_000_001)
    assert f"{path}:1: the file is empty" in refusal(path, "")
    assert f"{path}:1: a study is a mapping" in refusal(path, "- a")
    assert f"{path}:2: a study is a mapping" in refusal(path, "\nhello")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is no regular file" in refusal(pipe)


def test_byte_order_mark_and_windows_lines_are_read(study):
    spec = read_spec(study)
    study.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_spec(study) == spec


# ------------------------------------------------------------------------------------------------------------ writing

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
COUNTS = st.none() | st.integers(1, 10**6)
SEEDS = st.integers(0, 2**63 - 1)
LABELS = st.none() | NAMES
RATES = st.floats(1e-9, 1e3)
RECIPES = st.builds(
    RecipeSpec,
    name=st.sampled_from(["short", "paper"]),
    changes=st.fixed_dictionaries(
        {},
        optional={"lr": RATES, "epochs": st.integers(1, 99), "patience": st.none(), "class_balanced": st.booleans()},
    ),
)
BACKBONES = st.builds(
    BackboneSpec,
    name=NAMES,
    image_size=COUNTS,
    pool=st.sampled_from([None, "cls", "mean"]),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    revision=LABELS,
    label=LABELS,
)
TASKS = st.builds(
    TaskSpec, task=NAMES, n_train=COUNTS, n_val=st.none() | st.just(0), split_seed=st.none() | SEEDS, label=LABELS
)
METHODS = st.builds(
    MethodSpec,
    method=st.sampled_from(["linear", "vpt", "spt", "initial", "frozen", "projection"]),
    layers=st.sampled_from(["shallow", "deep"]),
    prompt_length=st.integers(1, 99),
    sources=st.just("all")
    | st.lists(NAMES, max_size=3).map(tuple)
    | st.just(SomeSources(top=2, by="norm"))
    | st.just(SomeSources(modality="text")),
    recipe=st.none() | RECIPES,
    search=st.booleans(),
    label=LABELS,
)
SOURCES = st.builds(
    SourcesSpec,
    library=NAMES,
    prompts=st.none() | st.lists(NAMES, max_size=3).map(tuple),
    tune=st.lists(
        st.builds(
            TunedSources, backbone=BACKBONES, tasks=st.lists(TASKS, min_size=1, max_size=2).map(tuple), recipe=RECIPES
        ),
        max_size=2,
    ).map(tuple),
    same_task=st.booleans(),
)
SEARCHES = st.builds(SearchSpec, over=st.just({"lr": (0.1, 1), "optimizer": ("sgd",)}), seed=SEEDS) | st.builds(
    SearchSpec,
    sampler=st.just("tpe"),
    over=st.builds(lambda low, times: {"lr": Span(low=low, high=low * times)}, RATES, st.floats(2, 9)),
    trials=st.integers(1, 9),
    epochs=COUNTS,
)


def several(kind):
    return st.lists(kind, min_size=1, max_size=3, unique_by=lambda spec: spec.shown).map(tuple)


SPECS = st.builds(
    StudySpec,
    study=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True),
    description=st.text(st.characters(exclude_categories=["Cs"])),
    backbones=several(BACKBONES),
    targets=several(TASKS),
    methods=several(METHODS),
    sources=SOURCES,
    estimators=st.sampled_from([("norm",), ("gap", "norm")]),
    seeds=st.lists(SEEDS, min_size=1, max_size=30, unique=True).map(tuple),
    recipe=RECIPES,
    search=st.none() | SEARCHES,
    threads=st.integers(1, 99),
)


@settings(deadline=None)
@given(SPECS)
def test_what_is_written_is_read_back(tmp_path_factory, spec):
    path = tmp_path_factory.mktemp("written") / "study.yaml"
    path.write_text(write_spec(spec), encoding="utf-8", newline="")
    assert read_spec(path) == spec


def test_what_is_written_is_tidy(study):
    assert write_spec(read_spec(study)) == (
        "study: birds\n"
        "backbones: [packs/dinov2-small]\n"
        "targets:\n"
        "  - builtin/digits\n"
        "  - {task: photos/, n_train: 400}\n"
        "methods:\n"
        "  - linear\n"
        "  - {method: vpt, layers: shallow}\n"
        "sources:\n"
        "  library: starter\n"
        "  prompts: [vision/land, text/news]\n"
        "  tune:\n"
        "    - {backbone: packs/minilm-l6, tasks: [builtin/sarcasm]}\n"
        "seeds: [0, 1]\n"
    )


def test_long_entries_take_several_lines(study):
    text = GOOD.replace("builtin/sarcasm", f"{{task: {'x' * 90}, n_train: 3, label: {'y' * 20}}}")
    study.write_text(text)
    spec = read_spec(study)
    study.write_text(write_spec(spec))
    assert max(map(len, study.read_text().splitlines())) < 120
    assert read_spec(study) == spec


# ----------------------------------------------------------------------------------------------------------- hostility


@settings(deadline=None)
@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"a: *a")
def test_any_bytes_are_a_study_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "study.yaml"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_spec(path)


def read_or_refused(path):
    try:
        return isinstance(read_spec(path), StudySpec)
    except InputError as error:
        return all(line.startswith((str(path), "and ")) for line in str(error).splitlines())


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.text("ab3 \n\t-:,[]{}'\"#&*!|>~é\\.", max_size=6))
def test_a_damaged_study_is_a_study_or_refused(tmp_path_factory, start, removed, inserted):
    path = tmp_path_factory.mktemp("damaged") / "study.yaml"
    path.write_text(GOOD[:start] + inserted + GOOD[start + removed :], encoding="utf-8", newline="")
    assert read_or_refused(path)


JSONLIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from([
        "task", "name", "method", "sources", "recipe", "changes", "tune", "over", "lr", "low", "top", "by", "x"
    ]), below, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from([*StudySpec.model_fields]), JSONLIKE))
def test_any_values_are_a_study_or_refused(tmp_path_factory, value):
    from promptgraft.study.marked import inline

    path = tmp_path_factory.mktemp("values") / "study.yaml"
    path.write_text(inline({"study": "s", "backbones": ["b"], "targets": ["t"], "methods": ["vpt"]} | value))
    assert read_or_refused(path)


# -------------------------------------------------------------------------------------------------------------- adding


def inserted(before, after):
    """What stands in `after` and not in `before`, which must be one piece."""
    start = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    end = len(before) - start
    assert after[:start] + after[len(after) - end :] == before
    return after[start : len(after) - end]


@pytest.mark.parametrize(
    ("additions", "expected"),
    [
        ({"targets": ["builtin/emoji"]}, "    n_train: 400\n  - builtin/emoji\n\n# the first is"),
        ({"methods": ["spt"]}, "shallow}\n- spt\n# - spt  (slow)"),
        ({"methods": ["vpt:deep"]}, "shallow}\n- {method: vpt, layers: deep}\n# - spt  (slow)"),
        ({"seeds": ["7", "5"]}, "seeds: [0, 1, 7, 5]\n"),
        ({"estimators": ["norm"]}, "estimators: [norm]\n"),
        ({"estimators": ["norm", "gap"]}, "estimators: [norm, gap]\n"),
        ({"backbones": ["dir:my model"]}, "backbones: [packs/dinov2-small, dir:my model]\n"),
        ({"sources": ["text/x"]}, "prompts: [vision/land, text/news, text/x]  # two of them"),
        ({"sources": ["builtin/boolq"]}, "        - builtin/sarcasm\n        - builtin/boolq\nseeds"),
        ({"targets": ["a: b #c"]}, '  - "a: b #c"\n'),
    ],
)  # fmt: skip
def test_an_entry_is_added_and_the_rest_stays(study, additions, expected):
    before = read_spec(study)
    after = add_to_document(study, additions)
    assert expected in study.read_text()
    assert inserted(GOOD, study.read_text())
    assert after == read_spec(study) != before


def test_a_source_that_is_a_path_is_a_task_to_tune_on(study):
    (study.parent / "mails").mkdir()
    spec = add_to_document(study, {"sources": ["mails"]})
    assert [task.task for task in spec.sources.tune[0].tasks] == ["builtin/sarcasm", "mails"]


def test_several_lists_are_added_to_at_once(study):
    spec = add_to_document(study, {"seeds": ["2"], "methods": ["spt"], "targets": ["x", "y"]})
    assert spec.seeds == (0, 1, 2)
    assert [target.shown for target in spec.targets] == ["digits", "photos", "x", "y"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seeds: [0, 1]\n", "", "seeds: [0, 7]\n"),  # the default stays
        ("seeds: [0, 1]\n", "seeds: [\n  0, # first\n  1,\n]", "  0, # first\n  1, 7,\n]"),
        ("seeds: [0, 1]\n", "seeds:\n- 0\n- 1", "- 0\n- 1\n- 7"),
        ("seeds: [0, 1]\n", "seeds: # all\n    -   0   # zero\n    - 1 # one\n# end", "    - 1 # one\n    - 7\n# end"),
        ("seeds: [0, 1]\n", "'seeds':\n- 0\n-\n  1\n\n\n", "  1\n- 7\n\n\n"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_layout_is_kept(study, old, new, expected, newline):
    text = GOOD.replace(old, new).replace("\n", newline)
    study.write_bytes(text.encode())
    spec = add_to_document(study, {"seeds": ["7"]})
    assert spec.seeds[-1] == 7
    assert study.read_bytes().decode().endswith(expected.replace("\n", newline))
    assert inserted(text, study.read_bytes().decode())


def test_a_list_that_is_missing_or_empty_is_begun(study):
    text = "study: a\nbackbones: [x]\ntargets: [y]\nmethods: # none yet\n"
    study.write_text(text)
    assert [m.method for m in add_to_document(study, {"methods": ["vpt"]}).methods] == ["vpt"]
    assert study.read_text() == text.replace("methods:", "methods: [vpt]")
    study.write_text(text.replace("methods: # none yet", "methods: ~"))
    add_to_document(study, {"methods": ["vpt"]})
    assert study.read_text().endswith("methods: [vpt]\n")
    study.write_text(text.replace("methods: # none yet\n", "# end"))
    add_to_document(study, {"methods": ["vpt"]})
    assert study.read_text().endswith("# end\nmethods: [vpt]")


@pytest.mark.parametrize(
    ("additions", "message"),
    [
        ({"seeds": ["1"]}, "seed 1 stands there twice"),
        ({"seeds": ["x"]}, "a seed is a whole number from 0 to 2\\*\\*63 - 1, got 'x'"),
        ({"seeds": ["-1"]}, "got '-1'"),
        ({"seeds": ["1_0"]}, "got '1_0'"),
        ({"seeds": [str(2**63)]}, "seeds.2: must be less than"),
        ({"targets": ["digits"]}, "target 'digits' stands there twice"),
        ({"methods": ["vtp"]}, "no method named 'vtp'. Did you mean 'vpt'?"),
        ({"methods": ["vpt:low"]}, "methods.2.layers: must be 'shallow' or 'deep', got 'low'"),
        ({"methods": ["vpt:shallow"]}, "method 'vpt shallow' stands there twice"),
        ({"estimators": ["nrm"]}, "Did you mean 'norm'?"),
        ({"target": ["x"]}, "has no list 'target' to add to. Did you mean 'targets'?"),
        ({"targets": ["z"], "seeds": ["0"]}, "seed 0 stands there twice"),
        ({"targets": ["\x1b"]}, None),
    ],
)
def test_a_refused_addition_leaves_the_file(study, additions, message):
    if message is None:
        assert add_to_document(study, additions).targets[-1].task == "\x1b"
        return
    with pytest.raises(InputError, match=message):
        add_to_document(study, additions)
    assert study.read_text() == GOOD
    assert list(study.parent.iterdir()) == [study]


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("study: [", "seeds", "this is no YAML"),
        ("- a", "seeds", "a study is a mapping"),
        (GOOD.replace("[0, 1]", "3"), "seeds", "seeds: must be a list, got 3"),
        ('{"study": "a", "backbones": ["x"], "targets": ["y"], "methods": ["vpt"]}', "seeds", "add 3 by hand"),
        (GOOD + "...\n", "threads", "no list 'threads'"),
        (GOOD.replace("seeds: [0, 1]\n", "...\n"), "seeds", "add 3 by hand"),
        (GOOD.split("sources:")[0], "sources", "'3' cannot be added: the study has no library"),
        (GOOD.replace("  prompts: [vision/land, text/news]  # two of them\n", ""), "sources", "takes all prompts"),
    ],
)
def test_where_nothing_can_be_added_the_file_stays(study, text, key, message):
    study.write_text(text)
    with pytest.raises(InputError, match=message):
        add_to_document(study, {key: ["3"]})
    assert study.read_text() == text


def test_a_task_needs_a_place_among_the_sources(study):
    study.write_text(GOOD.split("  tune:")[0])
    with pytest.raises(InputError, match="'builtin/boolq' is a task, and the study tunes no prompts"):
        add_to_document(study, {"sources": ["builtin/boolq"]})


def test_json_is_added_to_as_well(study):
    study.write_text('{"study": "a", "backbones": ["x"], "targets": ["y"], "methods": ["vpt"], "seeds": [0]}')
    assert add_to_document(study, {"seeds": ["3"], "methods": ["vpt:shallow"]}).seeds == (0, 3)


def test_a_link_stays_a_link(study):
    link = study.parent / "link.yaml"
    link.symlink_to(study)
    add_to_document(link, {"seeds": ["7"]})
    assert link.is_symlink()
    assert read_spec(study).seeds == (0, 1, 7)


@settings(deadline=None)
@given(SPECS, NAMES)
def test_any_target_can_be_added_to_any_study(tmp_path_factory, spec, name):
    path = tmp_path_factory.mktemp("added") / "study.yaml"
    path.write_text(write_spec(spec), encoding="utf-8", newline="")
    added = TaskSpec(task=name)
    if added.shown in [target.shown for target in spec.targets]:
        return
    assert add_to_document(path, {"targets": [name]}) == spec.model_copy(update={"targets": (*spec.targets, added)})
