"""What Detectron2's logs leave behind."""

import logging


def close_logs() -> None:
    """Take the files from the loggers, to which Detectron2 adds one in every run."""
    for logger in map(logging.getLogger, ("detectron2", "fvcore", "scopenet")):
        for handler in [*logger.handlers]:
            logger.removeHandler(handler)
            handler.close()
