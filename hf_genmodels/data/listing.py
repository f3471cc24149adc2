"""What lies in a local folder and below it: images, metadata, and what stands in the way of finding more."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# Endings of files that are read; `decoding.FORMATS` has the formats behind them.
READABLE = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".npy"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".pfm", ".tga", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
)
# Endings of images that are not: listed like the others, so that each is named or counted as a bad image.
UNREADABLE = (
    *(".heic", ".heif", ".avif", ".jxl", ".psd", ".exr", ".hdr", ".eps", ".pcx", ".dds", ".sgi", ".xbm", ".xpm"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw", ".wmf", ".emf"),
    *(".dcm", ".nii", ".nii.gz", ".fits", ".fts", ".qoi", ".bpg"),
)
IMAGE_ENDINGS = (*READABLE, *UNREADABLE)
# Endings of files that nobody takes for images; of others a line says how many were passed over.
PLAIN = (
    *("", ".txt", ".md", ".rst", ".pdf", ".html", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".toml"),
    *(".ini", ".cfg", ".log", ".db", ".py", ".ipynb", ".sh", ".md5", ".sha256"),
)
# What `hf-genmodels sample` calls its first sample, and the picture of all.
FIRST_SAMPLE, OVERVIEW = "00000.png", "grid.png"
METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
# A folder that holds one of these was written by a training run or is a saved model: its pictures are no data.
OF_A_RUN = ("training_args.json", "model_index.json")


@dataclass
class Listing:
    """The content of a folder; all paths are relative to it, with `/`.

    Attributes:
        folder: The folder.
        images: Files that are images by their endings, readable or not, in the order of their names.
        metadata: Files that describe images.
        tars: Archives that may be shards of a data set.
        others: How many other files there are, by ending in lower case.
        runs: Folders of training runs and saved models, which are passed over.
        overviews: The picture of all samples that `hf-genmodels sample` writes beside them, which is passed over.
        problems: Words for what hides files: folders that cannot be read, links that lead nowhere or in a circle.
    """

    folder: Path
    images: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)
    overviews: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """Goes through a folder and all below it, through links as well; names that begin with a dot are passed over."""
    found = Listing(folder)
    # Relative path of a folder, and the device and inode of those it lies in: a link back to one of them is a circle.
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        inside, above = waiting.pop()
        place = os.path.join(folder, inside)
        try:
            status = os.stat(place)
            with os.scandir(place) as scanned:
                entries = list(scanned)
        except OSError as error:
            found.problems.append(f"the folder {place} cannot be read ({error.strerror})")
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            found.problems.append(f"{place} is a link to a folder that it lies in")
        elif inside and any(entry.name in OF_A_RUN for entry in entries):
            found.runs.append(inside)
        else:
            folders = _sort_entries(found, inside, entries)
            waiting += [(name, above | {identity}) for name in folders]
    if {FIRST_SAMPLE, OVERVIEW} <= set(found.images):
        found.images.remove(OVERVIEW)
        found.overviews.append(OVERVIEW)
    for paths in (found.images, found.metadata, found.tars, found.runs, found.problems):
        paths.sort()
    return found


def _sort_entries(found: Listing, inside: str, entries: list[os.DirEntry[str]]) -> list[str]:
    """Puts the files of one folder where they belong; returns the folders in it."""
    folders = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = f"{inside}/{entry.name}" if inside else entry.name
        lowered = entry.name.lower()
        ending = os.path.splitext(lowered)[1]
        is_image = lowered.endswith(IMAGE_ENDINGS)
        if not _is_unicode(entry.name):
            found.problems.append(f"{entry.path!a} has a name that is not UTF-8, and is passed over: rename it")
            continue
        try:
            mode = entry.stat().st_mode if entry.is_symlink() else None
            is_folder = entry.is_dir() if mode is None else stat.S_ISDIR(mode)
            is_file = entry.is_file() if mode is None else stat.S_ISREG(mode)
        except OSError as error:
            if not ending or ending not in PLAIN:
                found.problems.append(f"the link {entry.path} leads nowhere ({error.strerror})")
            continue
        if is_folder:
            folders.append(path)
        elif is_image and is_file:
            found.images.append(path)
        elif is_image:
            found.problems.append(f"{entry.path} is neither a file nor a folder")
        elif is_file and lowered in METADATA_FILES:
            found.metadata.append(path)
        else:
            found.others[ending] += 1
            if is_file and ending == ".tar":
                found.tars.append(path)
    return folders


def _is_unicode(name: str) -> bool:
    """Whether the bytes of a name were text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
