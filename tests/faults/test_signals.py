"""SIGTERM and SIGINT: the iteration is finished and saved, and the next start goes on."""

import os
import signal
import time

import pytest
from tally import counted
from trainings import ITERATIONS, TORCHRUN, Training, assert_same, iteration_of, train_here

from scopenet.engine.reliability.checkpoint_file import TAG, newest_sound
from scopenet.engine.reliability.interruption import TRY_AGAIN

pytestmark = pytest.mark.faults


def signals_at(iteration: int, *numbers: signal.Signals):
    """For ``train_here``."""

    def send(i):
        if i == iteration:
            for number in numbers:
                os.kill(os.getpid(), number)

    return send


@pytest.mark.usefixtures("mini", "quiet_after")
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_saves_and_goes_on(undisturbed_here, tmp_path, number, workers, caplog):
    folder, more = tmp_path / "output", ("DATALOADER.NUM_WORKERS", workers)
    with counted(f"{number.name}, {workers} loader processes") as row:
        with pytest.raises(SystemExit) as caught:
            train_here(folder, *more, after=signals_at(5, number))
        assert caught.value.code == TRY_AGAIN == 75
        assert "Interrupted and saved after iteration 5; --resume goes on" in caplog.text
        assert (folder / TAG).read_text() == "model_0000005.pth"
        training = train_here(folder, *more, "--resume")
        assert training.iterations() == [*range(ITERATIONS)]  # none twice
        assert_same(training, undisturbed_here)
        row.again.append(0)


@pytest.mark.usefixtures("mini", "quiet_after")
def test_second_sigint_stops_at_once(tmp_path):
    folder = tmp_path / "output"
    with counted("a second SIGINT: stops at once") as row:
        with pytest.raises(SystemExit) as caught:
            train_here(folder, after=signals_at(5, signal.SIGTERM, signal.SIGINT))
        assert caught.value.code == 130
        assert newest_sound(folder) == (folder / "model_0000003.pth", [])
        row.again.append(2)


@pytest.mark.usefixtures("mini", "quiet_after")
@pytest.mark.parametrize("iteration", [3, 7, ITERATIONS - 1])
def test_signal_in_an_iteration_that_is_saved_anyway(undisturbed_here, tmp_path, iteration):
    folder = tmp_path / "output"
    name = "model_final.pth" if iteration == ITERATIONS - 1 else f"model_{iteration:07d}.pth"
    with counted("SIGTERM in an iteration with a checkpoint, or in the last one"):
        with pytest.raises(SystemExit) as caught:
            train_here(folder, after=signals_at(iteration, signal.SIGTERM))
        assert caught.value.code == TRY_AGAIN
        assert newest_sound(folder) == (folder / name, [])
        assert_same(train_here(folder, "--resume"), undisturbed_here)


def send_until_it_ends(process, number) -> None:
    while process.poll() is None:
        os.killpg(process.pid, number)
        time.sleep(0.005)


def wait_for(training: Training, iteration: int, process) -> None:
    while iteration not in training.iterations():
        assert process.poll() is None, training.log()[-3000:]
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [0, 2])
def test_storm_of_sigterm(coco, undisturbed, tmp_path, workers):
    """To the whole process group, as a batch system does, and without an end."""
    training = Training(coco, tmp_path / "output", "DATALOADER.NUM_WORKERS", str(workers))
    with counted(f"SIGTERM every 5 ms, {workers} loader processes") as row:
        process = training.start()
        wait_for(training, 5, process)
        send_until_it_ends(process, signal.SIGTERM)
        training.finish(process, TRY_AGAIN)
        last = iteration_of(newest_sound(training.folder)[0])
        assert last == max(training.iterations()) < ITERATIONS - 1
        training.run("--resume")
        assert training.iterations() == [*range(ITERATIONS)]
        assert_same(training, undisturbed)
        row.again.append(0)


def test_sigterm_to_one_of_two_workers(coco, tmp_path):
    training = Training(coco, tmp_path / "output")
    fault = {"KILL": "iteration:5", "KILL_RANK": 1, "KILL_SIGNAL": "SIGTERM"}
    with counted("SIGTERM to one of two workers") as row:
        training.run("--num-gpus", "2", "--dist-url", "auto", code=TRY_AGAIN, **fault)
        path, damaged = newest_sound(training.folder)
        assert iteration_of(path) == max(training.iterations()) < ITERATIONS - 1 and not damaged
        row.again.append(0)


@pytest.mark.parametrize("launcher", ["--num-gpus", "torchrun"])
def test_sigterm_to_the_starter_of_two_workers(coco, tmp_path, launcher):
    training = Training(coco, tmp_path / "output")
    flags = ["--num-gpus", "2", "--dist-url", "auto"] if launcher == "--num-gpus" else []
    with counted(f"SIGTERM to the starter of two workers, {launcher}") as row:
        process = training.start(*flags, launcher=() if flags else TORCHRUN)
        wait_for(training, 1, process)
        process.terminate()
        training.finish(process, TRY_AGAIN if flags else 1)  # torchrun has a code of its own
        path, damaged = newest_sound(training.folder)
        assert iteration_of(path) == max(training.iterations()) and not damaged
        row.again.append(0)
