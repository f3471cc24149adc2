"""Local folders of images, `.npy` among them: their splits, their labels, their columns."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import datasets
import pyarrow as pa

from ..errors import UserError
from .listing import PLAIN, Listing
from .metadata import check_alike, described, image_cells, undecoded

logger = logging.getLogger(__name__)

# What a folder at the top is called that is a split, in lower case -> the split.
SPLIT_FOLDERS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}
# Names that are splits elsewhere: no class is taken to have one of these where others of them are splits.
OTHER_SPLIT_FOLDERS = ("training", "testing", "valid", "dev", "eval", "evaluation")
# The authors of CycleGAN keep both domains in one folder: trainA, trainB, testA, testB.
DOMAIN_FOLDER = re.compile(f"({'|'.join(SPLIT_FOLDERS)})([AB])", re.IGNORECASE)
Domain = Literal["A", "B"]


@dataclass(frozen=True)
class ImageFolder:
    """The images of a local folder, undecoded.

    Attributes:
        splits: The examples by split.
        roots: The folder that holds each split.
    """

    splits: Mapping[str, datasets.Dataset]
    roots: Mapping[str, Path]


def holds_two_domains(folder: Path) -> bool:
    """Whether a folder is laid out as the authors of CycleGAN do it: `trainA/` and `trainB/` lie in it."""
    try:
        names = {name.lower() for name in os.listdir(folder)}
    except OSError:
        return False
    return any({f"{split}a", f"{split}b"} <= names for split in SPLIT_FOLDERS)


def image_folder(
    listing: Listing, label_column: str, skip_problems: bool = False, domain: Domain | None = None
) -> ImageFolder:
    """The images of a folder by split, undecoded.

    Folders at the top called train, test, val or validation are splits, where all images lie in them; else all images
    are one set, `train`. Where a split has metadata, their lines are the examples, see `metadata.described`. Elsewhere
    every image is an example, and where all lie equally deep in folders of several names, these names are the labels.

    Args:
        listing: What lies in the folder; at least one image.
        label_column: The column of the labels that metadata may have.
        skip_problems: Pass over folders and links that cannot be read, and say how many they are.
        domain: Of a folder that `holds_two_domains`, which one.

    Raises:
        UserError: It cannot be told what is a split, metadata cannot be used, or a part of the folder cannot be read.
    """
    tell_passed_over(listing, skip_problems)
    tops = _split_tops(listing) if domain is None else _domain_tops(listing, domain)
    images = {split: _below(listing.images, top) for split, top in tops.items()}
    metadata = {split: _below(listing.metadata, top) for split, top in tops.items()}
    roots = {split: listing.folder / top for split, top in tops.items()}
    described_splits = [split for split in tops if metadata[split]]
    if not described_splits:
        return ImageFolder(_found(listing.folder, tops, images), roots)
    for split in tops:
        if split not in described_splits:
            first = listing.folder / metadata[described_splits[0]][0]
            raise UserError(f"{roots[split]} has no {first.name}, unlike {first.parent}: write one for every split")
    files = {split: [listing.folder / path for path in metadata[split]] for split in tops}
    tables = {path: described(path, label_column) for paths in files.values() for path in paths}
    (first, expected), *others = tables.items()
    for other, table in others:
        check_alike(first, expected, other, table)
    splits = {split: datasets.concatenate_datasets([tables[path] for path in files[split]]) for split in tops}
    _tell_unnamed(listing.folder, images, splits)
    return ImageFolder(splits, roots)


def _below(paths: list[str], top: str) -> list[str]:
    return [path for path in paths if path.startswith(f"{top}/")] if top else paths


def tell_passed_over(listing: Listing, skip_problems: bool) -> None:
    """Names what is not read, or refuses to go on without it."""
    problems = listing.problems
    if problems and not skip_problems:
        raise UserError(f"{problems[0]}: mend or remove it, or pass --on_bad_image skip to do without it")
    if problems:
        logger.warning("%s: skipped %d that cannot be read; the first: %s", listing.folder, len(problems), problems[0])
    if listing.runs:
        logger.warning(
            "%s: passed over %s, which holds a training run or a model, not data",
            listing.folder,
            ", ".join(f"{path}/" for path in listing.runs),
        )
    for path in listing.overviews:
        logger.warning("%s: passed over %s, a picture of the samples beside it", listing.folder, path)
    odd = {ending: count for ending, count in sorted(listing.others.items()) if ending not in PLAIN}
    if odd:
        counts = ", ".join(f"{count} {ending}" for ending, count in odd.items())
        logger.warning("%s: passed over files that are no images by their endings: %s", listing.folder, counts)


def _split_tops(listing: Listing) -> dict[str, str]:
    """The folder at the top of each split; {"train": ""} where all is one set."""
    folder, whole = listing.folder, {"train": ""}
    tops = list(dict.fromkeys(path.rpartition("/")[0].partition("/")[0] for path in listing.images))
    splits = [top for top in tops if top.lower() in SPLIT_FOLDERS]
    described_whole = [path for path in listing.metadata if "/" not in path]
    if not splits:
        if len(tops) == 1 and not listing.metadata:
            _check_nested(listing, tops[0])
        if any(DOMAIN_FOLDER.fullmatch(top) for top in tops) and holds_two_domains(folder):
            raise UserError(
                f"{folder} holds two domains, {', '.join(tops)}, for families that translate between them: give one "
                "of these folders"
            )
        return whole
    if len(splits) < len(tops):
        if not described_whole:
            _check_classes(listing, tops, splits)
        return whole
    named = _named(folder, {top: SPLIT_FOLDERS[top.lower()] for top in splits})
    if described_whole:
        raise UserError(
            f"{folder / described_whole[0]} lies beside the split folders {', '.join(named.values())}: put one into "
            "each of them, with paths relative to it"
        )
    return named


def tar_splits(listing: Listing) -> dict[str, list[str]]:
    """The archives of each split: those in a folder called like one, or with names such as `train-0001.tar`.

    Raises:
        UserError: Some are of a split by their names, some are not.
    """
    found: dict[str | None, list[str]] = {}
    for path in listing.tars:
        word = path.partition("/")[0] if "/" in path else re.split(r"[-_.]", path)[0]
        found.setdefault(SPLIT_FOLDERS.get(word.lower()), []).append(path)
    if None not in found:
        return {split: found[split] for split in ("train", "validation", "test") if split in found}
    if len(found) > 1:
        named = next(paths[0] for split, paths in found.items() if split is not None)
        raise UserError(
            f"{listing.folder} holds {named} and beside it {found[None][0]}: of which split is that? Call all like "
            "train-0001.tar, or put them into folders called train, val and test"
        )
    return {"train": listing.tars}


def _named(folder: Path, split_of: Mapping[str, str]) -> dict[str, str]:
    """The folder at the top of each split, in the order in which they are used."""
    found: dict[str, str] = {}
    for top, split in split_of.items():
        if split in found:
            raise UserError(f"{found[split]} and {top} in {folder} are both the split {split!r}: put them into one")
        found[split] = top
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _check_nested(listing: Listing, top: str) -> None:
    """One folder that holds splits was meant itself: as one set, it would train on its test images."""
    inner = {path[len(top) + 1 :].rpartition("/")[0].partition("/")[0] for path in listing.images} if top else set()
    if len(inner) > 1 and all(name.lower() in SPLIT_FOLDERS for name in inner):
        place = listing.folder / top
        raise UserError(f"the splits {', '.join(sorted(inner))} lie in {place}, not in {listing.folder}: give {place}")


def _check_classes(listing: Listing, tops: list[str], splits: list[str]) -> None:
    """A class may be called `train`; where it may as well be a split, neither is guessed."""
    known = (*SPLIT_FOLDERS, *OTHER_SPLIT_FOLDERS)
    others = [top or "images of no folder" for top in tops if top not in splits]
    are_classes = all(path.count("/") == 1 for path in listing.images)
    if len(splits) > 1 or not are_classes or all(top.lower() in known for top in tops):
        raise UserError(
            f"{listing.folder} holds {', '.join(splits)} and beside them {', '.join(others)}: put all images into "
            f"folders called train, val and test, or rename {', '.join(splits)} where no splits are meant"
        )
    logger.warning(
        "%s: %s is read as a class like %s; it is a split where all images lie in folders called train, val or test",
        listing.folder,
        splits[0],
        ", ".join(others),
    )


def _domain_tops(listing: Listing, domain: Domain) -> dict[str, str]:
    """The folder at the top of each split of one domain."""
    tops = list(dict.fromkeys(path.rpartition("/")[0].partition("/")[0] for path in listing.images))
    matches = {top: DOMAIN_FOLDER.fullmatch(top) for top in tops}
    for top, match in matches.items():
        if match is None:
            raise UserError(
                f"{listing.folder} holds {', '.join(top or 'images of no folder' for top in tops)}: beside folders "
                "such as trainA, trainB, testA and testB there must be no other images"
            )
    split_of = {
        top: SPLIT_FOLDERS[match[1].lower()] for top, match in matches.items() if match and match[2].upper() == domain
    }
    return _named(listing.folder, split_of)


def _found(folder: Path, tops: Mapping[str, str], images: Mapping[str, list[str]]) -> dict[str, datasets.Dataset]:
    """Every image is an example."""
    below = [path[len(tops[split]) :].lstrip("/") for split, paths in images.items() for path in paths]
    names = sorted({_class_name(path) for path in below} - {""})
    same_depth = len({path.count("/") for path in below}) == 1
    if len(names) > 1 and not same_depth:
        logger.warning("%s: images do not lie equally deep, so the names of their folders are no labels", folder)
    splits = {}
    for split, paths in images.items():
        columns: dict[str, pa.Array] = {"image": image_cells([os.path.join(folder, path) for path in paths])}
        features: dict[str, datasets.Image | datasets.ClassLabel] = {"image": datasets.Image(decode=False)}
        if len(names) > 1 and same_depth:
            numbers = {name: number for number, name in enumerate(names)}
            columns["label"] = pa.array([numbers[_class_name(path)] for path in paths], pa.int64())
            features["label"] = datasets.ClassLabel(names=names)
        splits[split] = undecoded(columns, features)
    return splits


def _class_name(path: str) -> str:
    return path.rpartition("/")[0].rpartition("/")[2]


def _tell_unnamed(folder: Path, images: Mapping[str, Collection[str]], splits: Mapping[str, datasets.Dataset]) -> None:
    """Says how many images no metadata names."""
    named = {
        os.path.relpath(cell["path"], folder)
        for split in splits.values()
        for column, feature in split.features.items()
        if isinstance(feature, datasets.Image)
        for cell in split.with_format("arrow")[:][column].to_pylist()
    }
    left_out = [path for paths in images.values() for path in paths if path not in named]
    if left_out:
        logger.warning("%s: %d images are named by no metadata; the first: %s", folder, len(left_out), left_out[0])
