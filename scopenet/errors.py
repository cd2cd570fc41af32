"""The errors that users see, and the one place where an error becomes a sentence."""

import errno
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import TypeGuard
from urllib.error import URLError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ConfigError(ValueError):
    """A config, file or flag that cannot mean what its author wants; the message is one sentence
    for the user."""

    def __str__(self) -> str:
        """Return it on one line, without what would move a terminal's cursor or cannot be encoded,
        and not longer than can be read: it may quote a file that holds anything."""
        text = "".join(x if x.isprintable() else ascii(x)[1:-1] for x in super().__str__())
        return text if len(text) <= 1500 else f"{text[:1000]} [...] {text[-400:]}"


class ImageError(ConfigError):
    """An image that no detector can look at; the message names the file and says why."""


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Say in one sentence, as a ConfigError, that ``what`` is so and why, if reading a file raises:
    a file that may hold anything raises nearly anything."""
    try:
        yield
    except Exception as error:
        is_known = isinstance(error, ConfigError)
        reason = " ".join((str(error) if is_known else f"{type(error).__name__}, {error}").split())
        raise ConfigError(f"{what}: {reason.rstrip('.!')}.") from error


@contextmanager
def brought_by(extra: str) -> Iterator[None]:
    """Say in one sentence, as a ConfigError, which package is missing if an import fails, and that
    ``extra``, of this project, installs it."""
    try:
        yield
    except ImportError as error:
        if not (isinstance(error, ModuleNotFoundError) and error.name):
            reason = " ".join(str(error).split()).rstrip(".")
            said = f'Of "scopenet[{extra}]" something is broken here: {reason}.'
            raise ConfigError(said) from error
        missing = error.name.partition(".")[0]
        raise ConfigError(
            f'{missing} is missing here: pip install "scopenet[{extra}]" brings it, as does '
            f"pip install {missing}."
        ) from error


def import_extra(name: str, extra: str) -> ModuleType:
    """Import a module of a package that not every installation has, see :func:`brought_by`."""
    with brought_by(extra):
        return import_module(name)


@contextmanager
def one_sentence_errors(exit_code: int = 1) -> Iterator[None]:
    """End the program with "error: <sentence>" where the user can do something about an error.

    These are bad configs and files, failed downloads, full disks, and worker processes that ended;
    the latter end it with their own exit code if they have said why themselves.
    """
    training = logging.getLogger("detectron2.engine.train_loop")
    training.addFilter(_without_traceback)
    try:
        yield
    except Exception as error:
        if hasattr(error, "exit_code") and not getattr(error, "signal_name", ""):
            # It is of torch.multiprocessing.
            sys.exit(error.exit_code)
        sentence = _sentence(error)
        if not sentence:
            raise
        if exit_code == 1:
            sys.exit(f"error: {sentence}")  # Python prints it
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(exit_code)
    finally:
        training.removeFilter(_without_traceback)


def _sentence(error: Exception) -> str:
    """Say what is wrong; "" for an error that is not the user's."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, URLError):
        return (
            f"The weights could not be downloaded ({error.reason}); fetch them otherwise, then set "
            "MODEL.WEIGHTS (LazyConfig: train.init_checkpoint) to the file."
        )
    if _is_disk_full(error):
        place = f" writing {error.filename}" if error.filename else ""
        return (
            f"No space left on the disk or in the quota{place}; what was there before is as it "
            "was: make room and give the same command again, a training with --resume."
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} cannot be read or written ({error.strerror})."
    if hasattr(error, "exit_code"):
        return f"A worker process was killed ({error}); go on with --resume."
    return ""


def _is_disk_full(error: BaseException | None) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def _without_traceback(record: logging.LogRecord) -> bool:
    """Drop from the log of a failed training what a sentence says."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, ConfigError) and not _is_disk_full(error)
