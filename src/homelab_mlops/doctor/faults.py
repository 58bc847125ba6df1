"""The table of what can be wrong: code, severity, what it means, and what to do. docs/troubleshooting.md shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["broken", "warning"]


@dataclass(frozen=True)
class Fault:
    """A fault by its code. ``transient``: the same command may succeed in a minute."""

    code: str
    title: str
    fix: str
    severity: Severity = "broken"
    transient: bool = False

    @property
    def group(self) -> str:
        """What the fault is of: ``tracking``, ``store``, ``cluster``, or ``gitops``."""
        return self.code.partition("_")[0].lower()


def _connection(prefix: str, server: str, address: str, bundle: str) -> tuple[Fault, ...]:
    """The faults of a connection, which tracking server and store have in common."""
    return (
        Fault(f"{prefix}_DNS", f"the name of the {server} does not resolve", f"check the host in {address}"),
        Fault(
            f"{prefix}_REFUSED",
            f"the {server} refuses the connection",
            f"start the server, and check the port in {address}",
            transient=True,
        ),
        Fault(
            f"{prefix}_TIMEOUT",
            f"nothing answers at the address of the {server}",
            f"check the address in {address}, the firewall, and NetworkPolicies",
            transient=True,
        ),
        Fault(
            f"{prefix}_BREAKS_OFF",
            f"the {server} breaks the connection off",
            "look at its log, and at the proxy before it",
            transient=True,
        ),
        Fault(
            f"{prefix}_TLS_UNTRUSTED",
            f"TLS fails: the certificate of the {server} is from an authority that is not trusted here",
            f"name its CA in {bundle}",
        ),
        Fault(
            f"{prefix}_TLS_EXPIRED",
            f"TLS fails: the certificate of the {server} has expired, or this machine's clock is wrong",
            "renew the certificate; look at `date` here",
        ),
        Fault(
            f"{prefix}_TLS_WRONG_HOST",
            f"TLS fails: the certificate of the {server} is for another name",
            f"write a name of its certificate in {address}",
        ),
        Fault(f"{prefix}_TLS_FAILS", f"TLS fails with the {server}", "look at the server's TLS settings"),
        Fault(
            f"{prefix}_TLS_TO_HTTP",
            f"TLS fails: the {server} speaks plain http at this port",
            f"write http:// instead of https:// in {address}, or name the TLS port",
        ),
        Fault(
            f"{prefix}_HTTP_TO_TLS",
            f"the {server} speaks TLS at this port, and is asked in plain http",
            f"write https:// instead of http:// in {address}",
        ),
    )


_TRACKING = (
    Fault(
        "TRACKING_URI",
        "the tracking server is not an http:// or https:// address",
        "run an MLflow server and name its address in MLFLOW_TRACKING_URI, or train with `--tracking files`",
    ),
    *_connection("TRACKING", "tracking server", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
    Fault(
        "TRACKING_NO_ANSWER",
        "the tracking server takes the connection and does not answer",
        "look at its log: its database or its artifact store may not answer",
        transient=True,
    ),
    Fault("TRACKING_NOT_MLFLOW", "this is no MLflow server", "check host, port and path of MLFLOW_TRACKING_URI"),
    Fault(
        "TRACKING_HOST_HEADER",
        "MLflow does not allow its clients to call it by this name",
        "add the name to MLFLOW_SERVER_ALLOWED_HOSTS of the server, with and without port",
    ),
    Fault(
        "TRACKING_LOGIN_MISSING",
        "the tracking server rejects the credentials: user and password are missing",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; `homelab seal --show mlflow-training` prints them",
    ),
    Fault(
        "TRACKING_LOGIN_WRONG",
        "the tracking server rejects the credentials: user and password are wrong",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; `homelab seal --show mlflow-training` prints them",
    ),
    Fault(
        "TRACKING_FORBIDDEN",
        "the tracking server denies access to this user",
        "give the user EDIT permission on the experiment, or use another user",
    ),
    Fault(
        "TRACKING_SERVER_FAILS",
        "the tracking server fails",
        "look at its log; its database may be down",
        transient=True,
    ),
    Fault(
        "TRACKING_SCHEMA_BEHIND",
        "MLflow's database has the schema of another version",
        "stop the server, back the database up, and run `mlflow db upgrade` with the server's own version of MLflow",
    ),
    Fault(
        "TRACKING_CLIENT_NEWER",
        "the client is a newer MLflow than the server",
        "bring both to one version: upgrade the server, or install its version of mlflow-skinny here",
        severity="warning",
    ),
    Fault(
        "TRACKING_SERVER_NEWER",
        "the server is a newer MLflow than the client",
        "bring both to one version: install the server's version of mlflow-skinny here",
        severity="warning",
    ),
    Fault("TRACKING_EXPERIMENT_DELETED", "the experiment is deleted", "restore it: mlflow experiments restore"),
    Fault(
        "TRACKING_NOT_PROXIED",
        "the artifacts of the experiment are not served by MLflow: each client needs the keys of the store",
        "start the server with --serve-artifacts --artifacts-destination, and use a new experiment: "
        "an experiment keeps the location that it was made with",
    ),
    Fault(
        "TRACKING_UPLOAD_TOO_LARGE",
        "a proxy before MLflow rejects large uploads",
        "raise its body limit: nginx.ingress.kubernetes.io/proxy-body-size, client_max_body_size",
    ),
    Fault(
        "TRACKING_PROXY_CANNOT_WRITE",
        "MLflow cannot write to its artifact store",
        "run `homelab doctor` with MLflow's own S3 settings, or look at MLflow's log: its --artifacts-destination has "
        "a wrong endpoint, key or bucket, or is full",
        transient=True,
    ),
    Fault(
        "TRACKING_PROXY_CANNOT_WRITE_LARGE",
        "MLflow can write small files to its artifact store, and no large ones",
        "run `homelab doctor` with MLflow's own S3 settings: multipart uploads are denied, or a proxy before the store "
        "limits the body",
    ),
    Fault(
        "TRACKING_PROXY_CANNOT_READ",
        "MLflow cannot read back what it wrote to its artifact store",
        "give MLflow's store user s3:GetObject on the bucket; look at MLflow's log",
    ),
)

_STORE = (
    Fault(
        "STORE_ENDPOINT",
        "the endpoint of the store is not an http:// or https:// address",
        "write it as http://HOST:PORT in MLFLOW_S3_ENDPOINT_URL or AWS_ENDPOINT_URL_S3",
    ),
    *_connection("STORE", "store", "MLFLOW_S3_ENDPOINT_URL or AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE"),
    Fault(
        "STORE_NO_ANSWER",
        "the store takes the connection and does not answer",
        "look at its log: its disk or the proxy before it may not answer",
        transient=True,
    ),
    Fault(
        "STORE_NOT_S3",
        "what answers at the endpoint is no S3 store",
        "name the port of the API, not that of the console (MinIO: 9000, not 9001)",
    ),
    Fault("STORE_NO_CREDENTIALS", "there are no S3 credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    Fault(
        "STORE_WRONG_KEY",
        "the store does not know the access key",
        "check AWS_ACCESS_KEY_ID; `homelab seal --show s3-mlflow` prints MLflow's, and the provisioning job makes it",
    ),
    Fault(
        "STORE_WRONG_SECRET",
        "the secret key is wrong: the signatures differ",
        "check AWS_SECRET_ACCESS_KEY: it has no space and no line end; a proxy must not change Host and path",
    ),
    Fault("STORE_EXPIRED", "the credentials have expired", "get new ones, and set AWS_SESSION_TOKEN with them"),
    Fault(
        "STORE_WRONG_TOKEN",
        "the session token is missing or wrong",
        "set AWS_SESSION_TOKEN to the token of these keys, or unset it where the keys have none",
    ),
    Fault(
        "STORE_CLOCK",
        "this machine's clock differs from the store's by more than 15 minutes",
        "set the clocks (NTP), here and at the store",
    ),
    Fault(
        "STORE_WRONG_REGION",
        "the store is in another region than the one that requests are signed for",
        "set AWS_DEFAULT_REGION",
    ),
    Fault(
        "STORE_ADDRESSING",
        "the store does not answer to this style of addresses",
        "set MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE to the other of `path` and `virtual`",
    ),
    Fault(
        "STORE_NO_BUCKET",
        "there is no such bucket",
        "make it (base/minio/storage.yaml declares the cluster's), or correct --artifacts-destination or `data.source`",
    ),
    Fault(
        "STORE_NO_TABLE",
        "there is no such table in the bucket",
        "bring it with `homelab data push`, or correct `data.source` in model.yaml",
    ),
    Fault(
        "STORE_DENIED_LIST",
        "these credentials may not list the bucket",
        "grant s3:ListBucket on the bucket (arn:aws:s3:::BUCKET, without /*)",
    ),
    Fault(
        "STORE_DENIED_PUT",
        "these credentials may not write to the bucket",
        "grant s3:PutObject on arn:aws:s3:::BUCKET/*",
    ),
    Fault(
        "STORE_DENIED_GET",
        "these credentials may not read from the bucket",
        "grant s3:GetObject on arn:aws:s3:::BUCKET/*",
    ),
    Fault(
        "STORE_DENIED_DELETE",
        "these credentials may not delete in the bucket: the doctor's probe object stays",
        "grant s3:DeleteObject on arn:aws:s3:::BUCKET/*",
        severity="warning",
    ),
    Fault(
        "STORE_DENIED_MULTIPART",
        "these credentials, or the store, allow no multipart uploads, which boto3 uses for files above 8 MiB",
        "grant s3:PutObject, s3:AbortMultipartUpload and s3:ListMultipartUploadParts on arn:aws:s3:::BUCKET/*",
    ),
    Fault(
        "STORE_UPLOAD_TOO_LARGE",
        "a proxy before the store rejects large uploads",
        "raise its body limit above 8 MiB: nginx.ingress.kubernetes.io/proxy-body-size, client_max_body_size",
    ),
    Fault(
        "STORE_CHECKSUM",
        "the store rejects the checksum headers that boto3 sends since 1.36",
        "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required and AWS_RESPONSE_CHECKSUM_VALIDATION=when_required",
    ),
    Fault("STORE_READ_ONLY", "the store is read-only", "look at its disk (`mount`, `dmesg`) and at its settings"),
    Fault(
        "STORE_FULL",
        "the store is full, or the quota of the bucket is used up",
        "free space, or raise the volume or the quota",
    ),
    Fault("STORE_FAILS", "the store fails", "look at its log", transient=True),
)

_CLUSTER = (
    Fault(
        "CLUSTER_KUBECONFIG", "there is no usable context in the kubeconfig", "set KUBECONFIG, or log in to the cluster"
    ),
    Fault(
        "CLUSTER_UNREACHABLE",
        "the API server does not answer",
        "check that the node runs, and the address in the kubeconfig",
    ),
    Fault(
        "CLUSTER_DENIED",
        "the API server refuses the credentials of this context",
        "log in anew; the doctor needs the right to read in the platform's namespaces",
    ),
    Fault(
        "CLUSTER_CRD_MISSING",
        "the cluster does not know a kind of this platform",
        "sync the Application that brings it, or run `homelab bootstrap`, which repairs",
    ),
    Fault(
        "CLUSTER_EXECUTOR_ROLE",
        "the executor may not report its result: every step would end in Error after succeeding",
        "allow create and patch of workflowtaskresults.argoproj.io, as base/training/rbac.yaml does, and sync",
    ),
    Fault(
        "CLUSTER_SERVICEACCOUNT_MISSING",
        "a ServiceAccount is missing",
        "declare it in git and sync: `homelab status` says what is out of sync",
    ),
    Fault(
        "CLUSTER_PVC_NO_CLASS",
        "a volume waits for a StorageClass that does not exist",
        "`kubectl get storageclass`; then `homelab init --storage-class NAME`, commit and push, and "
        "delete the claim: Kubernetes changes no claim that exists",
    ),
    Fault(
        "CLUSTER_PVC_ACCESS_MODE",
        "a volume waits: it asks for an access mode that its StorageClass does not have",
        "ask for ReadWriteOnce, and delete the pending claim: Kubernetes changes no claim that exists",
    ),
    Fault(
        "CLUSTER_PVC_PENDING",
        "a volume is not provisioned",
        "look at the events of the claim and at the provisioner's pod",
    ),
    Fault(
        "CLUSTER_IMAGE_PULL",
        "an image cannot be pulled",
        "correct name and tag in clusters/homelab/images or in the manifest, or push the image; commit and push",
    ),
    Fault(
        "CLUSTER_OOM_KILLED",
        "a container needed more memory than its limit, and was killed",
        "raise resources.limits.memory of the container in git, or give it less to do",
    ),
    Fault("CLUSTER_CRASH", "a container ends with an error", "read its last lines: kubectl logs --previous"),
    Fault(
        "CLUSTER_POD_CONFIG",
        "a pod names a Secret, a ConfigMap, a claim or a key that does not exist",
        "seal or declare it, commit and push",
    ),
    Fault(
        "CLUSTER_POD_REJECTED",
        "a pod is not admitted",
        "read the reason; the namespaces enforce Pod Security `restricted`",
    ),
    Fault(
        "CLUSTER_QUOTA",
        "the quota of a namespace is used up",
        "raise the ResourceQuota in git (base/training/quota.yaml), or ask for less; commit and push",
    ),
    Fault(
        "CLUSTER_NETWORK_POLICY",
        "NetworkPolicies block a connection that the platform needs",
        "restore the policy from git: sync the Application",
    ),
    Fault(
        "CLUSTER_CRON_SUSPENDED",
        "a retraining is suspended",
        "remove `suspend: true` from the model's cronworkflow.yaml, commit and push; where git does not say it: "
        "`argo cron resume MODEL -n training`",
        severity="warning",
    ),
    Fault(
        "CLUSTER_CRON_NEVER",
        "the schedule of a retraining never fires",
        "write minute, hour, day, month and weekday as they occur, such as `30 2 * * *`; commit and push",
    ),
    Fault(
        "CLUSTER_CERTIFICATE_MISSING",
        "a page has no certificate, so clients refuse it",
        "`homelab certificate` says which it is; `homelab init --yes` makes one where tls is own; commit and push",
    ),
    Fault(
        "CLUSTER_CERTIFICATE_OTHER",
        "the certificate of a page is for other hosts, so clients refuse it",
        "run `homelab init --yes`, which makes one for every host; commit and push",
    ),
    Fault(
        "CLUSTER_CERTIFICATE_ENDED",
        "the certificate of a page has ended, so clients refuse it",
        "`homelab certificate --renew`, then commit and push",
    ),
    Fault(
        "CLUSTER_CERTIFICATE_ENDS",
        "the certificate of a page ends soon",
        "`homelab certificate --renew`, then commit and push",
        severity="warning",
    ),
    Fault(
        "CLUSTER_CRON_TIMEZONE",
        "the time zone of a retraining does not exist",
        "name one of the IANA database, such as Europe/Berlin or Etc/UTC; commit and push",
    ),
    Fault(
        "CLUSTER_NO_CPU",
        "a pod waits for CPU that no node has left",
        "lower its requests, raise those of a node, or stop something",
    ),
    Fault(
        "CLUSTER_NO_MEMORY",
        "a pod waits for memory that no node has left",
        "lower its requests, add memory, or stop something",
    ),
    Fault(
        "CLUSTER_UNSCHEDULABLE",
        "no node takes a pod",
        "read the reason: a taint, a selector, or a node that is not ready",
    ),
)

_GITOPS = (
    Fault(
        "GITOPS_PLAIN_SECRET",
        "a secret lies in the repository in plain text",
        "rotate it (`homelab seal --rotate NAME`), since the history keeps it; then seal it and delete the file",
    ),
    Fault(
        "GITOPS_SEALED_WRONG_KEY",
        "a SealedSecret was sealed for another key",
        "`homelab init --old-key FILE` seals it anew, where FILE is the private key it was sealed for; commit and push",
    ),
    Fault(
        "GITOPS_SEALED_WRONG_NAME",
        "a SealedSecret was sealed for another name or namespace, so it does not decrypt",
        "give it its name and namespace back; or `homelab init` seals it anew, or lists what would be lost",
    ),
    Fault(
        "GITOPS_SEALED_DAMAGED",
        "a SealedSecret is damaged",
        "bring the file back from git; or `homelab init` seals it anew, or lists what would be lost; commit and push",
    ),
    Fault(
        "GITOPS_OUT_OF_SYNC",
        "an Application stays OutOfSync though it was synced",
        "write the field in git as the cluster holds it, or leave it out; or find who changes it",
    ),
    Fault(
        "GITOPS_SYNC_FAILED",
        "an Application cannot be synced",
        "`homelab status` names commit and file; correct it, or `git revert`, and push",
    ),
    Fault(
        "GITOPS_CRD_RACED",
        "a custom resource is applied before its CRD",
        "give the CRD an earlier wave, or the resource the sync option SkipDryRunOnMissingResource=true; sync again",
    ),
    Fault(
        "GITOPS_REPOSITORY_UNREACHABLE",
        "the git repository cannot be reached",
        "check `repository` in clusters/homelab/settings.yaml, and that its server runs",
    ),
    Fault(
        "GITOPS_REPOSITORY_LOGIN",
        "the git repository refuses the credentials, or needs some",
        "make the repository readable, or give Argo CD a repository Secret with working credentials",
    ),
    Fault(
        "GITOPS_REPOSITORY_MISSING",
        "there is no such git repository",
        "check the path of `repository` in clusters/homelab/settings.yaml; a private repository looks the same "
        "without a login",
    ),
    Fault(
        "GITOPS_REVISION_MISSING",
        "the branch or tag that Argo CD follows does not exist",
        "push the branch, or correct it with `homelab init --branch NAME`",
    ),
    Fault(
        "GITOPS_PATH_MISSING",
        "an Application names a folder that the repository does not have",
        "correct spec.source.path, or push the folder",
    ),
    Fault(
        "GITOPS_MAIN_UNPROTECTED",
        "whoever may push to the branch that Argo CD follows changes everything in the cluster",
        "protect it on the forge and require the check of the workflow review: docs/serving.md, Protect main, once",
        severity="warning",
    ),
    Fault("GITOPS_NOT_PUSHED", "Argo CD does not deploy what this clone holds", "commit and push", severity="warning"),
)

FAULTS: dict[str, Fault] = {fault.code: fault for fault in (*_TRACKING, *_STORE, *_CLUSTER, *_GITOPS)}
