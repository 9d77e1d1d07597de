"""The options of `adai curvature` and `adai noise`."""

from argparse import ArgumentParser
from pathlib import Path

from adai.commands.options.later import Commands, later
from adai.commands.options.numbers import above_0, above_1, positive, seed

# The defaults if no RUN has its own data and net, and none are given.
DATASET = "digits"
MODEL = "smallnet"


def add_curvature(commands: Commands) -> None:
    """Add `adai curvature`."""
    curvature = commands.add_parser(
        "curvature",
        help="how flat the loss is around a net's parameters; eq. 5 and Figure 7",
        description="Hessian eigenvalues, trace and spectral density, sharpness, and the loss along the top two "
        "eigenvectors, of one or several nets side by side. Of a comparison: a table by optimizer, in its folder.",
    )
    _add_subject(curvature, out="runs/curvature", samples=1000)
    curvature.add_argument("--top", type=positive, default=5, metavar="K", help="largest eigenvalues (default: 5)")
    curvature.add_argument("--rho", type=above_0, default=0.05, help="radius of SAM's ball (default: 0.05)")
    curvature.add_argument("--radius", type=above_0, default=0.5, help="how far the loss is drawn (default: 0.5)")
    curvature.add_argument(
        "--eq5",
        action="store_true",
        help="instead: gradient noise covariance against the Hessian; exact up to 8,192 parameters, best with "
        "--dtype float64",
    )
    curvature.set_defaults(run=later("curvature"))


def add_noise(commands: Commands) -> None:
    """Add `adai noise`."""
    noise = commands.add_parser(
        "noise",
        help="is gradient noise Gaussian? Figure 6",
        description="Noise of one minibatch across parameters against noise of parameters across minibatches: fits, "
        "tail indices, tests of normality, gradient-noise scale.",
    )
    _add_subject(noise, out="runs/noise", samples=None)
    noise.add_argument("--B", type=positive, default=128, metavar="N", help="batch size (default: 128)")
    noise.add_argument("--minibatches", type=above_1, default=1000, metavar="N", help="default: 1000")
    noise.add_argument(
        "--parameters", type=positive, default=500, metavar="N", help="number of parameters to follow (default: 500)"
    )
    noise.set_defaults(run=later("noise"))


def _add_subject(parser: ArgumentParser, *, out: str, samples: int | None) -> None:
    """Add the options for the parameters, their data and the loss."""
    parser.add_argument(
        "states",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="a folder of adai train or adai compare, a checkpoint, or torch.save(model.state_dict(), RUN); a run "
        "has its own data and net (default: random initialisation)",
    )
    parser.add_argument("--dataset", metavar="NAME", help=f"as for adai compare (default: {DATASET})")
    parser.add_argument("--model", metavar="NAME", help=f"as for adai compare (default: {MODEL})")
    parser.add_argument(
        "--task",
        metavar="MODULE:FUNCTION",
        help="your own instead: a function that returns an object with model, train (a data set) and optionally loss",
    )
    number = "all" if samples is None else str(samples)
    parser.add_argument("--samples", type=positive, default=samples, metavar="N", help=f"default: {number}")
    parser.add_argument("--batch", type=positive, default=256, metavar="N", help="samples at a time (default: 256)")
    parser.add_argument(
        "--batch-norm",
        choices=("running", "batch"),
        default="running",
        help="its statistics: gathered in training (default), or those of each --batch samples",
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps, … (default: cpu)")
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER", help="has data sets by name (or set ADAI_DATA_DIR)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"default: {out}")
    parser.set_defaults(usual_out=Path(out))
