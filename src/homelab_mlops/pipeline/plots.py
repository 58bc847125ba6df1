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
    """The metric that stopped the training, at each round, on training and validation rows."""
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


def roc(path: Path, truth: Array, predictions: Mapping[str, Array], weights: Array | None = None) -> None:
    """The ROC curve of each model, ``truth`` 0 and 1, shape ``[rows]``; ``weights`` say how much each row counts."""
    from sklearn.metrics import roc_auc_score, roc_curve

    def draw(axes: Axes) -> None:
        for (name, predicted), color in zip(predictions.items(), (BLUE, ORANGE, GREY), strict=False):
            false_positive, true_positive, _ = roc_curve(truth, predicted, sample_weight=weights)
            area = roc_auc_score(truth, predicted, sample_weight=weights)
            axes.plot(false_positive, true_positive, color=color, label=f"{name}: {area:.4f}")
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        axes.set(title="ROC on the holdout", xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(frameon=False, loc="lower right")

    _save(path, draw)


def calibration(path: Path, truth: Array, predictions: Mapping[str, Array], weights: Array | None = None) -> None:
    """Predicted against observed share of positives in ten bins of equally many rows."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        for (name, predicted), color in zip(predictions.items(), (BLUE, ORANGE, GREY), strict=False):
            expected, observed = _shares(truth, predicted, np.ones(len(truth)) if weights is None else weights)
            axes.plot(expected, observed, marker="o", markersize=4, color=color, label=name)
        axes.set(title="Calibration on the holdout", xlabel="predicted probability", ylabel="observed share")
        axes.legend(frameon=False)

    _save(path, draw)


def _shares(truth: Array, predicted: Array, weights: Array, bins: int = 10) -> tuple[list[float], list[float]]:
    """The mean prediction and the share of positives in each bin with rows that count."""
    edges = np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1])
    bin_of = np.searchsorted(edges, predicted)
    filled = [number for number in range(bins) if weights[bin_of == number].any()]
    expected, observed = (
        [float(np.average(values[bin_of == number], weights=weights[bin_of == number])) for number in filled]
        for values in (predicted, truth)
    )
    return expected, observed


def residuals(path: Path, truth: Array, predicted: Array) -> None:
    """Truth minus prediction over the prediction, as a density."""

    def draw(axes: Axes) -> None:
        axes.hexbin(predicted, truth - predicted, gridsize=45, cmap="Blues", bins="log", mincnt=1, linewidths=0.1)
        axes.axhline(0, color=ORANGE, linewidth=1)
        axes.set(title="Residuals on the holdout", xlabel="prediction", ylabel="truth minus prediction")

    _save(path, draw)


def confusion(path: Path, truth: Array, predicted: Array, labels: Sequence[str], weights: Array | None = None) -> None:
    """How often the model took each label for which one, as shares of the true label."""
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (truth.astype(int), predicted.argmax(axis=1)), 1 if weights is None else weights)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)

    def draw(axes: Axes) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        for (row, column), share in np.ndenumerate(shares):
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", color="white" if share > 0.5 else "black")
        axes.set(title="Confusion on the holdout", xlabel="predicted", ylabel="true")
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
        axes.set_yticks(range(len(labels)), labels)

    _save(path, draw)
