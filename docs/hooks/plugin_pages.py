"""MkDocs hooks: the gallery, a page and an API reference per plugin, and links out of the docs folder.

A page's text is its file's, read by people on a code host too; a link there to a plugin's README or folder leads to the
plugin's page here, and one to a file that the site has not becomes plain text.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path

import jinja2
from catalogue import Entry, entries
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
_log = logging.getLogger("mkdocs.hooks.plugin_pages")  # mkdocs counts its warnings: none in a strict build
_LINK = re.compile(r"(?P<bang>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    autoescape=False,
)
_sources: dict[str, Path] = {}
"""By page: the file whose folder its links are relative to."""
_places: dict[Path, str] = {}
"""By file or folder: its page or picture in the site."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the plugins' pages where the navigation leaves room for them."""
    found = entries()
    papers = [entry for entry in found if entry.paper]
    others = [entry for entry in found if not entry.paper]
    parts = {"Parts of plugins": [{entry.name: _reference_of(entry)} for entry in found]}
    rooms = {
        "Papers": ["papers.md", *({entry.name: _page_of(entry)} for entry in papers)],
        "Plugins": [{entry.name: _page_of(entry)} for entry in others],
    }
    config.nav = [{name: rooms.get(name, held)} for item in config.nav or [] for name, held in item.items()]
    next(item for item in config.nav if "Reference" in item)["Reference"].append(parts)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is generated."""
    _sources.clear()
    _places.clear()
    _places[ROOT / "README.md"] = "index.md"
    found = entries()
    for entry in found:
        if entry.record.plugin is None:
            _log.warning("plugin %s is %s: %s", entry.record.label, entry.record.status, entry.record.error)
        uri = _page_of(entry)
        files.append(File.generated(config, uri, content=_render("plugin.md.j2", entry=entry)))
        reference = _render("reference.md.j2", entry=entry)
        files.append(File.generated(config, _reference_of(entry), content=reference))
        _add_pictures(entry, files, config)
        if entry.folder:
            _sources[uri] = entry.folder / "README.md"
            _places.update({entry.folder: uri, _sources[uri]: uri, entry.folder / "claims.md": f"{uri}#claims"})
    papers = [entry for entry in found if entry.paper]
    pictures = {entry.name: _place(entry.pictures[0][1], config) for entry in papers if entry.pictures}
    gallery = _render("gallery.md.j2", entries=papers, pictures=pictures)
    files.append(File.generated(config, "papers.md", content=gallery))
    _add(files, config, "contributing.md", ROOT / "CONTRIBUTING.md")
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of the docs folder to pages."""
    source = _sources.get(page.file.src_uri) or Path(page.file.abs_src_path or HERE)

    def led(link: re.Match[str]) -> str:
        target = (source.parent / link["path"]).resolve()
        if not target.exists():
            return link[0]
        place = _place(target, config)
        if place is None:
            return link["text"]
        uri = posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")
        return f"{link['bang']}[{link['text']}]({uri}{link['anchor'] or ''})"

    return _LINK.sub(led, markdown)


def _page_of(entry: Entry) -> str:
    return f"plugins/{entry.name}.md"


def _reference_of(entry: Entry) -> str:
    return f"reference/plugins/{entry.name}.md"


def _render(template: str, **values: object) -> str:
    return _templates.get_template(template).render(**values)


def _add(files: Files, config: MkDocsConfig, uri: str, path: Path) -> None:
    """A file from elsewhere in the repository."""
    files.append(File.generated(config, uri, abs_src_path=str(path)))
    _sources[uri], _places[path] = path, uri


def _place(path: Path, config: MkDocsConfig) -> str | None:
    """Where a file of the repository is in the site; None where the site has not got it."""
    if path in _places or not path.is_relative_to(config.docs_dir):
        return _places.get(path)
    return path.relative_to(config.docs_dir).as_posix()


def _add_pictures(entry: Entry, files: Files, config: MkDocsConfig) -> None:
    """Add the pictures of the plugin's README that the docs folder has not."""
    for _, path in entry.pictures:
        if _place(path, config) is None:
            _add(files, config, f"plugins/{entry.name}-{path.name}", path)
