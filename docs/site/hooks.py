"""What the site has beyond the pages here: the command line, notebooks, and links to files of the repository."""

import json
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]*)(#[^)]*)?\)")


def on_files(files, config):
    """Adds the pages that are generated."""
    from triarch.cli import reference

    files.append(File.generated(config, "cli.md", content=reference.page()))
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=markdown(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes what a page says of files outside this folder links to the repository, or plain text without one."""
    if config.repo_url:
        return _OUTSIDE.sub(rf"[\1]({config.repo_url.rstrip('/')}/blob/main/\2)", markdown)
    return _OUTSIDE.sub(r"\1", markdown)


def markdown(path):
    """Returns a notebook as Markdown: its texts, its code and what the code printed."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            if output.get("output_type") == "stream":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
