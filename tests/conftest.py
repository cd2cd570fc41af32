"""Rules for the whole test session.

With SCOPENET_NO_SKIP=1 a skipped test fails the session, unless it is marked cuda: where the tests
decide whether a change is accepted, one that did not run must not look like one that passed.
"""

import os

import pytest
from logs import close_logs

# Before anything imports Detectron2, which reads it once: tests make their own data, and what the
# user has prepared can neither be read nor written, as nothing exists below a device.
os.environ["DETECTRON2_DATASETS"] = os.devnull

NO_SKIP = os.environ.get("SCOPENET_NO_SKIP", "") not in ("", "0")
skipped: list[str] = []  # node ids of tests, and of modules skipped as a whole


@pytest.fixture
def closed_logs():
    """For tests that train, see :func:`logs.close_logs`."""
    yield
    close_logs()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    expected_failure = hasattr(report, "wasxfail")  # reported as skipped, too
    if report.skipped and not expected_failure and "cuda" not in report.keywords:
        skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if NO_SKIP and skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if NO_SKIP and skipped:
        terminalreporter.write_line(f"Skipped, but must run here: {', '.join(skipped)}.", red=True)
