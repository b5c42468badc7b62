"""The report in a real browser: no console message, no sideways scrolling, sorting works."""

import html
import json
import re
import shutil
import subprocess

import pytest
from sample_result import BIRDS, sample_result

from promptgraft.report.page import render_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser found under the names {', '.join(NAMES)}")

PAGES = {
    "birds": lambda: sample_result(),
    "texts": lambda: sample_result(("positive", "negative"), modality="text", per_class=40),
    "hundred": lambda: sample_result(tuple(f"class {index}" for index in range(100)), per_class=4),
    "hostile": lambda: sample_result(("<script>alert(1)</script>", "x" * 90, "a " * 60, '"', *BIRDS)),
}
WIDTHS = (360, 1200)
PROBE = """<script>addEventListener("load", () => {
  const table = document.querySelector("table.sortable");
  const values = () => [...table.tBodies[0].rows].map((row) => row.cells[2].dataset.value);
  const button = table.querySelectorAll("thead button")[2];
  button.click(); const up = values(); button.click(); const down = values();
  const box = document.documentElement;
  parent.postMessage({name: window.name, inside: box.clientWidth, content: box.scrollWidth, up, down}, "*");
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


def test_report_in_a_browser(tmp_path):
    frames = ""
    for name, build in PAGES.items():
        (tmp_path / f"{name}.html").write_text(render_page(build()).replace("</body>", PROBE))
        for width in WIDTHS:
            frames += f'<iframe src="{name}.html" name="{name} {width}" style="width:{width}px;height:800px"></iframe>'
    (tmp_path / "frames.html").write_text(FRAMES + frames)
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path}/frames.html"]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == []
    heard = json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", seen.stdout, re.S)[1]))
    assert {report["name"] for report in heard} == {f"{name} {width}" for name in PAGES for width in WIDTHS}
    for report in heard:
        assert report["content"] <= report["inside"], f"{report['name']} scrolls sideways"
        known = [float(value) for value in report["up"] if value]
        assert known == sorted(known)
        assert [float(value) for value in report["down"] if value] == sorted(known, reverse=True)
        assert report["up"][-1] == report["down"][-1] == ""  # the failed candidate stays last
