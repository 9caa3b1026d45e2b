"""The comparison pages and an evaluation's report in a real browser at 1280 pixels, light and dark: no label over
another, nothing wider than the page, nothing asked of a network. Skipped where there is no Chromium.

What the numbers are is in test_compare.py, test_side_by_side.py and test_evaluation_page.py; where labels are put, in
test_scatter.py."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carerl.compare import main
from carerl.report import write_evaluation_report
from carerl.runs.jsonl import JsonlTracker
from tests.runs.synthetic_evaluations import make_text_evaluation
from tests.runs.synthetic_runs import METHODS, bins, make_evaluation, make_sweep, questions

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,2000"),
)
LOOK = """
<pre id="found"></pre><script>
const labels = [...document.querySelectorAll('svg.plot')].map(svg => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].filter(text => text.textContent.trim());
  return {name: svg.getAttribute('aria-label'), frame: [frame.left, frame.top, frame.right, frame.bottom],
    texts: texts.map(text => { const b = text.getBoundingClientRect();
      return [text.textContent.trim(), b.left, b.top, b.right, b.bottom,
        parseFloat(getComputedStyle(text).fontSize) * frame.width / svg.viewBox.baseVal.width]; })};
});
document.getElementById('found').textContent = JSON.stringify({
  labels, loads: performance.getEntriesByType('resource').map(entry => entry.name),
  wide: [...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1).length,
  page: [document.documentElement.scrollWidth, innerWidth],
  dark: matchMedia('(prefers-color-scheme: dark)').matches,
  ink: getComputedStyle(document.body).color, behind: getComputedStyle(document.body).backgroundColor});
</script></body>"""


def look_at(page: Path, profile: Path, scheme: str, more: str = "") -> dict[str, Any]:
    """What the browser says of the page, with ``more`` put into its body."""
    copy = page.with_name(f"looked-at-{scheme}.html")
    copy.write_text(page.read_text().replace("</body>", more + LOOK))
    setting = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    command = [str(CHROMIUM), *FLAGS, setting, f"--user-data-dir={profile}", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    match = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    return found


def overlaps(plot: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs of labels whose boxes share more than a rim: a box is as high as the font's line, glyphs are less."""
    boxes = np.asarray([text[1:5] for text in plot["texts"]]) + np.asarray([1.0, 2.0, -1.0, -2.0])
    names = [text[0] for text in plot["texts"]]
    found = []
    for i, (left, top, right, bottom) in enumerate(boxes):
        for j in range(i + 1, len(boxes)):
            width = min(right, boxes[j][2]) - max(left, boxes[j][0])
            height = min(bottom, boxes[j][3]) - max(top, boxes[j][1])
            if width > 0 and height > 0:
                found.append((names[i], names[j]))
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six methods over five seeds with everything that a page can show, two of them crowded together."""
    parent = tmp_path_factory.mktemp("compare")
    make_sweep(parent / "runs", range(1000, 1005))
    rng = np.random.default_rng(1)
    for run in sorted((parent / "runs").iterdir()):
        metrics = json.loads((run / "summary.json").read_text())["final"]
        confidence = np.round(rng.random(60) * 16) / 16
        right = (rng.random(60) < confidence).astype(float)
        rows = [*questions("facts", confidence.tolist(), right.tolist()), *questions("q3", [0.5, 1.0], [0.0, 1.0])]
        for step in (0, 200):
            made = {"facts": bins(0.05), "q3": bins(0.01, 4000)}
            make_evaluation(run, step, metrics, reliability=made, rows=rows)
        tracker = JsonlTracker(run / "metrics.jsonl")
        for step in range(1, 21):
            level = 0.2 * np.exp(-step / 8) + 0.01 * rng.random()
            split = {f"train/entropy_{name}": level * k for name, k in (("right", 1), ("wrong", 1.5))}
            split |= {f"regularizer/reverse_kl_{name}": 0.3 - level * k for name, k in (("right", 1), ("wrong", 1.2))}
            tracker.log(step, {"rollout/generated_tokens": 2048.0, "rollout/accuracy": 1 - level, **split})
        tracker.close()
    assert main([str(parent / "runs"), f"out={parent / 'out'}"]) == 0
    return parent / "out" / "compare.html"


@pytest.fixture(scope="module")
def of_text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models on four benchmarks, one run each, with validation questions: their comparison, and a report."""
    parent = tmp_path_factory.mktemp("text")
    for seed, (name, sharpness, skill) in enumerate((("none_grpo_3b", 3.0, 0.6), ("care_grpo_3b", 1.3, 0.3))):
        make_text_evaluation(parent / "ev", name, sharpness=sharpness, skill=skill, seed=seed)
    assert main([str(parent / "ev"), f"out={parent / 'out'}"]) == 0
    report = write_evaluation_report(parent / "ev" / "none_grpo_3b")
    return {"comparison": parent / "out" / "compare.html", "report": report}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "least"), [("comparison", 10), ("report", 6)])
def test_pages_of_text_benchmarks_are_legible(
    of_text: dict[str, Path], tmp_path: Path, name: str, least: int, scheme: str
) -> None:
    found = look_at(of_text[name], tmp_path, scheme)
    check_look(found, scheme)
    assert len(found["labels"]) >= least


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_legible_and_asks_nothing_of_a_network(page: Path, tmp_path: Path, scheme: str) -> None:
    found = look_at(page, tmp_path, scheme)
    plots = found["labels"]
    assert len(plots) >= 11 and sum(len(plot["texts"]) for plot in plots) > 300 > len(METHODS)
    check_look(found, scheme)


def check_look(found: dict[str, Any], scheme: str) -> None:
    assert found["dark"] is (scheme == "dark") and found["ink"] != found["behind"]
    for plot in found["labels"]:
        assert overlaps(plot) == [], plot["name"]
        left, top, right, bottom = plot["frame"]
        for text, x0, y0, x1, y1, size in plot["texts"]:
            assert left - 1 <= x0 and x1 <= right + 1 and top - 1 <= y0 and y1 <= bottom + 1, (plot["name"], text)
            assert size >= 9.5, (plot["name"], text, size)
    assert found["loads"] == [] and found["wide"] == 0 and found["page"] == [1280, 1280]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_browser_would_tell_of_a_request_and_of_an_overlap(page: Path, tmp_path: Path) -> None:
    """The same look at a page with an image from elsewhere and two words in one place."""
    more = (
        '<img src="http://127.0.0.1:9/x.png"><svg class="plot" viewBox="0 0 90 20" aria-label="two">'
        '<text x="5" y="15" font-size="9">here</text><text x="9" y="15" font-size="9">there</text></svg>'
    )
    found = look_at(page, tmp_path, "light", more)
    assert found["loads"] == ["http://127.0.0.1:9/x.png"]
    assert overlaps(found["labels"][-1]) == [("here", "there")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_the_card(scheme: str) -> None:
    """WCAG 2.2's contrast: 4.5 for text, 3 for lines and bold labels."""
    css = (Path(main.__code__.co_filename).parent / "report" / "templates" / "style.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)", 1)
    colours = dict(re.findall(r"(--[a-z0-9]+): (#[0-9a-f]{6})", light if scheme == "light" else dark.split("}")[0]))
    assert len(colours) == 18
    for name in ("--ink", "--muted"):
        assert contrast(colours[name], colours["--card"]) >= 4.5, name
        assert contrast(colours[name], colours["--page"]) >= 4.5, name
    for number in range(1, 11):
        assert contrast(colours[f"--c{number}"], colours["--card"]) >= 3, number


def contrast(one: str, other: str) -> float:
    """(L1 + .05)/(L2 + .05) of relative luminances, the greater first."""

    def luminance(value: str) -> float:
        parts = [int(value[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
