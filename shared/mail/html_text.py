"""The plain text of an HTML body, for readers without HTML. Linear in the length, whatever the HTML looks like."""

import html
import re

_TAG = re.compile(r"""<(/?)([A-Za-z][A-Za-z0-9:-]*)((?:[^>"']|"[^"]*"|'[^']*')*+)>""")
_ATTRIBUTE = re.compile(r"""(?<![A-Za-z-])([A-Za-z-]++)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_SPACE = re.compile(r"[ \t\r\n\f]+")
_SILENT = {tag: re.compile(rf"</{tag}\b", re.IGNORECASE) for tag in ("script", "style", "title", "template")}
_PARAGRAPHS = frozenset(["blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"])
# fmt: off
_LINES = frozenset([
    "address", "article", "aside", "center", "dd", "div", "dl", "dt", "fieldset", "figure", "footer", "form", "header", "hr", "li",
    "main", "nav", "section", "tr",
])
# fmt: on
_CELLS = frozenset(["td", "th"])


def render_text(source: str) -> str:
    """Readable text: blocks as lines, lists with hyphens, links with their targets in parentheses. Never raises."""
    writer = _Writer()
    place = 0
    while place < len(source):
        start = source.find("<", place)
        writer.add_text(source[place : start if start >= 0 else len(source)])
        if start < 0:
            break
        place = _pass_tag(source, start, writer)
    return writer.render()


def _pass_tag(source: str, start: int, writer: "_Writer") -> int:
    """Handle what begins with the ``<`` at ``start``; where the text goes on. What is never closed swallows the rest, as in browsers."""
    if source.startswith("<!--", start):
        return _behind(source, "-->", start)
    following = source[start + 1 : start + 2]
    if following in ("!", "?"):
        return _behind(source, ">", start)
    if not (following == "/" or (following.isascii() and following.isalpha())):
        writer.add_text("<")
        return start + 1
    tag = _TAG.match(source, start)
    if tag is None:
        return _behind(source, ">", start)
    name = tag[2].lower()
    if tag[1]:
        writer.end(name)
    else:
        writer.start(name, tag[3])
        if name in _SILENT:
            closing = _SILENT[name].search(source, tag.end())
            return closing.start() if closing else len(source)
    return tag.end()


def _behind(source: str, closing: str, start: int) -> int:
    place = source.find(closing, start)
    return place + len(closing) if place >= 0 else len(source)


class _Writer:
    """Collects the text of one document."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._preformatted = 0
        self._link: tuple[str, int] | None = None

    def add_text(self, text: str) -> None:
        """White space is one space, none at the start of a line, but in ``pre``."""
        text = html.unescape(text).replace("\xa0", " ")
        if not self._preformatted:
            text = _SPACE.sub(" ", text)
            text = text.lstrip(" ") if self._at_line_start() else text
        if text:
            self._pieces.append(text)

    def start(self, name: str, attributes: str) -> None:
        """A start tag: line ends, bullets, the texts that stand for images."""
        self._break(name)
        if name == "br":
            self._pieces.append("\n")
        elif name == "li":
            self._pieces.append("- ")
        elif name in _CELLS and not self._at_line_start():
            self._pieces.append(" ")
        elif name == "pre":
            self._preformatted += 1
        elif name == "a":
            self._link = (_attribute(attributes, "href"), len(self._pieces))
        elif name == "img":
            self.add_text(html.escape(_attribute(attributes, "alt")))

    def end(self, name: str) -> None:
        """An end tag; the target of a link stands behind its text, unless the text says it already."""
        if name == "pre" and self._preformatted:
            self._preformatted -= 1
        elif name == "a" and self._link:
            target, begin = self._link
            self._link = None
            shown = "".join(self._pieces[begin:]).strip()
            if target.startswith(("http://", "https://", "mailto:")) and target.removeprefix("mailto:") != shown:
                self._pieces.append(f" ({target})" if shown else target)
        self._break(name)

    def render(self) -> str:
        """The lines, without white space at their ends and with one empty line between paragraphs at most."""
        lines = [line.rstrip() for line in "".join(self._pieces).splitlines()]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"

    def _break(self, name: str) -> None:
        if name in _PARAGRAPHS:
            self._pieces.append("\n\n")
        elif name in _LINES and not self._at_line_start():
            self._pieces.append("\n")

    def _at_line_start(self) -> bool:
        return not self._pieces or self._pieces[-1].endswith("\n")


def _attribute(attributes: str, name: str) -> str:
    for found in _ATTRIBUTE.finditer(attributes):
        if found[1].lower() == name:
            return _SPACE.sub(" ", html.unescape(found[2] or found[3] or found[4] or "")).strip()
    return ""
