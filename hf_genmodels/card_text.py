"""Text of model cards: whatever comes from a user or a file stays on its line and inside its table cell, as text.

Every `{{ value }}` of a template is escaped by `escape`, but for values that are `Markdown` already.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from .errors import UserError, one_line


class Markdown(str):
    """Text that goes into a card as it is."""


# As entities, since a backslash would not keep a backtick from ending a code span.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "&#96;"}
# What makes a link or emphasis in some places only is left alone in others, as in `[0] * 16` and `num_samples`; what
# makes a heading, list or rule does so at the start of a line.
_SPECIAL = re.compile(r"[&<>`\\]|\](?=[(\[:])|(?<!\s)\*|\*(?!\s)|(?<![^\W_])_|_(?![^\W_])|^[#+=~-]|(?<=^\d)[.)](?=\s)")


def tidy(value: Any) -> Any:
    """A value of a JSON file with every string in it, keys as well, on one line."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list):
        return [tidy(item) for item in value]
    return {one_line(name): tidy(item) for name, item in value.items()} if isinstance(value, dict) else value


def escape(value: object) -> str:
    """What stands in a card for a value: `Markdown` and numbers as they are, of other text every special character."""
    if isinstance(value, (Markdown, int, float)):
        return str(value)
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0]) or f"\\{found[0]}", one_line(str(value)))


def cell(text: object) -> Markdown:
    """A value as a cell of a table."""
    return Markdown(escape(text).replace("|", "\\|"))


def code(value: object) -> Markdown:
    """A value as a code span."""
    text = one_line(str(value))
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def python_string(text: str) -> Markdown:
    """What stands between double quotes in Python for a text."""
    return Markdown("".join(_python_character(character) for character in json.dumps(text, ensure_ascii=False)[1:-1]))


def _python_character(character: str) -> str:
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}" if ord(character) > 0xFFFF else f"\\u{ord(character):04x}"


def shell_word(word: str) -> str:
    """A word of a command for bash, on one line."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(map(_python_character, escaped)) + "'"


def link_target(path: str) -> Markdown:
    """A relative path as the target of a link."""
    return Markdown(quote(path))


def facts(values: Mapping[str, Any]) -> str:
    """{"num_samples": 5000, ...} -> "num samples: 5000, ..."; of a hash the first 12 digits."""
    shown = {name: value for name, value in values.items() if value is not None}
    return ", ".join(
        f"{name.replace('_', ' ')}: {str(value)[:12] if name.endswith('sha256') else value}"
        for name, value in shown.items()
    )


def rounded(values: Mapping[str, float]) -> dict[str, str]:
    """Figures by name, four digits of each."""
    return {name: f"{value:.4g}" for name, value in values.items()}


def number(value: float | None) -> Markdown:
    """A number of a table, five digits of it."""
    return Markdown("" if value is None else f"{value:.5g}")


def render(template: str | None, family: str, context: Mapping[str, Any]) -> str:
    """Fill in a template.

    Args:
        template: Its text; None for that of `model_cards/`.
        family: Whose template it is.
        context: What it may show.

    Raises:
        UserError: A value is of a type that the template cannot show.
    """
    import jinja2

    environment = _environment()
    found = environment.get_template(f"{family}.md") if template is None else environment.from_string(template)
    try:
        text: str = found.render(context)
    except (TypeError, ValueError, AttributeError, jinja2.UndefinedError) as error:
        what = f"{context['folder']}: a JSON file lacks a value or has one of another type"
        raise UserError(f"{what}: {one_line(str(error))}") from error
    return text


@cache
def _environment() -> Any:
    """Jinja with this package's templates. `ModelCard.from_template` knows no loader, which `extends` needs."""
    import jinja2

    folder = files("hf_genmodels.model_cards")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        undefined=jinja2.StrictUndefined,
        finalize=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    filters = {"number": number, "rounded": rounded, "facts": facts, "cell": cell, "code": code}
    environment.filters.update(filters, link_target=link_target)
    return environment
