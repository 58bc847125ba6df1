"""The pictures of a run, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, np.dtype[Any]]
BLUE, ORANGE, GREY = "#1f5fa8", "#d9730d", "#9aa0a6"
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 10,
}


def _save(path: Path, draw: Any, size: tuple[float, float] = (6.4, 4.4)) -> None:
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        try:
            draw(axes)
            figure.savefig(path, dpi=110)
        finally:
            plt.close(figure)


def learning_curve(path: Path, history: Mapping[str, Sequence[float]], best_round: int) -> None:
    """The metric that stopped the training, a round a point, on both parts."""
    name = list(history)[-1].partition(":")[2]

    def draw(axes: Axes) -> None:
        axes.plot(history[f"train:{name}"], color=GREY, label="training rows")
        axes.plot(history[f"validation:{name}"], color=BLUE, label="validation rows")
        axes.axvline(best_round, color=ORANGE, linestyle="--", linewidth=1, label=f"best round: {best_round}")
        axes.set(title="Learning curve", xlabel="boosting round", ylabel=name)
        axes.legend(frameon=False)

    _save(path, draw)


def importance(path: Path, gains: Mapping[str, float], most: int = 20) -> None:
    """The share of each feature in the total gain."""
    total = sum(gains.values()) or 1.0
    ranked = sorted(gains.items(), key=lambda item: item[1])[-most:]

    def draw(axes: Axes) -> None:
        axes.barh([name for name, _ in ranked], [gain / total for _, gain in ranked], color=BLUE)
        axes.set(title="Importance of the features", xlabel="share of the total gain")
        axes.grid(visible=False, axis="y")

    _save(path, draw, (6.4, 1.2 + 0.26 * max(len(ranked), 3)))


def roc(path: Path, truth: Array, predictions: Mapping[str, Array]) -> None:
    """The ROC curve of each model, ``truth`` 0 and 1, shape ``[rows]``."""
    from sklearn.metrics import roc_auc_score, roc_curve

    def draw(axes: Axes) -> None:
        for (name, predicted), color in zip(predictions.items(), (BLUE, ORANGE, GREY), strict=False):
            false_positive, true_positive, _ = roc_curve(truth, predicted)
            axes.plot(
                false_positive, true_positive, color=color, label=f"{name}: {roc_auc_score(truth, predicted):.4f}"
            )
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        axes.set(title="ROC on the holdout", xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(frameon=False, loc="lower right")

    _save(path, draw)


def calibration(path: Path, truth: Array, predictions: Mapping[str, Array]) -> None:
    """Predicted against observed share of positives in ten equally filled bins."""
    from sklearn.calibration import calibration_curve

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        for (name, predicted), color in zip(predictions.items(), (BLUE, ORANGE, GREY), strict=False):
            observed, expected = calibration_curve(truth, predicted, n_bins=10, strategy="quantile")
            axes.plot(expected, observed, marker="o", markersize=4, color=color, label=name)
        axes.set(title="Calibration on the holdout", xlabel="predicted probability", ylabel="observed share")
        axes.legend(frameon=False)

    _save(path, draw)


def residuals(path: Path, truth: Array, predicted: Array) -> None:
    """Truth minus prediction over the prediction, as a density."""

    def draw(axes: Axes) -> None:
        axes.hexbin(predicted, truth - predicted, gridsize=45, cmap="Blues", bins="log", mincnt=1, linewidths=0.1)
        axes.axhline(0, color=ORANGE, linewidth=1)
        axes.set(title="Residuals on the holdout", xlabel="prediction", ylabel="truth minus prediction")

    _save(path, draw)


def confusion(path: Path, truth: Array, predicted: Array, labels: Sequence[str]) -> None:
    """How often each label was taken for which, as shares of the true label."""
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (truth.astype(int), predicted.argmax(axis=1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        for (row, column), share in np.ndenumerate(shares):
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", color="white" if share > 0.5 else "black")
        axes.set(title="Confusion on the holdout", xlabel="predicted", ylabel="true")
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
        axes.set_yticks(range(len(labels)), labels)

    _save(path, draw)
