"""Data and undisturbed trainings that the others are compared with; a table of what was tried."""

import signal

import pytest
import tally
from logs import close_logs
from miniature import mini_datasets, one_thread, write_coco
from trainings import Training, train_here

from scopenet.processes import SIGNALS


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    write_coco(root, num_images=8)
    return root


@pytest.fixture(scope="session")
def undisturbed(coco, tmp_path_factory) -> Training:
    """In processes of their own."""
    training = Training(coco, tmp_path_factory.mktemp("undisturbed") / "output")
    training.run()
    return training


@pytest.fixture(scope="session")
def mini(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("mini")):
        yield


@pytest.fixture(scope="session")
def undisturbed_here(mini, tmp_path_factory) -> Training:
    """In the process of the tests."""
    folder = tmp_path_factory.mktemp("undisturbed_here") / "output"
    with one_thread():
        return train_here(folder)


@pytest.fixture
def quiet_after():
    """Leaves the handlers of signals and the logs as they were."""
    handlers = {x: signal.getsignal(x) for x in SIGNALS}
    with one_thread():
        yield
    for number, handler in handlers.items():  # a training that was interrupted ignores more
        signal.signal(number, handler)
    close_logs()


def pytest_terminal_summary(terminalreporter):
    if tally.ROWS:
        terminalreporter.section("faults")
        for line in tally.table():
            terminalreporter.write_line(line)
    if tally.FILES_ROWS:
        terminalreporter.section("hostile files")
        for line in tally.table_of_files():
            terminalreporter.write_line(line)
