"""The manifests of deploy/kubernetes are valid in every supported Kubernetes, and as restrictive as documented."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.environment import read_settings
from service.settings import PREFIX, Settings
from service.web.server import SHUTDOWN_GRACE_SECONDS
from tests.harness.clients import SECRET
from tests.harness.servers import REPOSITORY, missing

FOLDER = REPOSITORY / "deploy" / "kubernetes"
OLDEST, NEWEST = 30, 37
"""Minor versions: the oldest that has `preStop.sleep`, which we use, and the newest that the validator knows."""

ACCOUNT_PAGE = {"/", "/account"}
NOT_FOR_THE_OUTSIDE = {"/metrics", "/livez", "/readyz", "/verify"}

SECRETS = {
    "KEYTURN_MASTER_SECRETS_FILE": SECRET,
    "KEYTURN_DATABASE_URL_FILE": "postgresql://keyturn:of-a-file@db/keyturn",
    "KEYTURN_REDIS_URL_FILE": "redis://:of-a-file@redis/0",
    "KEYTURN_WEBHOOK_SECRET_FILE": "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldY",
}
"""The content of the files of the pods' secrets."""

Manifest = dict[str, Any]


def manifests(file: Path) -> list[Manifest]:
    return [manifest for manifest in yaml.safe_load_all(file.read_text("utf-8")) if manifest]


FILES = sorted(file for file in FOLDER.rglob("*.yaml") if file.name != "kustomization.yaml")
ALL = [manifest for file in FILES for manifest in manifests(file)]


def the(kind: str, name: str = "keyturn") -> Manifest:
    (found,) = (m for m in ALL if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return found


DEPLOYMENT, JOB = the("Deployment"), the("Job", "keyturn-migrate")


def pods() -> Iterator[tuple[Manifest, Manifest]]:
    """Yield the specification of each pod, and its only container."""
    for workload in (DEPLOYMENT, JOB):
        pod = workload["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        yield pod, container


@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1))
def test_every_manifest_is_valid(minor: int) -> None:
    """The check is strict: a field that this Kubernetes does not know is an error."""
    assert len(ALL) > 10
    for manifest in ALL:
        assert f"1.{minor}" == kubernetes_validate.validate(manifest, f"1.{minor}", strict=True)


def test_the_validator_knows_no_newer_kubernetes() -> None:
    """When the validator has the schemas of a newer Kubernetes, this test fails so that the version is added."""
    assert f"1.{NEWEST}" == ".".join(kubernetes_validate.latest_version().split(".")[:2])


def built(folder: Path) -> list[Manifest]:
    """Return what would be applied."""
    if shutil.which("kubectl") is None:
        missing("kubectl")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("folder", [FOLDER, FOLDER / "migrate"], ids=["keyturn", "migrate"])
def test_kustomize_builds_them(folder: Path) -> None:
    """All are in one namespace, use one image, and stay valid; a change of settings gives a new name."""
    made = {(m["kind"], m["metadata"]["name"]): m for m in built(folder)}
    lying = {(m["kind"], m["metadata"]["name"]) for file in FILES if file.parent == folder for m in manifests(file)}
    generated = {(kind, name) for kind, name in made if kind == "ConfigMap"}
    assert lying - {("NetworkPolicy", "keyturn-webhook")} == set(made) - generated
    for manifest in made.values():
        kubernetes_validate.validate(manifest, f"1.{NEWEST}", strict=True)
        assert "keyturn" == manifest["metadata"].get("namespace", manifest["metadata"]["name"])
    for kind, name in made:
        if kind in {"Deployment", "Job"}:
            (container,) = made[kind, name]["spec"]["template"]["spec"]["containers"]
            assert container["image"].startswith("registry.example.com/keyturn:")
            referenced = [("ConfigMap", given["configMapRef"]["name"]) for given in container.get("envFrom", ())]
            assert sorted(generated) == referenced


def test_the_restore_guard_differs_from_the_migration_only_in_its_command() -> None:
    """Its pod is the same, also its labels, which the network policy selects; and it has the settings that it needs.

    With a larger KEYTURN_TOTP_SKEW_STEPS, for example, more codes may have been used.
    """
    migration, guard, serving = (
        {m["kind"]: m for m in built(FOLDER / name)} for name in ("migrate", "restore-guard", "")
    )
    assert migration["NetworkPolicy"] == guard["NetworkPolicy"]
    assert serving["ConfigMap"] == guard["ConfigMap"]
    jobs = migration["Job"], guard["Job"]
    assert ["keyturn-migrate", "keyturn-restore-guard"] == [job["metadata"]["name"] for job in jobs]
    doing, guarding = (job["spec"]["template"]["spec"]["containers"][0] for job in jobs)
    assert (["migrate"], ["restore-guard"]) == (doing.pop("args"), guarding.pop("args"))
    assert [{"configMapRef": {"name": guard["ConfigMap"]["metadata"]["name"]}}] == guarding.pop("envFrom")
    assert migration["Job"]["spec"] == guard["Job"]["spec"]
    for manifest in guard.values():
        kubernetes_validate.validate(manifest, f"1.{NEWEST}", strict=True)


def test_the_restore_guard_takes_a_list_of_deleted_users(tmp_path: Path) -> None:
    """The Job is the one without the list, but for the file that it reads; without the file nothing is applied."""
    folder = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, folder)
    (folder / "restore-guard-deleted" / "deleted.txt").write_text("pZ9yKq2mX0d4Wc1bR7tLhA\n", "utf-8")
    made = built(folder / "restore-guard-deleted")
    (given,) = (m for m in made if "deleted.txt" in m.get("data", {}))
    (job,) = (m for m in made if m["kind"] == "Job")
    (plain,) = (m for m in built(FOLDER / "restore-guard") if m["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mount = container["volumeMounts"].pop()
    assert {"name": mount["name"], "configMap": {"name": given["metadata"]["name"]}} == pod["volumes"].pop()
    assert ["restore-guard", "--deleted", f"{mount['mountPath']}/deleted.txt"] == container["args"]
    assert {"deleted.txt": "pZ9yKq2mX0d4Wc1bR7tLhA\n"} == given["data"]
    container["args"] = ["restore-guard"]
    assert plain == job
    for manifest in made:
        kubernetes_validate.validate(manifest, f"1.{NEWEST}", strict=True)
        assert "keyturn" == manifest["metadata"]["namespace"]
    refused = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / "restore-guard-deleted")], capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "deleted.txt" in refused.stderr


def test_jobs_and_replicas_use_the_same_image() -> None:
    """Replicas do not start with a schema of another version."""
    (here,), (there,) = (kustomization(folder)["images"] for folder in (FOLDER, FOLDER / "migrate"))
    assert here == there


def kustomization(folder: Path) -> Manifest:
    (found,) = manifests(folder / "kustomization.yaml")
    return found


def test_every_pod_has_minimal_rights() -> None:
    """It has the image's user, no root, no capability, only a small writable /tmp, no token, no service variables."""
    for pod, container in pods():
        assert (False, False) == (pod["automountServiceAccountToken"], pod["enableServiceLinks"])
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
        assert {
            "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        } == pod["securityContext"]  # fmt: skip
        assert {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        } == container["securityContext"]  # fmt: skip
        writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        (tmp,) = (volume for volume in pod["volumes"] if volume["name"] in writable)
        assert {"medium": "Memory", "sizeLimit": "16Mi"} == tmp["emptyDir"]
        assert {"cpu", "memory"} == set(container["resources"]["requests"])
        assert {"memory"} == set(container["resources"]["limits"])
    assert "USER 10001:10001" in (REPOSITORY / "Dockerfile").read_text("utf-8")
    assert not the("ServiceAccount")["automountServiceAccountToken"]
    assert "restricted" == the("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]


def test_secrets_are_files() -> None:
    """No secret is in an environment, which `kubectl describe`, crash reports and child processes show."""
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    for pod, container in pods():
        environment = {given["name"]: given["value"] for given in container["env"]}
        (mount,) = (mount for mount in container["volumeMounts"] if mount.get("readOnly"))
        (volume,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == mount["name"])
        assert {"secretName": "keyturn", "defaultMode": 0o440} == volume
        assert not {PREFIX + name.upper() for name in secret} & (set(environment) | set(literals()))
        for name, value in environment.items():
            assert (True, mount["mountPath"]) == (name.endswith("_FILE"), str(Path(value).parent))


def literals() -> dict[str, str]:
    """Return the settings that are no secrets."""
    (generated,) = kustomization(FOLDER / "settings")["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generated["literals"])


def test_keyturn_accepts_the_settings(tmp_path: Path) -> None:
    """Keyturn reads them in the container's environment without an error."""
    for setting, secret in SECRETS.items():
        (tmp_path / setting).write_text(secret + "\n")
    for _, container in pods():
        environment = {given["name"]: given["value"] for given in container["env"]}
        if "envFrom" in container:
            environment |= literals()
        files = {name: str(tmp_path / name) for name in environment if name in SECRETS}
        assert {"KEYTURN_MASTER_SECRETS_FILE", "KEYTURN_DATABASE_URL_FILE"} <= files.keys()
        settings = read_settings({**environment, **files})
        assert 1 == len(settings.read_master_secrets())
        assert SECRETS["KEYTURN_DATABASE_URL_FILE"] == settings.resolved_database_url
    assert int(DEPLOYMENT["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]) == int(
        literals()["KEYTURN_HASH_CONCURRENCY"]
    )


def test_a_replica_stops_after_the_gateways_have_noticed() -> None:
    """First the gateways notice, then running requests have the server's grace period, then some time is left."""
    pod = DEPLOYMENT["spec"]["template"]["spec"]
    notice = int(literals()["KEYTURN_DRAIN_DELAY"])
    assert notice >= 5
    assert pod["terminationGracePeriodSeconds"] >= notice + SHUTDOWN_GRACE_SECONDS + 5
    assert {"maxSurge": 1, "maxUnavailable": 0} == DEPLOYMENT["spec"]["strategy"]["rollingUpdate"]


def test_probes_have_the_right_paths_and_patience() -> None:
    """Liveness does not need the database; readiness does, and tolerates an outage of an access token's lifetime."""
    _, container = next(pods())
    probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
    paths = {kind: (probe["httpGet"]["path"], probe["httpGet"]["port"]) for kind, probe in probes.items()}
    assert {"startup": ("/livez", "http"), "liveness": ("/livez", "http"), "readiness": ("/readyz", "http")} == paths
    ready = probes["readiness"]
    assert Settings().access_ttl == ready["periodSeconds"] * ready["failureThreshold"]
    (port,) = container["ports"]
    assert {"name": "http", "containerPort": 8000} == port


def test_every_selector_finds_its_pods() -> None:
    """Services, budget, autoscaler and policies select this Deployment, and the Job's policy selects the Job."""
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    selectors = [service["spec"]["selector"] for service in ALL if service["kind"] == "Service"]
    selectors += [the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    selectors += [DEPLOYMENT["spec"]["selector"]["matchLabels"]]
    selectors += [
        the("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"] for name in ("keyturn", "keyturn-webhook")
    ]
    assert [labels] * len(selectors) == selectors
    ours = JOB["spec"]["template"]["metadata"]["labels"]
    assert ours != labels
    assert ours == the("NetworkPolicy", "keyturn-migrate")["spec"]["podSelector"]["matchLabels"]
    autoscaler = the("HorizontalPodAutoscaler")["spec"]
    assert ("Deployment", "keyturn") == (autoscaler["scaleTargetRef"]["kind"], autoscaler["scaleTargetRef"]["name"])
    assert autoscaler["minReplicas"] > the("PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert "replicas" not in DEPLOYMENT["spec"]


def test_policies_cover_both_directions() -> None:
    """A direction that a policy does not name is open."""
    for name in ("keyturn", "keyturn-migrate"):
        policy = the("NetworkPolicy", name)["spec"]
        assert ["Ingress", "Egress"] == policy["policyTypes"]
        for rule in (*policy.get("ingress", ()), *policy["egress"]):
            assert rule.get("from") or rule.get("to")
            assert rule["ports"]
    assert "ingress" not in the("NetworkPolicy", "keyturn-migrate")["spec"]


def test_only_the_public_paths_are_routed() -> None:
    """Every path of openapi.json is routed except the internal ones; of other paths only the account page is."""
    paths = json.loads((REPOSITORY / "openapi.json").read_text("utf-8"))["paths"]
    documented = {path for path in paths if not path.startswith("/admin")}  # the admin API is for the inside
    (rule,) = the("Ingress")["spec"]["rules"]
    routed = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}

    def is_routed(path: str) -> bool:
        return any(
            path == prefix or (kind == "Prefix" and path.startswith(prefix + "/")) for prefix, kind in routed.items()
        )

    assert documented - NOT_FOR_THE_OUTSIDE == {path for path in documented if is_routed(path)}
    assert routed.keys() >= ACCOUNT_PAGE
    for prefix in routed.keys() - ACCOUNT_PAGE:
        assert any(path == prefix or path.startswith(prefix + "/") for path in documented), prefix
    assert {rule["host"]} == set(the("Ingress")["spec"]["tls"][0]["hosts"])
    assert literals()["KEYTURN_ISSUER"] == f"https://{rule['host']}"
