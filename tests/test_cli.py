"""The `adai` command from the user's side."""

import os
import signal
import subprocess
import sys
import time

import pytest

from adai.cli import main


def adai(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "adai", *arguments], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--sedes", "3"], "unrecognized arguments: --sedes 3; did you mean --seeds"),
        (["train", "--lerning-rate", "3"], "unrecognized arguments: --lerning-rate 3 (see adai train --help)"),
        (["compare", "--seeds", "0"], "'0' is not a whole number above 0"),
        (["compare", "--epochs", "many"], "'many' is not a whole number above 0"),
        (["compare", "--optimizers", "adai", "lion"], "unknown optimizer 'lion'; choose from adai, adaiw, sgd"),
        (["compare", "--model", "resnet19"], "unknown model 'resnet19'; choose from smallnet"),
        (["compare", "--device", "warp"], "cannot use device 'warp'"),
        (["train", "--seed", str(2**64)], f"'{2**64}' is not below 2^63"),
        (["compere"], "invalid choice: 'compere'"),
        ([], "arguments are required: COMMAND"),
    ],
)
def test_bad_input_gives_one_line_and_status_2(arguments, message, capsys):
    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = exit_.code
    captured = capsys.readouterr()
    assert status == 2
    assert message in captured.err
    assert captured.err.startswith("adai")
    assert captured.err.count("\n") == 1


def test_a_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main(["compare", "--out", str(tmp_path / "taken")]) == 2
    assert "taken: File exists; give another folder with --out" in capsys.readouterr().err


@pytest.mark.slow
def test_compare_prints_a_table_and_where_the_files_are(tmp_path):
    result = adai("compare", "--optimizers", "adai,sgd", "--seeds", "1", "--epochs", "1", "--out", str(tmp_path / "r"))
    assert result.returncode == 0, result.stderr
    assert "SGD momentum" in result.stdout
    assert "ms / step" in result.stdout
    assert f"Report: {tmp_path / 'r'}/report.html" in result.stdout  # whole, however long, to be copied
    written = {"report.html", "summary.csv", "summary.md", "summary.tex", "figures"}
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"config.json", "adai", "sgd", *written}


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_finished(tmp_path):
    # A test run in the background has SIGINT ignored, which its children inherit.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from adai.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "compare", "--optimizers", "sgd", "adam", "--epochs", "4"]
    process = subprocess.Popen(
        [*command, "--seeds", "50", "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "adam").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "SGD momentum" in out
    assert "Interrupted. Finished epochs are kept" in err
    assert "Traceback" not in err
    assert (tmp_path / "summary.csv").exists()


@pytest.mark.slow
def test_without_the_lab_the_command_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; from adai.cli import main; sys.exit(main(['compare']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "adai compare: cannot run without sklearn installed; pip install 'adai[lab]'\n"


def test_version_and_help(capsys):
    for option, text in (("--version", "adai 0."), ("--help", "compare")):
        with pytest.raises(SystemExit) as exit_:
            main([option])
        assert exit_.value.code == 0
        assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--executor", "ray", "--jobs", "2"], "--jobs is for --executor local"),
        (["--address", "auto"], "--address is for --executor ray; add that, or leave --address out"),
        (["--cpus", "2"], "--cpus is for --executor ray; add that, or leave --cpus out"),
        (["--gpus", "1"], "--gpus is for --executor ray; add that, or leave --gpus out"),
    ],
)
def test_an_option_of_the_other_executor_is_refused(given, message, tmp_path, capsys):
    assert main(["compare", *given, "--out", str(tmp_path / "runs")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["curvature", "noise", "stability"])
def test_a_command_that_is_refused_leaves_no_empty_folder_but_what_was_there(command, tmp_path, capsys):
    for out in ("new/folder", "old"):
        (tmp_path / "old").mkdir(exist_ok=True)
        assert main([command, str(tmp_path / "nothing"), "--out", str(tmp_path / out)]) == 2
        assert "cannot read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
