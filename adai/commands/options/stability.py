"""The options of `adai stability`."""

from pathlib import Path

from adai.commands.options.later import Commands, later
from adai.commands.options.numbers import positive, seed


def add_stability(commands: Commands) -> None:
    """Add `adai stability`."""
    stability = commands.add_parser(
        "stability",
        help="how close runs are to the largest stable learning rate",
        description="The stability margin after the last epoch of each run, with the optimizer's state as it was: the "
        "learning rate over the largest stable one. 1 is the edge.",
    )
    stability.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="a folder of adai train or adai compare, or a checkpoint in one",
    )
    stability.add_argument("--samples", type=positive, default=1000, metavar="N", help="default: 1000")
    stability.add_argument(
        "--batch", type=positive, metavar="N", help="samples per minibatch (default: the batch size of the run)"
    )
    stability.add_argument(
        "--batch-norm",
        choices=("batch", "running"),
        default="batch",
        help="its statistics: those of each --batch samples, as in training (default), or those gathered so far",
    )
    stability.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    stability.add_argument("--seed", type=seed, default=0, metavar="N", help="of the samples (default: 0)")
    stability.add_argument("--device", default="cpu", help="cpu, cuda, mps, … (default: cpu)")
    stability.add_argument(
        "--data-dir", type=Path, metavar="FOLDER", help="has data sets by name (or set ADAI_DATA_DIR)"
    )
    stability.add_argument(
        "--out", type=Path, default=Path("runs/stability"), metavar="FOLDER", help="default: runs/stability"
    )
    stability.set_defaults(run=later("stability"))
