"""A folder of images in class folders, ``train/cat/1.png``, …, as parts of the `datasets` library."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adai.errors import UserError

# Names of the folders directly below the data set's folder, and the part that each is. Deeper folders are classes,
# whatever their names: a class may be called train, or test-tube.
PARTS = {
    "train": "train", "training": "train",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip


def class_folders(source: Path) -> Mapping[str, Any] | None:
    """The parts of a folder of images in class folders; None if the folder has no such parts.

    Each part numbers its classes on its own, in the order of their names.

    Raises:
        UserError: two folders are the same part, one image is in two parts, or an image is not in a class folder.
    """
    from datasets import ClassLabel, Dataset, Features, Image

    folders: dict[str, Path] = {}
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        part = PARTS.get(folder.name.lower())
        if part in folders:
            raise UserError(f"{folders[part]} and {folder} are both the {part} part; rename one of them")
        if part:
            folders[part] = folder
    found = {part: _images(folder) for part, folder in folders.items()}
    if not any(found.values()):
        return None
    _see_that_parts_are_apart(found)
    parts = {}
    for part, classes in found.items():
        files = [(str(file), number) for number, name in enumerate(classes) for file in classes[name]]
        features = Features({"image": Image(), "label": ClassLabel(names=list(classes))})
        columns = {"image": [file for file, _ in files], "label": [number for _, number in files]}
        if files:
            parts[part] = Dataset.from_dict(columns, features=features)
    return parts


def _images(part: Path) -> dict[str, list[Path]]:
    """The images of each class that has images."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    found: dict[str, list[Path]] = {}
    loose = None
    walked = os.walk(part, followlinks=True)  # Path.rglob does not follow links in every version of Python
    for file in sorted(Path(folder, name) for folder, _, names in walked for name in names):
        inside = file.relative_to(part).parts
        if file.suffix.lower() not in ImageFolder.EXTENSIONS or any(name.startswith(".") for name in inside):
            continue
        if len(inside) == 2:
            found.setdefault(inside[0], []).append(file)
        else:
            loose = loose or file
    if loose and found:
        raise UserError(f"{loose} is not in a class folder right below {part}; move it into one, or out of {part}")
    return found


def _see_that_parts_are_apart(found: Mapping[str, Mapping[str, list[Path]]]) -> None:
    where: dict[Path, str] = {}
    for part, classes in found.items():
        for file in (file for files in classes.values() for file in files):
            if where.setdefault(file.resolve(), part) != part:
                raise UserError(f"{file} is an image of {where[file.resolve()]} too; each image belongs in one part")
