"""A table of the bucket is scored by the champion, and lies beside it as Parquet."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from homelab_mlops.model.scoring import Scorer
from tests.conftest import Homelab, Store, refused
from tests.unit.model.test_scoring import raw_rows
from tests.unit.serving.conftest import Registered

WAYS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": lambda rows: rows.to_csv(index=False).encode(),
    "csv.gz": lambda rows: gzip.compress(rows.to_csv(sep=";", decimal=",").encode("utf-16")),
    "parquet": lambda rows: rows.to_parquet(index=False),
}


@pytest.mark.parametrize(("name", "ending"), [("churn", "csv"), ("churn", "csv.gz"), ("penguins", "parquet")])
def test_a_table_of_the_bucket(
    name: str, ending: str, registered: dict[str, Registered], mlflow_uri: str, minio: Store, homelab: Homelab
) -> None:
    model = registered[name]
    rows = raw_rows(model.spec)
    content = WAYS[ending](rows)
    store, source, target = minio.client(), f"in/{name}.{ending}", f"out/{name}.parquet"
    store.put_object(Bucket="datasets", Key=source, Body=content)
    arguments = ["--source", f"s3://datasets/{source}", "--target", f"s3://datasets/{target}"]
    done = homelab("predict", model.name, *arguments, env={"MLFLOW_TRACKING_URI": mlflow_uri, **minio.env})
    assert done.returncode == 0, done.stderr
    scored = pd.read_parquet(io.BytesIO(store.get_object(Bucket="datasets", Key=target)["Body"].read()))
    expected = Scorer.load(model.work / "train" / "xgboost-model").predict(rows)
    columns = [column for column in scored if column not in (*rows.columns, "model_version")]
    np.testing.assert_allclose(scored[columns].to_numpy().reshape(expected.shape), expected, rtol=0, atol=1e-6)
    assert set(scored["model_version"]) == {model.version}
    assert len(scored) == len(rows)


def test_a_model_without_a_champion(mlflow_uri: str, homelab: Homelab) -> None:
    done = homelab("predict", "nobody", "--source", "a.csv", "--target", "b", env={"MLFLOW_TRACKING_URI": mlflow_uri})
    refused(done, "the model 'nobody' has no champion")
