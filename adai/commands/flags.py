"""What the library says, as a command says it: it names arguments, such as `folder`, and the command has flags."""

import re

from adai.lab.results.outcome import CURE

# Arguments whose flag has another name. Each of the others has the flag --its-name.
FLAGS = {"folder": "folder with --out", "options": "--option"}
ARGUMENTS = {
    *FLAGS,
    "accumulate",
    "address",
    "augment",
    "batch",
    "clip_norm",
    "cpus",
    "data_dir",
    "executor",
    "flatness",
    "gpus",
    "graph",
    "highest",
    "image_size",
    "jobs",
    "limit",
    "lr",
    "lr_grid",
    "measures",
    "model",
    "models",
    "optimizers",
    "reference",
    "seeds",
    "stability",
    "target",
    "tensorboard",
    "tune",
    "warmup_steps",
}  # fmt: skip


def in_flags(message: str) -> str:
    """The message with flags for the arguments that it names; whatever else it quotes stays as it is.

    The advice for runs that died is followed by the flags for it.
    """
    message = message.replace(CURE, f"{CURE} (`lr`, `warmup_steps`, `clip_norm`)")

    def flag(found: re.Match[str]) -> str:
        name = found[1]
        return FLAGS.get(name, f"--{name.replace('_', '-')}") if name in ARGUMENTS else found[0]

    return re.sub(r"`(\w+)`", flag, message)
