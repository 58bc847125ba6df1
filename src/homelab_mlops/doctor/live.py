"""What one visit sees of the cluster: each kind is listed once, by whichever check asks for it first."""

from __future__ import annotations

import datetime
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from homelab_mlops.doctor.visit import NotLookedAtError, Visit
from homelab_mlops.errors import ClusterError

if TYPE_CHECKING:
    from homelab_mlops.clients.kubernetes import Cluster, Object

ARGO, SEALED = "argoproj.io/v1alpha1", "bitnami.com/v1alpha1"
# The doctor does not report an event or a restart that is older than this.
RECENT = datetime.timedelta(minutes=15)
_Listing = tuple[str, str, str]


class Live:
    """The objects of a cluster as this visit first saw them; the checks share it, each in its thread.

    Attributes:
        cluster: the client of the cluster, for requests that list nothing.
        namespaces: the labels of every namespace, by its name.
        own: the names of the namespaces that belong to the platform.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.namespaces: dict[str, dict[str, str]] = {}
        self.own: set[str] = set()
        self._listed: dict[_Listing, list[Object] | ClusterError] = {}
        self._locks: defaultdict[_Listing, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def every(self, api_version: str, kind: str, selector: str = "") -> list[Object]:
        """The objects of a kind in all namespaces.

        Raises:
            ClusterError: the API server refuses to list them, or does not answer.
        """
        listing = (api_version, kind, selector)
        with self._lock:
            lock = self._locks[listing]
        with lock:
            if listing not in self._listed:
                self._listed[listing] = self._list(*listing)
            listed = self._listed[listing]
        if isinstance(listed, ClusterError):
            raise listed
        return listed

    def _list(self, api_version: str, kind: str, selector: str) -> list[Object] | ClusterError:
        try:
            return self.cluster.find(api_version, kind, selector=selector)
        except ClusterError as error:
            return error


def live_of(visit: Visit) -> Live:
    """What the check ``connected`` left for the others."""
    live: Live = visit.shared["live"]
    return live


def find(visit: Visit, api_version: str, kind: str) -> list[Object]:
    """The objects of a kind in the namespaces of the platform.

    Raises:
        NotLookedAtError: the API server does not list them.
    """
    own = live_of(visit).own
    return [item for item in find_everywhere(visit, api_version, kind) if item["metadata"].get("namespace") in own]


def find_everywhere(visit: Visit, api_version: str, kind: str, selector: str = "") -> list[Object]:
    """The objects of a kind in the whole cluster.

    Raises:
        NotLookedAtError: the API server does not list them.
    """
    try:
        return live_of(visit).every(api_version, kind, selector)
    except ClusterError as error:
        raise NotLookedAtError(f"{kind}: {error.what}", partly=True) from error


def find_anew(visit: Visit, api_version: str, kind: str) -> list[Object]:
    """The same as ``find``, listed a second time: for a check that waits for a change.

    Raises:
        NotLookedAtError: the API server does not list them.
    """
    live = live_of(visit)
    try:
        found = live.cluster.find(api_version, kind)
    except ClusterError as error:
        raise NotLookedAtError(f"{kind}: {error.what}", partly=True) from error
    return [item for item in found if item["metadata"].get("namespace") in live.own]


def name_of(item: Object) -> str:
    """Kind, namespace and name of an object, as a finding names it."""
    return f"{item.get('kind', '')} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}".strip()


def warnings(visit: Visit) -> dict[tuple[str, str, str], str]:
    """The last recent warning of each object, by its kind, namespace and name."""
    found: dict[tuple[str, str, str], tuple[str, str]] = {}
    for event in find(visit, "v1", "Event"):
        at = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp", "")
        if event.get("type") != "Warning" or not is_recent(at):
            continue
        about = event["involvedObject"]
        key = about.get("kind", ""), about.get("namespace", ""), about.get("name", "")
        found[key] = max(found.get(key, ("", "")), (str(at), str(event.get("message", ""))))
    return {key: message for key, (_, message) in found.items()}


def is_recent(timestamp: str) -> bool:
    """Whether a time of the API server is at most ``RECENT`` ago."""
    try:
        at = datetime.datetime.fromisoformat(str(timestamp))
    except ValueError:
        return False
    return datetime.datetime.now(datetime.UTC) - at < RECENT


def latest_workflows(visit: Visit) -> dict[str, str]:
    """The newest workflow of each template and model, where it has not succeeded, with the time of its end, if any."""
    newest: dict[Any, Object] = {}
    for item in find(visit, ARGO, "Workflow"):
        labels = item["metadata"].get("labels", {})
        model = labels.get("homelab-mlops/model")
        template = item["spec"].get("workflowTemplateRef", {}).get("name") or labels.get("homelab-mlops/template")
        key = (template, model) if model else labels.get("workflows.argoproj.io/cron-workflow") or name_of(item)
        if item["metadata"]["creationTimestamp"] >= newest.get(key, item)["metadata"]["creationTimestamp"]:
            newest[key] = item
    unfinished = (item for item in newest.values() if item.get("status", {}).get("phase") != "Succeeded")
    return {item["metadata"]["name"]: item.get("status", {}).get("finishedAt") or "" for item in unfinished}
