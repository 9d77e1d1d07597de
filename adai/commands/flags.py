"""What the library says, as a command says it: it names arguments, such as `folder`, and the command has flags."""

import re

# Arguments whose flag has another name. Each of the others has the flag --its-name.
FLAGS = {"folder": "folder with --out", "options": "--option"}
ARGUMENTS = {
    *FLAGS,
    "accumulate",
    "address",
    "augment",
    "batch",
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
}  # fmt: skip


def in_flags(message: str) -> str:
    """The message with flags for the arguments that it names; whatever else it quotes stays as it is."""

    def flag(found: re.Match[str]) -> str:
        name = found[1]
        return FLAGS.get(name, f"--{name.replace('_', '-')}") if name in ARGUMENTS else found[0]

    return re.sub(r"`(\w+)`", flag, message)
