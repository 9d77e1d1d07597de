"""Text as a task: predict each next character of a file."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from adai.errors import UserError
from adai.lab.models.transformer import Transformer
from adai.lab.tasks.metric import bits
from adai.lab.tasks.sources import Pair
from adai.lab.tasks.targets import IGNORED
from adai.lab.tasks.task import Factory, Task

CONTEXT = 64
FEWEST = 10  # the smallest number of contexts in a text: each part needs at least one
_SHARE = 10  # the last tenth of the text is for testing, the tenth before it for validation


class Text(NamedTuple):
    """A text as numbers, in three consecutive parts: 80 % for training, 10 % for validation, 10 % for testing.

    Attributes:
        characters: the different characters of the whole text, sorted; a character's number is its index here.
        train: the numbers of the characters of the training part, (n,), int64.
        validation: those of the validation part.
        test: those of the test part.
    """

    characters: str
    train: Tensor
    validation: Tensor
    test: Tensor


class Windows:
    """Windows of a text (N, context) as inputs, and the same windows shifted by one character as targets.

    By default the windows are adjacent. With ``shifted`` their common offset is drawn for each epoch, so that over the
    epochs each character is at every position of a window.

    With a ``stride`` smaller than the context they overlap, and only the last ``stride`` targets of a window count; all
    count in the first. So each character counts once, and has at least context − stride characters before it, as it has
    for a reader of the text. The other targets are `IGNORED`.

    Args:
        tokens: the numbers of the characters, on the training device.
        context: the number of characters in a window.
        shifted: whether to draw the offset, for training.
        stride: from the beginning of a window to the beginning of the next; default the context.
    """

    def __init__(self, tokens: Tensor, context: int, *, shifted: bool = False, stride: int | None = None) -> None:
        self.tokens = tokens
        self.context = context
        self.shifted = shifted
        self.stride = stride or context

    def __len__(self) -> int:
        """The number of windows; with ``shifted`` one less than fit, to leave room for the offset."""
        return (len(self.tokens) - 1 - self.context) // self.stride + 1 - self.shifted

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The windows with these indices."""
        drawn = self.drawn(draws)
        for place in places:
            yield self.at(place.to(self.tokens.device), drawn)

    def drawn(self, draws: Generator) -> tuple[Tensor, ...]:
        """Where the windows of an epoch begin; nothing if they are not shifted."""
        return (torch.randint(self.context, (), generator=draws).to(self.tokens.device),) if self.shifted else ()

    def at(self, where: Tensor, drawn: tuple[Tensor, ...]) -> Pair:
        """The windows with these numbers, shifted as was drawn."""
        begins = self.stride * where + (drawn[0] if drawn else 0)
        within = torch.arange(self.context + 1, device=self.tokens.device)
        taken = self.tokens[begins.unsqueeze(1) + within]
        inputs, targets = taken[:, :-1], taken[:, 1:]
        if self.stride < self.context:
            again = (within[:-1] < self.context - self.stride) & (where > 0).unsqueeze(1)
            targets = targets.masked_fill(again, IGNORED)
        return inputs, targets


def read_text(file: Path, context: int = CONTEXT) -> Text:
    """Read a text file and split it into parts.

    Raises:
        UserError: the file cannot be read, is not UTF-8, is shorter than ten contexts, or has only one character.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror}); give a text file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start} is not); give a text file") from error
    fewest = FEWEST * (context + 1)
    if len(text) < fewest:
        raise UserError(f"{file} has {len(text):,} characters; it needs at least {fewest:,}, ten contexts of {context}")
    characters = "".join(sorted(set(text)))
    if len(characters) < 2:
        raise UserError(f"{file} only repeats the character {characters!r}; there is nothing to learn")
    number = {character: place for place, character in enumerate(characters)}
    tokens = torch.tensor([number[character] for character in text])
    tenth = len(tokens) // _SHARE
    train, validation, test = tokens.split([len(tokens) - 2 * tenth, tenth, tenth])
    return Text(characters, train, validation, test)


def matrices(parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter of a language model: to matrices, not to biases and norms."""
    return parameter.dim() > 1


def text_task(text: Text, device: torch.device, *, context: int = CONTEXT) -> Factory:
    """The task to predict the next character with a `Transformer`. Its metric is the number of bits per character.

    Windows of the validation and the test part overlap by half: a character at the beginning of a window, with nothing
    before it, would say more of the window than of the model.
    """
    read = partial(Windows, context=context, stride=context // 2)
    train, validation, test = (part.to(device) for part in (text.train, text.validation, text.test))

    def task() -> Task:
        return Task(
            Transformer(len(text.characters), context),
            Windows(train, context, shifted=True),
            read(test),
            metric=bits._replace(name="bits a character"),
            validation=read(validation),
            decays=matrices,
        )

    return task
