"""Finds the data: a Hub id, a local folder or a file become named splits of the `datasets` library."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tarfile import TarError
from typing import Any, TypeAlias

import datasets
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from ..errors import UserError
from .arguments import DataArguments
from .folders import Domain, holds_two_domains, image_folder, tar_splits, tell_passed_over
from .listing import OF_A_RUN, Listing, list_folder

Split: TypeAlias = datasets.Dataset | datasets.IterableDataset

# Given as the name of a data set, these would make `datasets` read the working folder.
PACKAGED_READERS = frozenset(_PACKAGED_DATASETS_MODULES)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
TABLES = (".parquet", ".arrow", ".tar")


@dataclass(frozen=True)
class Source:
    """An opened data set.

    Attributes:
        name: The Hub id, or the folder's own name: never a path of this machine, since it goes into model cards.
        splits: The splits by name; all of them are streamed, or none is.
        roots: Of a local folder of images, the folder that holds each split; else empty.
    """

    name: str
    splits: Mapping[str, Split]
    roots: Mapping[str, Path] = dataclasses.field(default_factory=dict)


def has_two_sources(args: DataArguments) -> bool:
    """Whether the two images of an example come from two data sets, or from the two domains in one folder."""
    if args.dataset_name_b is not None or args.train_data_dir_b is not None:
        return True
    return has_domain_folders(args)


def has_domain_folders(args: DataArguments) -> bool:
    """Whether the first data set is a local folder with the two domains in `trainA/` and `trainB/`."""
    given = args.train_data_dir or args.dataset_name
    return bool(given) and holds_two_domains(Path(given or "").expanduser())


def open_source(args: DataArguments, suffix: str = "", domain: Domain | None = None) -> Source:
    """Opens the data set that the arguments name.

    Args:
        args: The options; of a second data set, with its name where that of a first one is.
        suffix: What the names of the options it came from end in: "_b" for a second data set.
        domain: Which domain of a folder that holds two.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    if args.train_data_dir is not None:
        option = f"--train_data_dir{suffix}"
        listing = list_folder(_folder(option, args.train_data_dir))
        if _holds_tars_alone(listing):
            return _tar_source(option, args.train_data_dir, listing, args, listing.folder.resolve().name)
        return _image_source(option, args.train_data_dir, listing, args, domain)
    assert args.dataset_name is not None
    option, given = f"--dataset_name{suffix}", args.dataset_name
    if given in PACKAGED_READERS:
        raise UserError(
            f"{option} {given} names how `datasets` reads files, not which: give the folder, with --train_data_dir"
            f"{suffix} if it holds images"
        )
    path = Path(given).expanduser()
    if _stat(option, given) is None and not _looks_local(given):
        hub = {"path": given, "name": args.dataset_config_name, "revision": args.revision}
        return Source(given, _load(option, given, args, **hub))
    if path.is_file():
        if path.suffix.lower() == ".tar":
            return _tar_source(option, given, Listing(path.parent, tars=[path.name]), args, path.stem)
        if path.suffix.lower() != ".parquet":
            raise UserError(f"{option} {given} is a file: {_instead_of_file(path, 'a parquet file or a folder')}")
        return Source(path.stem, _load(option, given, args, path="parquet", data_files={"train": str(path)}))
    folder = _folder(option, given)
    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        return Source(folder.resolve().name, _saved_folder(option, given, folder, args.streaming))
    listing = list_folder(folder)
    if (listing.images or listing.others[".zip"]) and not _is_left_to_datasets(listing):
        return _image_source(option, given, listing, args, domain)
    if _holds_tars_alone(listing):
        return _tar_source(option, given, listing, args, folder.resolve().name)
    # Absolute, since a folder called like a reader of `datasets` would be taken for that.
    splits = _load(option, given, args, path=str(folder.resolve()), name=args.dataset_config_name)
    return Source(folder.resolve().name, splits)


def _image_source(option: str, given: str, listing: Listing, args: DataArguments, domain: Domain | None) -> Source:
    folder = listing.folder
    if any((folder / name).exists() for name in OF_A_RUN):
        raise UserError(f"{option} {given} holds a training run or a model, not data: give the folder of the images")
    if not listing.images:
        raise UserError(f"{option} {given} {_no_images(listing)}")
    found = image_folder(listing, args.label_column, args.on_bad_image == "skip", domain)
    splits = _streamed(found.splits) if args.streaming else found.splits
    return Source(folder.resolve().name, splits, found.roots)


def _holds_tars_alone(listing: Listing) -> bool:
    """Whether a folder's data are archives of examples."""
    others = (ending for ending in (*ARCHIVES, *TABLES) if ending != ".tar")
    described = listing.metadata or _has_configs(listing)
    return bool(listing.tars) and not (listing.images or described or any(listing.others[each] for each in others))


def _tar_source(option: str, given: str, listing: Listing, args: DataArguments, name: str) -> Source:
    """Archives in which files of one name but for their endings are an example, as webdataset has them."""
    others = Counter({ending: count for ending, count in listing.others.items() if ending != ".tar"})
    tell_passed_over(dataclasses.replace(listing, others=others), args.on_bad_image == "skip")
    # Escaped, since `datasets` takes names for patterns.
    files = {
        split: [glob.escape(str(listing.folder.resolve() / path)) for path in paths]
        for split, paths in tar_splits(listing).items()
    }
    try:
        return Source(name, _load(option, given, args, path="webdataset", data_files=files))
    except UserError as error:
        hint = "archives hold files such as 0001.jpg and 0001.cls, of each example the same kinds"
        raise UserError(f"{error}; {hint}") from error


def _no_images(listing: Listing) -> str:
    """What a folder holds instead of images, and what to do about it."""
    if listing.problems:
        return f"holds no image that can be found: {listing.problems[0]}"
    archives = [ending for ending in ARCHIVES if listing.others[ending] and ending not in TABLES]
    if archives:
        return f"holds no images, but {archives[0]} archives: unpack them"
    if any(listing.others[ending] for ending in TABLES):
        return "holds no images, but tables: give it as --dataset_name"
    known = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in sorted(listing.others.items()))
    return f"holds no images{f', but {known}' if known else ''}: give a folder of such as .png, .jpg or .npy files"


def _is_left_to_datasets(listing: Listing) -> bool:
    """Whether the images beside tables, or a card that says what to read, are not the data themselves."""
    has_arrays = any(path.lower().endswith(".npy") for path in listing.images)
    if has_arrays:
        return False
    return any(listing.others[ending] for ending in TABLES) or _has_configs(listing)


def _has_configs(listing: Listing) -> bool:
    """Whether a card says what to read."""
    card = listing.folder / "README.md"
    header = card.read_text(errors="replace").split("\n---")[0] if card.is_file() else ""
    return header.startswith("---") and "\nconfigs:" in header


def _looks_local(name: str) -> bool:
    return name.startswith((".", "~", "/")) or name.endswith("/") or "\\" in name or name.count("/") > 1


def _stat(option: str, name: str) -> os.stat_result | None:
    """What there is at a path; None for nothing."""
    if not name.strip():
        raise UserError(f"{option} is empty: give the name of a data set or a folder")
    try:
        return Path(name).expanduser().stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        shown = name if len(name) < 300 else f"{name[:50]}..."
        raise UserError(f"{option} {shown!r} cannot be looked at: {reason}") from error


def _folder(option: str, name: str) -> Path:
    status, folder = _stat(option, name), Path(name).expanduser()
    if status is None:
        raise UserError(
            f"{option} {name}: there is no such folder (looked from {Path.cwd()}); a data set on the Hub is written "
            "user/name, a built-in one builtin:name"
        )
    if not folder.is_dir():
        raise UserError(f"{option} {name} is no folder: {_instead_of_file(folder, 'the folder of the images')}")
    try:
        if not any(folder.iterdir()):
            raise UserError(f"{option} {name} is an empty folder: give one that holds images or parquet files")
    except OSError as error:
        raise UserError(f"{option} {name} cannot be read: {error.strerror}") from error
    return folder


def _instead_of_file(path: Path, otherwise: str) -> str:
    if path.suffix.lower() in (".parquet", ".tar"):
        return "give it as --dataset_name"
    return "unpack the archive and give the folder" if path.suffix.lower() in ARCHIVES else f"give {otherwise}"


def _load(option: str, given: str, args: DataArguments, **where: Any) -> Mapping[str, Split]:
    """`datasets.load_dataset` with its many exceptions made one."""
    is_local = Path(given).expanduser().exists()
    try:
        with _without_bars() if is_local else contextlib.nullcontext():
            return datasets.load_dataset(**where, cache_dir=args.cache_dir, streaming=args.streaming)
    except (OSError, ValueError, RuntimeError, ImportError, TarError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, datasets.exceptions.DatasetGenerationError) and error.__cause__ is not None:
            reason = f"{reason} ({str(error.__cause__).splitlines()[0]})"
        local = "" if is_local else " (there is no such local folder)"
        raise UserError(f"{option} {given}: no data set could be read from there{local}: {reason}") from error


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Without `datasets`' progress bars, which speak of downloading where a local folder is only indexed."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _saved_folder(option: str, given: str, folder: Path, streaming: bool) -> Mapping[str, Split]:
    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{option} {given} cannot be read as a saved data set: {error}") from error
    splits = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
    return _streamed(splits) if streaming else splits


def _streamed(splits: Mapping[str, datasets.Dataset]) -> Mapping[str, Split]:
    return {name: split.to_iterable_dataset() for name, split in splits.items()}
