"""The program `scopenet`: it finds its subcommands, starts fast and ends with sentences."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import scopenet
from scopenet import ConfigError, cli
from scopenet.data.digits import prepare_digits
from scopenet.errors import one_sentence_errors

ROOT = Path(scopenet.__file__).resolve().parents[1]
WITHOUT_TORCH = """
import sys
sys.argv = ["scopenet", *sys.argv[1:]]
from scopenet.cli import main
code = main()
print(sorted({x.partition(".")[0] for x in sys.modules} & {"torch", "detectron2", "numpy", "cv2"}))
sys.exit(code)
"""


def program(*arguments: str, code: str = "", cwd: Path = ROOT) -> subprocess.CompletedProcess:
    start = ["-c", code] if code else ["-m", "scopenet"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, *start, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("argument", ["--help", "--version", ""])
def test_it_starts_without_torch(argument):
    done = program(*filter(None, [argument]), code=WITHOUT_TORCH)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr


def test_help_fits_a_screen():
    lines = program("--help").stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert all(any(line.split()[:1] == [name] for line in lines) for name in cli.COMMANDS)


def test_version_names_what_matters():
    rows = dict(line.split(maxsplit=1) for line in program("--version").stdout.splitlines())
    assert rows["scopenet"] == scopenet.__version__
    assert rows["torch"] == import_module("torch").__version__.partition("+")[0]
    assert rows["detectron2"] != "not installed" and rows["Python"].startswith("3.")


def test_unknown_command():
    done = program("trian")
    assert done.returncode == 2 and done.stderr.startswith("error: trian is none of demo, ")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_parser(name, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(name, ["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: scopenet {name} ")
    module = import_module(f"scopenet.{cli.COMMANDS[name][0]}")
    assert callable(module.run)


@pytest.mark.parametrize("name", ["train", "predict", "export", "analyze", "web", "check", "demo"])
def test_overrides_are_written_in_one_way(name):
    module = import_module(f"scopenet.{cli.COMMANDS[name][0]}")
    required = {
        "predict": "--model m --input x y --json j",
        "export": "--model m --format onnx --output o",
        "analyze": "--model m --output o",
        "web": "--model m",
        "check": "--json j --images i",
    }.get(name, "")
    args = module.parser().parse_args([*required.split(), "SEED", "3", "MODEL.WEIGHTS", ""])
    assert args.opts == ["SEED", "3", "MODEL.WEIGHTS", ""]


@pytest.mark.slow
def test_commands_register_with_detectron2_in_a_process_of_their_own():
    done = program("predict", "--model", "Digits-ScopeNet_R_18_FPN.yaml", "--input", "x.png",
                   "--json", "x.json", "MODEL.WEIGHTS", "x.pth")  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("error: The weights x.pth do not exist")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_workers_of_the_program_know_the_built_in_data_sets(tmp_path):
    # They are started with the program's arguments, but do not run a subcommand.
    prepare_digits(tmp_path, train=4, val=2, size=64)
    script = tmp_path / "scopenet"
    script.write_text(
        "import sys\nfrom scopenet.cli import main\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    data = ["DATASETS.TEST", "()", "MODEL.SCOPENET.NUM_CLASSES", "10", "OUTPUT_DIR", "output"]
    command = [sys.executable, "-W", "ignore", str(script), "train", "--num-gpus", "2"]
    command += ["--config-file", "Digits-ScopeNet_R_18_FPN.yaml", "SOLVER.MAX_ITER", "1", *data]
    env = os.environ | {"PYTHONPATH": str(ROOT), "DETECTRON2_DATASETS": str(tmp_path)}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output" / "model_final.pth").is_file()


def test_without_torch_a_subcommand_says_so(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "torch" else name)
    assert cli.main(["predict"]) == 1
    sentence = "error: predict needs torch; see docs/installation.md.\n"
    assert capsys.readouterr() == ("", sentence)


def test_errors_that_are_not_the_users_stay_errors():
    with pytest.raises(KeyError), one_sentence_errors():
        raise KeyError("x")


@pytest.mark.parametrize(
    "error, sentence",
    [
        (ConfigError("Set X."), "error: Set X."),
        (PermissionError(13, "Permission denied", "a.json"),
         "error: a.json cannot be read or written (Permission denied)."),
        (OSError(28, "No space left on device", "m.pth"), "error: No space left on the disk"),
    ],
)  # fmt: skip
def test_errors_of_the_user_are_sentences(error, sentence, capsys):
    with pytest.raises(SystemExit) as caught, one_sentence_errors():
        raise error
    assert caught.value.code.startswith(sentence) and caught.value.code.endswith(".")
    with pytest.raises(SystemExit) as caught, one_sentence_errors(exit_code=2):
        raise error
    assert caught.value.code == 2 and capsys.readouterr().err.startswith(sentence)
