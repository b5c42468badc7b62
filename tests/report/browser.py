"""Pages in a real browser: what a probe inside each page reports, and what the console says."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"no browser found under the names {', '.join(NAMES)}")

PROBE = """<script>addEventListener("load", async () => {
  const report = await (%s)();
  const box = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  parent.postMessage({name: window.name, inside: box.clientWidth, content: box.scrollWidth, dark, ...report}, "*");
})</script></body>"""
FRAMES = """<!doctype html><title>frames</title><pre></pre><script>
const heard = []; addEventListener("message", (event) => {
  heard.push(event.data); document.querySelector("pre").textContent = JSON.stringify(heard); });
</script>"""
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
    "--dump-dom",
]


def look(
    pages: Mapping[str, str], probe: str, folder: Path, *, widths: Sequence[int], dark: bool = False
) -> list[dict[str, Any]]:
    """Open every page at every width and return what the JavaScript function `probe` returns in each of them.

    A page that scrolls sideways, or anything on the console, fails the test.
    """
    frames = ""
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page.replace("</body>", PROBE % probe))
        for width in widths:
            frames += f'<iframe src="{name}.html" name="{name} {width}" style="width:{width}px;height:800px"></iframe>'
    (folder / "frames.html").write_text(FRAMES + frames)
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [BROWSER, *FLAGS, scheme, f"--user-data-dir={folder / 'profile'}", f"file://{folder}/frames.html"]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == []
    heard = json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", seen.stdout, re.S)[1]) or "[]")
    assert {report["name"] for report in heard} == {f"{name} {width}" for name in pages for width in widths}
    for report in heard:
        assert report["content"] <= report["inside"], f"{report['name']} scrolls sideways"
        assert report["dark"] == dark
    return heard
