"""Cards of folders whose names and files hold what would be markup, or values of the wrong type."""

from __future__ import annotations

import ast
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hf_genmodels.card_text import cell, code, escape, python_string, shell_word
from hf_genmodels.cards import KEEP_MARKER, make_card, write_card
from hf_genmodels.cli import main
from hf_genmodels.training.output_folder import check_ways
from tests.testing_utils.model_folders import METRICS, TRAINING, write_json, write_model, write_trained_model
from tests.testing_utils.refusals import refused

HOSTILE = {
    "heading": "x\n\n# Injected\n\ny",
    "heading at once": "# Injected",
    "carriage return": "x\r\r# Injected\r",
    "line separator": "x\u2028# Injected\x85# Injected",
    "script": "<script>Injected()</script>",
    "comment": f"{KEEP_MARKER}\nInjected",
    "fence": "x\n```\n# Injected\n<script>",
    "code span": "`x` <img src=x onerror=Injected> ``y`` [Injected](javascript:x)",
    "link": "[Injected](https://evil.example) ![Injected](https://evil.example/x.png)",
    "row": "x |\n| Injected | 1 |",
    "python": '"); Injected(""" + "\\',
    "python line": 'x")\nInjected()\n#',
    "metadata": "x\n---\nlicense: injected\n---\n# Injected",
    "yaml": "x: [Injected]\n- &a *a {{ 7 * 7 }} {% raw %}",
    "direction": "x\u202egnp.Injected\u200b\x00\x1b[31m\ud800",
}


def put(content: dict[str, Any], field: str, value: Any) -> None:
    """Put a value into a field of a JSON file; for `*` it becomes the name of one."""
    *path, last = field.split("/")
    place: Any = content
    for name in path:
        place = place[int(name) if isinstance(place, list) else name]
    place[value if last == "*" else last] = 1.5 if last == "*" else value


RESULT = "metrics.json/evaluation/0"
FIELDS = (
    *(f"metrics.json/{name}" for name in ("train/*", "validation/*", "environment/torch", "environment/*")),
    *(f"{RESULT}/settings/{name}" for name in ("extractor", "weights_sha256", "dataset", "split", "*")),
    f"{RESULT}/name",
    "training_args.json/family",
    *(f"training_args.json/arguments/{name}" for name in ("dataset_name", "train_split", "validation_split")),
    "training_args.json/arguments/train_data_dir_b",
)


def check_card(folder: Path, **options: Any) -> None:
    """The card has the sections of an ordinary one, no HTML, a snippet that Python takes, and metadata of ours."""
    card = ModelCard(str(write_card(folder, **options).read_text(encoding="utf-8")))
    outside = re.sub(r"^```\w+\n.*?^```$", "", card.text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^ {0,3}(#+ .*)$", outside, re.MULTILINE)
    assert headings[0].startswith("# ") and all(heading.startswith("## ") for heading in headings[1:])
    assert set(headings[1:]) <= {f"## {name}" for name in SECTIONS}
    text = re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", outside).replace(KEEP_MARKER, "")
    assert "<" not in text and not re.search(r"(?<!\\)\]\((javascript|https://evil)", text)
    for table in re.findall(r"(?:^\|.*\n)+", outside, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert card.text.count(f"\n{KEEP_MARKER}") == 1 and card.text.endswith(f"{KEEP_MARKER}\n")
    ast.parse(snippet(card))
    assert card.data.library_name == "hf_genmodels" and card.data.license is None


def snippet(card: ModelCard) -> str:
    found = re.search(r"```python\n(.+?)\n```", card.text, re.DOTALL)
    assert found is not None
    return found[1]


SECTIONS = ("Use", "Pictures", "Training", "Data", "Measured", "Limits", "Papers", "Licence")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_files_hold_stays_text(text: str, tmp_path: Path) -> None:
    folder = write_trained_model(tmp_path / "digits")
    content = json.loads(json.dumps({"metrics.json": METRICS, "training_args.json": TRAINING}))
    for field in FIELDS:
        put(content, field, text)
    for name, value in content.items():
        write_json(folder / name, value)
    check_card(folder)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_names_stay_text(text: str, tmp_path: Path) -> None:
    text = text.replace("/", "÷").replace("\x00", "").replace("\ud800", "")
    folder = write_trained_model(tmp_path / text)
    network, picture = folder / f"net {text[:40]}", f"{text[:40]}-7.png"
    index: dict[str, Any] = {"_class_name": "VAEPipeline", "vae": ["hf_genmodels", "VAE"]}
    index |= {network.name: ["mine", text], "id2label": {"0": text, "1": "plain"}}
    write_json(folder / "model_index.json", index)
    write_json(network / "config.json", {"_class_name": "x", text: text, "sizes": [text], "more": {text: text}})
    (folder / "samples" / picture).touch()
    write_json(folder / "metrics.json", METRICS | {"warnings": [text]})
    check_card(folder)
    call = next(node for node in ast.walk(ast.parse(snippet(make_card(folder)))) if is_loading(node))
    assert ast.literal_eval(call.args[0]) == folder.as_posix()


def is_loading(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_options_of_every_family_stay_text(text: str, tmp_path: Path) -> None:
    for family, option in (("gan", "gan_loss"), ("cyclegan", "target_image_column"), ("vae", "train_split")):
        folder = write_model(tmp_path / family, family)
        write_json(folder / "training_args.json", {"family": family, "arguments": {option: text}})
        check_card(folder)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_command_stays_a_command(text: str, tmp_path: Path) -> None:
    import shlex

    folder = write_trained_model(tmp_path / "digits")
    command = f"python train.py --name {shlex.quote(text)} --seed 1"
    write_json(folder / "training_args.json", TRAINING | {"command": command})
    check_card(folder)
    (block,) = re.findall(r"```bash\n(.+?)\n```", make_card(folder).text, re.DOTALL)
    assert "\n" not in block and block.startswith("python train.py --name ") and block.endswith(" --seed 1")


def test_what_is_harmless_stays_readable() -> None:
    for text in ("train_loss 2.13.0, sizes: [64, 128], a = b - c # d 50 %", "[0] * 16", "Größe_1 (2)", 'it\'s "so"'):
        assert escape(text) == text
    assert escape("_x_ *y* [z](u) <b>") == "\\_x\\_ \\*y\\* [z\\](u) &lt;b&gt;"
    assert unescape(escape("<a> & `b`")) == "<a> & `b`"
    assert (code("a`b"), code("x"), cell("a|b_c")) == ("`` a`b ``", "`x`", "a\\|b_c")
    assert (shell_word("a b"), shell_word("a\n'b\\")) == ("'a b'", "$'a\\u000a\\'b\\\\'")
    assert ast.literal_eval(f'"{python_string(HOSTILE["direction"])}"') == HOSTILE["direction"]


WRONG: dict[str, tuple[str, Any]] = {
    "evaluation": ("metrics.json", {"evaluation": 3}),
    "a result": ("metrics.json", {"evaluation": [3]}),
    "a result without a value": ("metrics.json", {"evaluation": [{"name": "FID", "settings": {}}]}),
    "a value in words": ("metrics.json", {"evaluation": [{"name": "FID", "value": "low", "settings": {}}]}),
    "settings": ("metrics.json", {"evaluation": [{"name": "FID", "value": 1, "settings": []}]}),
    "a dataset": ("metrics.json", {"evaluation": [{"name": "FID", "value": 1, "settings": {"dataset": ["x"]}}]}),
    "train": ("metrics.json", {"train": [1]}),
    "a loss in words": ("metrics.json", {"train": {"loss": "low"}}),
    "validation": ("metrics.json", {"validation": {"loss": None}}),
    "step": ("metrics.json", {"step": "many"}),
    "seconds": ("metrics.json", {"step": 3, "seconds": "many"}),
    "environment": ("metrics.json", {"step": 3, "environment": "mine"}),
    "warnings": ("metrics.json", {"warnings": "none"}),
    "a list": ("metrics.json", [1]),
    "arguments": ("training_args.json", {"arguments": [1]}),
    "a family": ("training_args.json", {"family": ["vae"]}),
    "a command": ("training_args.json", {"command": ["python"]}),
    "an open quote": ("training_args.json", {"command": "python 'x\ny"}),
    "a name of data": ("training_args.json", {"arguments": {"dataset_name": 3}}),
    "an option": ("training_args.json", {"arguments": {"validation_split": {"a": 1}}}),
    "a class": ("model_index.json", {"_class_name": "x\ny"}),
    "no class": ("model_index.json", {"_class_name": ["VAEPipeline"]}),
}


@pytest.mark.parametrize(("file", "content"), WRONG.values(), ids=WRONG)
def test_a_wrong_type_is_one_line(file: str, content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_trained_model(tmp_path / "digits")
    write_json(folder / file, content)
    with refused(f"{file}"):
        make_card(folder)
    assert main(["card", str(folder)]) == 1 and capsys.readouterr().err.count("\n") == 1
    assert not (folder / "README.md").exists()


def test_a_number_in_words_in_a_template(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "x", "pixelwise")
    write_json(folder / "training_args.json", {"arguments": {"known_pixels": "__import__('os')"}})
    with refused("a JSON file lacks a value or has one of another type"):
        make_card(folder)


@pytest.mark.parametrize(
    "readme",
    ["---\nlicense: mit: x\n---\n", "---\n- a\n- b\n---\n", "---\n" + "[" * 3000 + "\n---\n", b"\xff---\n"],
    ids=["colon", "list", "deep", "bytes"],
)
def test_a_readme_with_broken_metadata(readme: str | bytes, tmp_path: Path) -> None:
    folder = write_trained_model(tmp_path / "digits")
    content = readme if isinstance(readme, bytes) else (readme + KEEP_MARKER + "mine").encode()
    (folder / "README.md").write_bytes(content)
    with refused(f"{folder / 'README.md'}: the card's metadata cannot be read"):
        write_card(folder)
    with refused("the card's metadata cannot be read"):  # before a training run, whose card it would be
        check_ways(folder, [], True, {})
    assert (folder / "README.md").read_bytes() == content
