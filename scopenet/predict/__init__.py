"""A trained detector on photographs, videos and a web page.

:mod:`.detector` makes one callable of a checkpoint or an exported model, :mod:`.tiles` uses it on
large images; :mod:`.pictures` draws what it finds and :mod:`.results` writes it as JSON.
:mod:`.main` is the program on files, :mod:`.web` the one in a browser.
"""
