"""The report of an adaptation in a real browser: no console message, no sideways scrolling, sorting works."""

import pytest
from browser import look, needs_browser
from sample_result import BIRDS, sample_result

from promptgraft.report.page import render_page

PAGES = {
    "birds": lambda: sample_result(),
    "texts": lambda: sample_result(("positive", "negative"), modality="text", per_class=40),
    "hundred": lambda: sample_result(tuple(f"class {index}" for index in range(100)), per_class=4),
    "hostile": lambda: sample_result(("<script>alert(1)</script>", "x" * 90, "a " * 60, '"', *BIRDS)),
}
PROBE = """() => {
  const table = document.querySelector("table.sortable");
  const values = () => [...table.tBodies[0].rows].map((row) => row.cells[2].dataset.value);
  const button = table.querySelectorAll("thead button")[2];
  button.click(); const up = values(); button.click(); const down = values();
  return {up, down};
}"""


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_report_in_a_browser(tmp_path, dark):
    pages = {name: render_page(build()) for name, build in PAGES.items()}
    for report in look(pages, PROBE, tmp_path, widths=(360, 1200), dark=dark):
        known = [float(value) for value in report["up"] if value]
        assert known == sorted(known)
        assert [float(value) for value in report["down"] if value] == sorted(known, reverse=True)
        assert report["up"][-1] == report["down"][-1] == ""  # the failed candidate stays last
