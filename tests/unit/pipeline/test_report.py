"""report.html: what stands in it, for each task, and who can read it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score, roc_auc_score

from homelab_mlops.model.scoring import Scorer
from homelab_mlops.model.spec import ModelSpec, load_spec
from homelab_mlops.pipeline.diagnostics import thresholds
from homelab_mlops.pipeline.evaluate import evaluate
from homelab_mlops.pipeline.fit import targets
from homelab_mlops.pipeline.ingest import ingest, load_ingested
from homelab_mlops.pipeline.report import commit_page, image_page, write_report
from homelab_mlops.pipeline.split import split_rows
from homelab_mlops.pipeline.train import labelled, train
from tests.conftest import FIXTURES, PATIENCE, ROOT

MODELS = {
    "churn": ROOT / "workflows/models/churn",
    "penguins": FIXTURES / "models/valid/penguins",
    "diamonds": FIXTURES / "models/valid/diamonds",
}
EVERYWHERE = {"Why", "Where it is worst", "What moves a prediction", "Pictures", "How it was trained"}
THRESHOLDS, CONFUSION = "Precision and recall by threshold", "Confusion matrix"
SECTIONS = {"churn": {THRESHOLDS, CONFUSION}, "penguins": {CONFUSION}, "diamonds": set()}

TELEPHONES = (320, 360, 390)
# Says of each frame how wide its page is, and how wide it may be.
MEASURE = """<script>onload = () => {
  const pages = [...document.querySelectorAll("iframe")].map(frame => frame.contentDocument.documentElement)
  document.body.textContent = pages.map(page => `${page.scrollWidth} of ${page.clientWidth};`).join(" ")
}</script>"""


class Page(HTMLParser):
    """The headings, pictures, links and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.headings: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "h2" and data.strip() and data.strip() not in self.headings:
            self.headings.append(data.strip())
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ModelSpec, Path]]:
    made = {}
    for name, folder in MODELS.items():
        spec, path = load_spec(str(folder)), tmp_path_factory.mktemp(name)
        ingest(spec, path, "demo" if spec.data.demo else None)
        train(spec, path, "files", {"num_round": "40"})
        evaluate(spec, path)
        made[name] = spec, path
    return made


@pytest.mark.parametrize("name", MODELS)
def test_each_task_has_its_parts_and_needs_no_network(name: str, work: dict[str, tuple[ModelSpec, Path]]) -> None:
    spec, folder = work[name]
    page = Page(folder / "evaluate" / "report.html")
    assert set(page.headings) >= EVERYWHERE
    assert SECTIONS[name] == {THRESHOLDS, CONFUSION} & set(page.headings)
    texts = [picture["alt"] or "" for picture in page.all("img")]
    assert len(texts) == len(set(texts)) == len(list(folder.glob("*/plots/*.png")))
    assert min(map(len, texts)) > 40
    assert all((picture["src"] or "").startswith("data:image/png;base64,") for picture in page.all("img"))
    assert page.all("link") == page.all("script") == []
    assert page.all("html")[0]["lang"] == "en"
    assert "prefers-color-scheme: dark" in page.text
    metric = json.loads((folder / "evaluate" / "decision.json").read_text())["metrics"]["challenger"][spec.gate.metric]
    assert f"{metric['value']:.4f}" in page.text
    assert "in files only" in page.text


def test_a_telephone_never_scrolls_sideways(work: dict[str, tuple[ModelSpec, Path]], tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium on PATH")
    reports = [(folder / "evaluate" / "report.html").read_text(encoding="utf-8") for _, folder in work.values()]
    frames = [
        f'<iframe style="width:{width}px;height:2000px" srcdoc="{html.escape(report)}"></iframe>'
        for report in reports
        for width in TELEPHONES
    ]
    (tmp_path / "frames.html").write_text(f"<meta charset=utf-8>{''.join(frames)}{MEASURE}", encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [browser, *options, f"--user-data-dir={tmp_path / 'browser'}", (tmp_path / "frames.html").as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    found = re.findall(r"(\d+) of (\d+);", done.stdout)
    assert len(found) == len(frames)
    assert [(wide, wanted) for wide, wanted in found if int(wide) > int(wanted)] == []


def test_the_figures_are_those_of_other_implementations(work: dict[str, tuple[ModelSpec, Path]]) -> None:
    spec, folder = work["churn"]
    frame, manifest = load_ingested(spec, folder)
    frame = labelled(frame, spec)
    rows = frame[split_rows(frame, spec, manifest["window"]).holdout]
    scorer = Scorer.load(folder / "train" / "xgboost-model")
    truth, predicted = targets(rows, spec), scorer.predict(rows)
    found: dict[str, Any] = json.loads((folder / "evaluate" / "diagnostics.json").read_text())
    for point in found["thresholds"]["points"]:
        called = predicted >= point["threshold"]
        assert point["recall"] == pytest.approx(recall_score(truth, called))
        assert point["called"] == pytest.approx(called.mean())
        if called.any():
            assert point["precision"] == pytest.approx(precision_score(truth, called))
        else:
            assert point["precision"] is None
    assert found["confusion"]["counts"] == confusion_matrix(truth, predicted >= 0.5).tolist()
    worst = found["slices"][0]
    assert worst["feature"] == "contract"
    inside = (rows["contract"] == worst["slice"].removeprefix("= ")).to_numpy()
    assert worst["rows"] == inside.sum()
    assert worst["value"] == pytest.approx(roc_auc_score(truth[inside], predicted[inside]))
    assert worst["low"] < worst["value"] < worst["high"]
    assert worst["value"] == min(item["value"] for item in found["slices"])
    moved = found["contributions"]["features"]
    assert {item["feature"] for item in moved} <= set(spec.features)
    assert moved == sorted(moved, key=lambda item: -item["moves"])
    assert moved[0]["feature"] == "contract"


def test_version_commit_run_and_image_lead_somewhere(
    work: dict[str, tuple[ModelSpec, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = work["churn"]
    train_folder, evaluation = tmp_path / "train", tmp_path / "evaluate"
    for source, target in ((folder / "train", train_folder), (folder / "evaluate", evaluation)):
        target.mkdir()
        for path in source.glob("*.json"):
            (target / path.name).write_bytes(path.read_bytes())
    record = json.loads((train_folder / "record.json").read_text())
    commit = "0123456789abcdef0123456789abcdef01234567"
    record["provenance"] |= {"commit": commit, "image": "ghcr.io/me/homelab/training:1.2"}
    (train_folder / "record.json").write_text(json.dumps(record))
    run = {"run_id": "4711", "url": "https://mlflow.example/#/experiments/1/runs/4711?workflowType=machine_learning"}
    (train_folder / "run.json").write_text(json.dumps(run))
    monkeypatch.setenv("HOMELAB_REPOSITORY", "https://bot:secret@git.example/me/homelab.git")
    version = {"version": "7", "alias": None, "url": "https://mlflow.example/#/models/churn/versions/7"}
    write_report(train_folder, evaluation, version)
    page = Page(evaluation / "report.html")
    assert [link["href"] for link in page.all("a")] == [
        version["url"],
        f"https://git.example/me/homelab/commit/{commit}",
        run["url"],
        "https://ghcr.io/me/homelab/training",
    ]
    assert "without an alias" in page.text
    assert "secret" not in (evaluation / "report.html").read_text()
    assert page.all("time")[0]["datetime"] == record["started_at"]


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("https://github.com/me/homelab.git", "https://github.com/me/homelab/commit/c"),
        ("git@github.com:me/homelab.git", "https://github.com/me/homelab/commit/c"),
        ("ssh://git@git.example:2222/me/homelab.git", "https://git.example/me/homelab/commit/c"),
        ("http://git.example:3000/me/homelab", "http://git.example:3000/me/homelab/commit/c"),
        ("/srv/git/homelab.git", None),
        ("../homelab", None),
    ],
)
def test_the_page_of_a_commit(repository: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMELAB_REPOSITORY", repository)
    assert commit_page("c") == expected
    assert commit_page("") is None


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("ghcr.io/me/homelab/training:1", "https://ghcr.io/me/homelab/training"),
        ("ghcr.io/me/training@sha256:ab", "https://ghcr.io/me/training"),
        ("registry.example:5000/training", None),
        ("", None),
    ],
)
def test_the_page_of_an_image(image: str, expected: str | None) -> None:
    assert image_page(image) == expected


def test_rows_count_by_their_weight() -> None:
    truth, predicted = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.9, 0.1])
    points = thresholds(truth, predicted, np.array([3.0, 1.0, 1.0, 1.0]))["points"]
    (point,) = (item for item in points if item["threshold"] == 0.5)
    assert (point["precision"], point["recall"], point["called"]) == (0.75, 0.75, pytest.approx(4 / 6))
