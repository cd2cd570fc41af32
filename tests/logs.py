"""What Detectron2's logs leave behind."""

import logging

from detectron2.utils.logger import _cached_log_stream, setup_logger


def close_logs() -> None:
    """Take the files from the loggers, to which Detectron2 adds one in every run; forget which ones
    it has had, as the next test may have a folder of the same name."""
    setup_logger.cache_clear()
    _cached_log_stream.cache_clear()
    for logger in map(logging.getLogger, ("detectron2", "fvcore", "scopenet")):
        for handler in [*logger.handlers]:
            logger.removeHandler(handler)
            handler.close()
