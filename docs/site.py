"""What mkdocs.yml cannot say: the order of the pages, links to folders, Sphinx's roles."""

import re
from pathlib import Path

LINK = re.compile(r"\[([^]]*)\]\(([^)#:]+)\)")
ROLE = re.compile(r":\w+:<code>(?:~[\w.]*\.|\.(?:[\w.]*\.)?)?(\w[\w.]*)</code>")


def on_nav(nav, config, files):
    """Sort the pages as docs/README.md lists them; one that it leaves out is an error."""
    index = files.get_file_from_path("docs/README.md").page
    listed = re.findall(r"\]\((\w+\.md)\)", index.file.content_string)
    index.parent.children.sort(key=lambda x: ["README.md", *listed].index(x.file.src_uri[5:]))


def on_page_markdown(markdown, page, config, files):
    """Leave only the text of links to folders, which a site does not show."""
    here = Path(page.file.abs_src_path).parent
    return LINK.sub(lambda x: x[1] if (here / x[2]).is_dir() else x[0], markdown)


def on_page_content(html, page, config, files):
    """Write ``:func:`~package.module.name``` as ``name``."""
    return ROLE.sub(r"<code>\1</code>", html)
