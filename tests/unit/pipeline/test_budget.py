"""The comparisons with one champion share one error budget."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from homelab_mlops.errors import StorageError
from homelab_mlops.model.spec import load_spec
from homelab_mlops.pipeline import budget, comparisons, tracking
from homelab_mlops.pipeline.budget import YEAR, Allowance, Comparison, allow, share_of
from homelab_mlops.pipeline.gate import Opponent, judge, percent
from homelab_mlops.pipeline.metrics import lower_bound
from tests.conftest import ROOT

START = datetime(2026, 1, 1, 2, tzinfo=UTC)


def asked(times: list[datetime], most: int) -> list[Comparison]:
    """The comparisons that a gate makes that is asked at ``times``."""
    made: list[Comparison] = []
    for at in times:
        allowance = allow(made, most, at)
        if allowance.share:
            made.append(Comparison(str(at), at, allowance.number, allowance.share, allowance.left))
    return made


@pytest.mark.parametrize("most", [1, 2, 30, 366])
def test_the_shares_of_a_year_are_the_whole_budget(most: int) -> None:
    shares = [share_of(number, most) for number in range(1, most + 1)]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert allow(asked([START] * most, most), most, START).share == 0


@pytest.mark.parametrize("hours", [7, 24, 100])
def test_no_year_spends_more_than_its_budget(hours: int) -> None:
    """Whether the gate is asked three times a day or twice a week, for three years."""
    made = asked([START + timedelta(hours=hours) * number for number in range(3 * 365 * 24 // hours)], 366)
    for end in made:
        assert sum(each.share for each in made if end.at - YEAR < each.at <= end.at) <= 1 + 1e-9


def test_a_gate_that_is_asked_each_night_never_wears_out() -> None:
    """Also where a night begins an hour earlier or later than the one a year before."""
    times = [START + timedelta(days=night, minutes=int(17 * night) % 61) for night in range(1000)]
    made = asked(times, load_spec(str(ROOT / "workflows/models/churn")).gate.comparisons)
    assert len(made) == len(times)
    assert min(each.share for each in made) > 0.9 / 366


def test_a_spent_budget_says_when_it_goes_on() -> None:
    made = asked([START + timedelta(days=day) for day in range(3)], 3)
    refused = allow(made, 3, START + timedelta(days=10))
    assert (refused.share, refused.number, refused.again) == (0, 4, START + YEAR)
    assert refused.again is not None
    assert allow(made, 3, refused.again).share > 0


def test_a_smaller_budget_counts_what_is_spent_already() -> None:
    made = asked([START] * 5, 366)
    assert allow(made, 3, START).again == START + YEAR
    assert allow(made, 6, START).share <= 1 - sum(each.share for each in made)


def test_the_gate_asks_for_more_the_more_often_it_was_asked() -> None:
    spec, random = load_spec(str(ROOT / "workflows/models/churn")), np.random.default_rng(4)
    truth = (random.random(2000) < 0.27).astype(float)
    noise = random.normal(size=2000)
    scores = [1 / (1 + np.exp(-(strength * truth + noise))) for strength in (1.5, 1.62)]
    everything = np.ones(2000, dtype=bool)
    baseline = Opponent("trivial baseline", np.full(2000, 0.27), everything)
    champion = Opponent("champion (version 3)", scores[0] + random.normal(0, 0.05, 2000), everything)

    def reason(allowance: Allowance) -> Any:
        return judge(spec, truth, scores[1], baseline, champion, allowance=allowance)[-1]

    first, late = (reason(allow(asked([START] * number, 366), 366, START)) for number in (0, 300))
    bounds = [float(each.text.partition("by more than ")[2].partition(";")[0]) for each in (first, late)]
    assert bounds[0] > bounds[1]
    assert "with 99.68% confidence" in first.text
    assert first.text.endswith("comparison 1 of at most 366 a year with it; 94 % of their error budget is left")
    spent = reason(allow(asked([START] * 366, 366), 366, START))
    assert (spent.rule, spent.passed) == ("budget", False)
    assert "the 366 comparisons with the champion (version 3) within a year have spent their error budget" in spent.text
    assert "It goes on from 2027-01-01 02:00 UTC. Until then, promote by hand" in spent.text


@pytest.mark.parametrize(("confidence", "text"), [(0.95, "95%"), (0.5, "50%"), (0.975, "97.5%"), (1 - 7e-5, "99.993%")])
def test_a_confidence_is_said_in_as_many_digits_as_it_needs(confidence: float, text: str) -> None:
    assert text == percent(confidence)


def test_a_bound_beyond_the_resamples_goes_on_as_a_normal_tail() -> None:
    """Continuous at ten resamples, and near the true quantile, where the smallest of 1,000 cannot be."""
    bounds = []
    for seed in range(40):
        drawn = np.random.default_rng(seed).normal(2, 3, 1000)
        assert lower_bound(drawn, 0.01) == np.quantile(drawn, 0.01)
        assert lower_bound(drawn, 0.00999999) == pytest.approx(lower_bound(drawn, 0.01), abs=1e-5)
        bounds.append((lower_bound(drawn, 7e-5) - 2) / 3)
    assert np.mean(bounds) == pytest.approx(-3.81, abs=0.1)
    assert lower_bound(np.full(1000, 0.5), 1e-6) == 0.5


class TestInAFolder:
    def test_the_same_comparison_spends_once(self, tmp_path: Path) -> None:
        first = comparisons.spend_in_folder(tmp_path, "champion", "a", 10)
        second = comparisons.spend_in_folder(tmp_path, "champion", "b", 10)
        assert (first.number, second.number) == (1, 2)
        assert first.share > second.share
        assert first == comparisons.spend_in_folder(tmp_path, "champion", "a", 10)
        assert comparisons.spend_in_folder(tmp_path, "another that lay there", "a", 10).number == 1
        assert comparisons.spend_in_folder(tmp_path, "champion", "c", 10).number == 3

    def test_a_spent_budget_notes_nothing(self, tmp_path: Path) -> None:
        comparisons.spend_in_folder(tmp_path, "champion", "a", 1)
        before = (tmp_path / comparisons.FILE).read_bytes()
        assert comparisons.spend_in_folder(tmp_path, "champion", "b", 1).again is not None
        assert before == (tmp_path / comparisons.FILE).read_bytes()

    def test_comparisons_at_the_same_time_count_each_other(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from homelab_mlops.pipeline.comparisons import spend_in_folder\n"
            "for n in range(20): print(spend_in_folder(Path(sys.argv[1]), 'c', f'{sys.argv[2]} {n}', 366).number)"
        )

        def several(name: str) -> list[str]:
            command = [sys.executable, "-c", code, str(tmp_path), name]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

        with ThreadPoolExecutor() as pool:
            numbers = [int(number) for found in pool.map(several, "abc") for number in found]
        assert sorted(numbers) == list(range(1, 61))

    @pytest.mark.parametrize("folder", ["a file", "nothing"])
    def test_a_folder_that_cannot_be_written_is_named(self, folder: str, tmp_path: Path) -> None:
        (tmp_path / "a file").touch()
        with pytest.raises(StorageError, match="cannot be kept") as refused:
            comparisons.spend_in_folder(tmp_path / folder, "champion", "a", 10)
        assert str(tmp_path / folder / comparisons.FILE) in str(refused.value)

    @pytest.mark.parametrize("content", ["", "[]", '{"champion": [{"of": "a"}]}', '{"champion": 3}'])
    def test_a_damaged_file_is_named_and_stays(self, content: str, tmp_path: Path) -> None:
        (tmp_path / comparisons.FILE).write_text(content)
        with pytest.raises(StorageError, match="is damaged"):
            comparisons.spend_in_folder(tmp_path, "champion", "a", 10)
        assert content == (tmp_path / comparisons.FILE).read_text()


class TestInRuns:
    @pytest.fixture
    def runs(self, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
        client = tracking.client()
        experiment = client.create_experiment(f"budget-{datetime.now(UTC).timestamp()}")
        made = [client.create_run(experiment) for _ in range(3)]
        return [{"run_id": run.info.run_id, "experiment_id": experiment} for run in made]

    def test_the_runs_of_a_champion_are_counted_deleted_ones_too(self, runs: list[dict[str, Any]]) -> None:
        first = comparisons.spend_in_run(runs[0], "3", "a", 10)
        assert first == comparisons.spend_in_run(runs[0], "3", "a", 10)
        mlflow.MlflowClient().delete_run(runs[0]["run_id"])
        second = comparisons.spend_in_run(runs[1], "3", "b", 10)
        assert (first.number, second.number) == (1, 2)
        assert comparisons.spend_in_run(runs[1], "4", "b", 10).number == 1
        # The same bytes, trained again.
        assert second == comparisons.spend_in_run(runs[2], "3", "b", 10)

    def test_a_step_that_died_before_its_outcome_goes_on(self, runs: list[dict[str, Any]]) -> None:
        """It has noted that it looks, so another one that looks meanwhile counts it; then it has its own share."""
        comparisons.spend_in_run(runs[0], "3", "a", 10)
        begun = Comparison("b", budget.now(), 0, 0.0, 1.0)
        mlflow.MlflowClient().set_tag(runs[1]["run_id"], f"{comparisons.TAG}3", json.dumps([begun.to_json()]))
        assert comparisons.spend_in_run(runs[2], "3", "c", 10).number == 3
        assert comparisons.spend_in_run(runs[1], "3", "b", 10).number == 3
        assert comparisons.spend_in_run(runs[1], "3", "b", 10).number == 3

    def test_a_year_later_it_counts_no_more(self, runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
        for run, of in zip(runs[:2], "ab", strict=True):
            comparisons.spend_in_run(run, "3", of, 2)
        refused = comparisons.spend_in_run(runs[2], "3", "c", 2)
        assert refused.again is not None
        again = refused.again
        monkeypatch.setattr(budget, "now", lambda: again)
        assert comparisons.spend_in_run(runs[2], "3", "c", 2).share > 0
