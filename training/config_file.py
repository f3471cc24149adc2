"""Options from a YAML or JSON file, as words of a command line."""

import json
from pathlib import Path
from typing import Any

import yaml

from hf_genmodels.errors import UserError

# A command or saved options that repeat a run must not carry a secret, remove a folder, or skip the run's beginning.
NOT_REPEATED = ("hub_token", "overwrite_output_dir", "resume_from_checkpoint")


def options_of_file(path: Path, known: dict[str, str], family_name: str | None) -> list[str]:
    """The file's values as command-line words, so that types and choices are checked in one place.

    Args:
        path: YAML or JSON.
        known: The name of every option by each of its names.
        family_name: If given, the options saved by a run of another family are refused.

    Raises:
        UserError: The file cannot be read, or holds something else than options and their values.
    """
    words: list[str] = []
    named: dict[str, str] = {}
    for name, value in _read_options(path, family_name).items():
        option = known.get(name.replace("-", "_"))  # as on the command line
        if option is None:
            raise UserError(f"--config {path}: unknown option {name!r}")
        if option in named:
            raise UserError(f"--config {path}: {named[option]!r} and {name!r} are one option; keep one of them")
        named[option] = name
        values = value if isinstance(value, list) else [value]
        if any(isinstance(each, (dict, list)) for each in values):
            raise UserError(f"--config {path}: {name} must be a value or a list of values, got {value}")
        if isinstance(value, list):
            if any(_is_option(each) for each in values):
                raise UserError(f"--config {path}: {name}: an entry of a list cannot be an option, got {value}")
            words += [f"--{option}", *map(str, values)]
        elif value not in (None, "", "null", "~"):
            words.append(f"--{option}={value}")
    return words


def _is_option(value: Any) -> bool:
    """Whether argparse takes a word for an option; what begins with a dash and is no number."""
    try:
        float(value)
    except (TypeError, ValueError):
        return str(value).startswith("-")
    return False


class _Loader(yaml.BaseLoader):
    """Leaves every value the string it is (YAML's own types would make False of `no`), and refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = [(self.construct_object(key, deep=True), value) for key, value in node.value]
        return _unrepeated([(key, self.construct_object(value, deep=True)) for key, value in pairs])


def _unrepeated(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A mapping of pairs none of which repeats the key of another."""
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise ValueError(f"{key!r} is no name of an option")
        if key in found:
            raise ValueError(f"{key!r} is given twice")
        found[key] = value
    return found


def _read_options(path: Path, family_name: str | None) -> dict[str, Any]:
    """The option: value pairs of a file written by hand, or of a run's `training_args.json`."""
    try:
        text = path.read_text(encoding="utf-8")
        is_json = path.suffix == ".json"
        options = json.loads(text, object_pairs_hook=_unrepeated) if is_json else yaml.load(text, Loader=_Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"--config {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(options, dict):
        raise UserError(f"--config {path} must hold option: value pairs")
    if options.keys() != {"family", "command", "arguments"} or not isinstance(options["arguments"], dict):
        return options
    if family_name not in (None, options["family"]):
        raise UserError(f"--config {path} has the options of a run of {options['family']}, this is {family_name}")
    return {name: value for name, value in options["arguments"].items() if name not in NOT_REPEATED}
