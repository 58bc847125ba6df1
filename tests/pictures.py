"""Makes a picture of what a command shows on a terminal at its end.

python -m tests.pictures docs/retrain.png homelab retrain churn --source demo --tracking files
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

WIDTH = 110
_MOVE = re.compile(r"\x1b\[(\d*)A|\x1b\[2K|\x1b\[\?25[lh]|\r")
# Rich's own form, without the font that it takes from the internet.
_FORM = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<style>.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", monospace; font-size: {char_height}px;
line-height: {line_height}px }} {styles}</style><defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g></svg>"""


def typed(command: list[str]) -> str:
    """What a terminal holds after a command, colours included."""
    written = b""

    def read(file: int) -> bytes:
        nonlocal written
        piece = os.read(file, 65536)
        written += piece
        return piece

    os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": "60"}
    os.environ.pop("NO_COLOR", None)
    if status := pty.spawn(command, read):
        sys.exit(os.waitstatus_to_exitcode(status))
    return screen(written.decode())


def screen(written: str) -> str:
    """The lines that remain where a live line was written over again and again."""
    lines, at = [""], 0
    for piece in re.split(r"(\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh]|\r|\n)", written):
        if piece == "\n":
            at += 1
            lines += [""] * (at - len(lines) + 1)
        elif piece == "\x1b[2K":
            lines[at] = ""
        elif up := re.fullmatch(r"\x1b\[(\d*)A", piece):
            at = max(at - int(up[1] or 1), 0)
        elif not _MOVE.fullmatch(piece):
            lines[at] += piece
    return "\n".join(line for line in lines if line.strip())


def draw(text: str, title: str, picture: Path) -> None:
    """Draws what a terminal shows, by Rich and a browser."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text))
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("there is no Chromium on this machine")
    with tempfile.TemporaryDirectory() as folder:
        svg = Path(folder) / "terminal.svg"
        svg.write_text(console.export_svg(title=title, code_format=_FORM), encoding="utf-8")
        size = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg.read_text(encoding="utf-8"))
        window = ",".join(str(round(float(number))) for number in size.groups()) if size else "1400,1000"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/b"]
        options += ["--default-background-color=00000000", f"--window-size={window}", f"--screenshot={picture}"]
        subprocess.run([browser, *options, svg.as_uri()], check=True, capture_output=True, timeout=240)
    Image.open(picture).convert("RGBA").quantize(64).save(picture, optimize=True)


if __name__ == "__main__":
    target, *words = sys.argv[1:]
    draw(typed(words), shlex.join(words), Path(target))
