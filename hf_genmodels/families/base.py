"""What a family tells of itself, and what families share that build networks from options or find saved ones.

Importing this, or any family's file, imports neither torch nor diffusers.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.spec import DataSpec, Layout
from ..errors import UserError
from ..files import CHECKPOINT_MANIFEST, read_json
from ..sizes import sample_shape

if TYPE_CHECKING:
    from ..objectives.base import Objective

GENERATION, TRANSLATION = "unconditional-image-generation", "image-to-image"


UNKNOWN_CARD = """{% extends "_base.md" %}
{% block about %}
A model trained by losses of its author's own.
{% endblock %}
{% block snippet %}
{% if pipeline %}
from hf_genmodels import AutoPipeline, register

{% if own_pipeline %}
register({{ pipeline }})  # the author's class
{% endif %}
pipe = AutoPipeline.from_pretrained("{{ source }}")
{% else %}
# of the author's class
network = Network.from_pretrained("{{ source }}")
{% endif %}
{% endblock %}
{% block limits %}
What its losses and classes do is not known here.
{% endblock %}
"""


def one_image(args: Any) -> Layout:
    """The layout of a family whose examples are single images or vectors."""
    return Layout()


def no_reload(folder: Path, args: Any, data: DataSpec) -> "Objective":
    """`Family.reload` of a family that is fitted to all data at once."""
    raise UserError("a family that is fitted to all data at once starts from no saved model")


def as_asked(folder: Path, layout: Layout) -> Layout:
    """`Family.saved_layout` of a family whose saved models say nothing of the layout."""
    return layout


@dataclass(frozen=True)
class Family:
    """One family of models; its stem `name` is the same in every folder.

    Attributes:
        name: Stem of `objectives/<name>.py`, `pipelines/<name>.py`, `training/train_<name>.py`,
            `model_cards/<name>.md`.
        title: What it is, for people.
        arguments: Dataclass of the family's options. It may have `loop_defaults: ClassVar[dict[str, Any]]`: other
            defaults for options of the loop, such as {"adam_beta1": 0.5}.
        build: (options, data) -> objective with new networks. Raises `UserError` where options do not go together, or
            not with the data.
        reload: (folder, options, data) -> objective around the networks saved in a folder. Sets the options that
            shape networks to what was saved, see `adopt_saved_options`.
        pipeline: Its pipeline class: a public name of hf_genmodels, or "package.module:Class" of another package;
            None for a family that only serves others (the classifier).
        pipeline_tag: Task on the Hub.
        variants: Other pipelines that models of the family may be saved as.
        layout: Options -> what an example consists of.
        saved_layout: (folder of a saved model, layout) -> the layout with what the model says of it. Raises
            `UserError` where options say something else.
        is_fitted: Whether it is fitted to all data at once, without training steps.
        card: Text of its model card's template (Jinja, `{% extends "_base.md" %}`) for a family of another package;
            those of hf_genmodels lie in `model_cards/`.
    """

    name: str
    title: str
    arguments: type
    build: "Callable[[Any, DataSpec], Objective]"
    reload: "Callable[[Path, Any, DataSpec], Objective]" = no_reload
    pipeline: str | None = None
    pipeline_tag: str = GENERATION
    variants: tuple[str, ...] = ()
    layout: Callable[[Any], Layout] = one_image
    saved_layout: Callable[[Path, Layout], Layout] = as_asked
    is_fitted: bool = False
    card: str | None = field(default=None, repr=False)

    @classmethod
    def unknown(cls, name: str, pipeline: str | None) -> "Family":
        """What stands for the family of an objective or a pipeline of one's own, of which none is known."""

        def build(args: Any, data: DataSpec) -> "Objective":
            raise UserError(f"{name} is no family that can be built from options")

        return cls(name, pipeline or name, NoArguments, build, pipeline=pipeline, card=UNKNOWN_CARD)

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Class names of all its pipelines."""
        names = () if self.pipeline is None else (self.pipeline, *self.variants)
        return tuple(name.rpartition(":")[2] for name in names)

    def load_pipeline(self, class_name: str) -> Any:
        """Import and return one of its pipeline classes."""
        import importlib

        name = next(name for name in (self.pipeline, *self.variants) if name and name.rpartition(":")[2] == class_name)
        module, _, attribute = name.rpartition(":")
        return getattr(importlib.import_module(module or "hf_genmodels"), attribute)


@dataclass
class NoArguments:
    """A family without options of its own."""


# options that families share -----------------------------------------------------------------------------------------


# Of the option `discriminator_learning_rate` of every family that has a discriminator.
DISCRIMINATOR_RATE = {"help": "Of the discriminator; --learning_rate by default."}


# saved networks ------------------------------------------------------------------------------------------------------


def adopt_saved_options(args: Any, saved: Mapping[str, Any]) -> None:
    """Set the options that shape networks to those of the saved ones, so that what is recorded of a run is true.

    Args:
        args: The family's options, changed in place.
        saved: Option -> the saved network's value, lists where the option has a list.

    Raises:
        UserError: An option that is not at its default asks for another value.
    """
    defaults = type(args)()
    for name, value in saved.items():
        if getattr(args, name) not in (getattr(defaults, name), value):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            shown = "none" if value in (None, []) else shown
            raise UserError(
                f"--{name} cannot be changed with --pretrained_model_name_or_path; the saved network has {shown}"
            )
    for name, value in saved.items():
        setattr(args, name, value)


def load_networks(folder: Path, data: DataSpec, allowed: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Load the networks of a saved model, or of a checkpoint, to train them further.

    Args:
        folder: The model's folder, whose `training_networks/` holds what its pipeline does not need; or the folder of
            a checkpoint's networks.
        data: What they shall learn; the first network must take samples like these.
        allowed: Name -> names of the classes that the network may be of: public ones of ours, or registered ones.

    Returns:
        Name -> network.

    Raises:
        UserError: One is not there, is of another class, takes other samples, or is damaged.
    """
    networks = {name: load_saved(folder, name, classes) for name, classes in allowed.items()}
    check_shape(next(iter(networks.values())), data)
    return networks


def load_saved(folder: Path, name: str, allowed: tuple[str, ...]) -> Any:
    """One network of `load_networks`."""
    import hf_genmodels

    from ..loading import load_network
    from ..registration import find_registered

    place = find_saved(folder, name)
    if place is None:
        raise UserError(
            f"{folder} holds no {name} ({name}/ or training_networks/{name}/), which training needs; "
            "publish or copy the whole output folder of a training run"
        )
    found = read_json(place / "config.json").get("_class_name")
    if found not in allowed:
        raise UserError(
            f"{place} holds a {found}; {name} must be {' or '.join(allowed)}, or be trained on in Python, by "
            "hf_genmodels.train"
        )
    network_class: Any = find_registered(found) or getattr(hf_genmodels, found)
    return load_network(network_class, place)


def find_saved(folder: Path, name: str) -> Path | None:
    """Where a network of a saved model, or of a checkpoint, lies; None where it holds none of that name."""
    places = [folder / "training_networks" / name, folder / name]
    if (folder.parent / CHECKPOINT_MANIFEST).is_file():  # a checkpoint has a frozen network beside it, not inside
        places.append(folder.parent.parent / "frozen" / name)
    return next((place for place in places if place.is_dir()), None)


def built_anew(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    """`Objective.notes` of networks that a saved model, such as a published generator, did not have."""
    missing = ", ".join(names)
    return (f"{folder} holds no {missing}: built anew, to be trained from the beginning",) if missing else ()


def check_shape(network: Any, data: DataSpec) -> None:
    """Compare the samples that a saved network takes, or that a saved generator makes, with the data.

    Raises:
        UserError: They have different shapes.
    """
    config = network.config
    channels = config.in_channels if "in_channels" in config else config.out_channels
    expected = sample_shape(channels, config.sample_size)
    if expected != data.shape:
        raise UserError(f"the pretrained network takes samples of shape {expected}, {data.name} has {data.shape}")


def check_labels(data: DataSpec, option: str) -> int:
    """Number of classes of labelled data.

    Raises:
        UserError: The data have no labels; the message names `option`, which needs them.
    """
    if not data.class_names:
        raise UserError(f"{option} needs labels, but {data.name} has none; name the column with --label_column")
    return len(data.class_names)


def class_notes(folder: Path, data: DataSpec) -> tuple[str, ...]:
    """`Objective.notes` of a model that knows as many classes as the data have, by other names.

    Args:
        folder: The saved model's, or that of a checkpoint's networks.
        data: What it shall learn.
    """
    names = saved_class_names(folder)
    known = data.class_names if data.label_maps is None else data.label_maps.names
    if names is None or known is None or names == known:
        return ()
    before, now = (", ".join(map(str, each)) for each in (names, known))
    return (f"the classes of {folder} are {before}; those of {data.name}, {now}, take their places in this order",)


def saved_class_names(folder: Path) -> tuple[str, ...] | None:
    """The names of the classes that a saved model or a checkpoint's networks know; None where nothing tells them.

    Args:
        folder: The model's, or that of the networks.
    """
    index, manifest = folder / "model_index.json", folder.parent / CHECKPOINT_MANIFEST
    saved = (read_json(index) if index.is_file() else {}).get("id2label")
    names = list(saved.values()) if isinstance(saved, dict) else None
    if names is None and manifest.is_file():
        names = read_json(manifest).get("class_names")
    return tuple(names) if isinstance(names, list) and names else None


def check_saved_classes(known: int, data: DataSpec) -> None:
    """Compare the number of classes that a saved model was trained with, with the data's.

    Raises:
        UserError: The data have no labels, or another number of classes.
    """
    found = check_labels(data, "this model")
    if found != known:
        raise UserError(f"the saved model knows {known} classes, {data.name} has {found}")
