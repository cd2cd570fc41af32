"""Files of everything that this project reads, spoilt on purpose: by number, so that each can be
made again (``python -m hostile KIND NUMBER``, see :mod:`hostile.__main__`)."""
