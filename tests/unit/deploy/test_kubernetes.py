"""The manifests are valid, agree with the settings and with each other, and let nobody do more than they must."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dataaggregator.installed import installed_services
from dataaggregator.settings import Settings, is_secret, variable
from deploy.docker import make_secrets

from . import kustomize

ROOT = Path(__file__).parents[3]
FOLDERS = {name: ROOT / "deploy/kubernetes" / name for name in ("base", "overlays/dev")}
RENDERED = {name: kustomize.render(folder) for name, folder in FOLDERS.items()}
BASE, DEV = RENDERED["base"], RENDERED["overlays/dev"]
SERVICES = sorted(service.name for service in installed_services())
Json = dict[str, Any]


def of_kind(kind: str, objects: list[Json] = BASE) -> dict[str, Json]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def pods(objects: list[Json]) -> dict[str, Json]:
    """The pod templates of everything that makes pods."""
    makers = [of_kind(kind, objects) for kind in ("Deployment", "Job", "StatefulSet")]
    return {name: maker["spec"]["template"] for found in makers for name, maker in found.items()}


OURS = pods(BASE)


def container(pod: Json) -> Json:
    [only] = pod["spec"]["containers"]
    found: Json = only
    return found


def environment(pod: Json) -> dict[str, str]:
    told: dict[str, str] = dict(of_kind("ConfigMap")["dataaggregator-settings"]["data"])
    return told | {each["name"]: each["value"] for each in container(pod).get("env", [])}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_object_is_valid_to_the_letter(name: str) -> None:
    for found in RENDERED[name]:
        kubernetes_validate.validate(found, "1.33", strict=True)


def test_the_guides_patch_has_the_gateway_answer_over_tls() -> None:
    guide = (ROOT / "docs/deployment-guide.md").read_text().partition("### TLS in the cluster")[2]
    patch = yaml.safe_load(guide.partition("```yaml\n")[2].partition("```")[0])
    patched = kustomize.merged(of_kind("Deployment")[patch["metadata"]["name"]], patch)
    kubernetes_validate.validate(patched, "1.33", strict=True)
    pod = patched["spec"]["template"]
    only = container(pod)
    before = container(OURS["gateway"])
    settings = Settings.load({one["name"]: one["value"] for one in only["env"]})
    [mount] = [one for one in only["volumeMounts"] if one["name"] == "tls"]
    assert settings.tls_certificate == Path(mount["mountPath"]) / "tls.crt"
    assert settings.tls_key == Path(mount["mountPath"]) / "tls.key"
    assert pod["spec"]["volumes"][-1]["secret"]["defaultMode"] == 0o440
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert only[probe] == {**before[probe], "httpGet": {**before[probe]["httpGet"], "scheme": "HTTPS"}}
    assert pod["metadata"]["annotations"]["prometheus.io/scheme"] == "https"


@pytest.mark.parametrize("name", FOLDERS)
def test_the_rendering_is_kubectls(name: str) -> None:
    """`make check` does without kubectl where there is none; here they are held against each other."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not on this machine")
    done = subprocess.run([program, "kustomize", str(FOLDERS[name])], capture_output=True, text=True, check=True)
    theirs = [found for found in yaml.safe_load_all(done.stdout) if found]
    assert sorted(map(sorted_text, RENDERED[name])) == sorted(map(sorted_text, theirs))


def sorted_text(value: object) -> str:
    """The same text whatever the order of keys, and of the members of lists."""
    if isinstance(value, dict):
        return json.dumps({key: sorted_text(each) for key, each in sorted(value.items())})
    if isinstance(value, list):
        return json.dumps(sorted(sorted_text(each) for each in value))
    return json.dumps(value)


def test_every_service_is_there_with_all_it_needs() -> None:
    assert set(of_kind("Deployment")) == set(SERVICES)
    assert set(of_kind("Job")) == {"migrate"}
    for kind in ("Service", "PodDisruptionBudget"):
        assert set(of_kind(kind)) == set(SERVICES)
    for name in SERVICES:
        labels = OURS[name]["metadata"]["labels"]
        assert of_kind("Deployment")[name]["spec"]["selector"]["matchLabels"] == labels
        assert of_kind("Service")[name]["spec"]["selector"] == labels
        assert of_kind("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"] == labels
        [spread] = OURS[name]["spec"]["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"] == labels


def test_the_migration_does_both_steps() -> None:
    command = " ".join(container(OURS["migrate"])["command"])
    assert "dataaggregator db upgrade && dataaggregator bus declare" in command


@pytest.mark.parametrize("name", OURS)
def test_everything_a_service_is_told_is_a_setting(name: str) -> None:
    told = environment(OURS[name])
    known = {variable(field) for field in Settings.model_fields}
    files = {f"{variable(field)}_FILE" for field in Settings.model_fields if is_secret(field)}
    assert set(told) <= known | files
    assert not {variable(field) for field in Settings.model_fields if is_secret(field)} & set(told)
    Settings.load({key: value for key, value in told.items() if not key.endswith("_FILE")})


def test_no_secret_is_among_the_manifests() -> None:
    assert not of_kind("Secret", DEV)
    for name, pod in pods(DEV).items():
        for each in container(pod).get("env", []):
            assert "PASSWORD" not in each["name"] or each["name"].endswith("_FILE"), name


@pytest.mark.parametrize("name", [*OURS, "postgres", "rabbitmq", "redis"])
def test_every_secret_a_pod_reads_is_made_and_mounted(name: str) -> None:
    made: dict[str, set[str]] = {}
    for found in json.loads(make_secrets.manifests())["items"]:
        kubernetes_validate.validate(found, "1.33", strict=True)
        made[found["metadata"]["name"]] = set(found["stringData"])
    pod = pods(DEV)[name]
    secrets = {each["name"]: each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each}
    assert secrets
    mounted = {each["mountPath"]: secrets.get(each["name"]) for each in container(pod)["volumeMounts"]}
    readable = {f"{path}/{file}" for path, secret in mounted.items() if secret for file in made[secret]}
    own = {each["name"]: each["value"] for each in container(pod).get("env", [])}
    told = environment(pod) if name in OURS else own
    assert {value for key, value in told.items() if key.endswith("_FILE")} <= readable


def test_ports_are_those_of_the_settings() -> None:
    default = Settings()
    told = of_kind("ConfigMap")["dataaggregator-settings"]["data"]
    for name in SERVICES:
        port = getattr(default, f"{name}_port")
        assert container(OURS[name])["ports"] == [{"name": "http", "containerPort": port}]
        assert of_kind("Service")[name]["spec"]["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]
        assert OURS[name]["metadata"]["annotations"]["prometheus.io/port"] == str(port)
        assert told[f"{name.upper()}_URL"] == f"http://{name}:{port}"


def test_no_variable_of_the_clusters_own_takes_a_settings_name() -> None:
    """A Service named gateway would set GATEWAY_PORT=tcp://… in every pod."""
    assert all(pod["spec"]["enableServiceLinks"] is False for pod in pods(DEV).values())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_asked_for_its_health_and_let_finish(name: str) -> None:
    one = container(OURS[name])
    asked = {kind: one[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {
        "startup": {"path": "/health/live", "port": "http"},
        "liveness": {"path": "/health/live", "port": "http"},
        "readiness": {"path": "/health/ready", "port": "http"},
    }
    assert OURS[name]["spec"]["terminationGracePeriodSeconds"] > Settings().stop_seconds + 10


@pytest.mark.parametrize("name", pods(DEV))
def test_a_pod_can_do_little(name: str) -> None:
    """What the namespace's policy `restricted` asks for, and a read-only root and no token besides."""
    pod = pods(DEV)[name]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    [one] = pod["containers"]
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(one["resources"]) == {"requests", "limits"}
    assert of_kind("Namespace", DEV)["dataaggregator-dev"]["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }


def test_images_are_pinned() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in SERVICES:
        assert container(OURS[name])["image"] == f"dataaggregator-{name}:{version}"
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("postgres", "rabbitmq", "redis"):
        assert container(pods(DEV)[name])["image"] == compose[name]["image"]


def test_the_runs_of_an_executor_fit_into_its_memory() -> None:
    told = environment(OURS["executor"])
    assert container(OURS["executor"])["resources"]["limits"]["memory"] == "5Gi"
    run = int(told["RUN_MEMORY_BYTES"]) + int(told["SANDBOX_MEMORY_BYTES"])
    assert int(told["RUN_SLOTS"]) * run + 512 * 1024**2 <= 5 * 1024**3


def test_executors_share_run_folders_and_keep_spill_to_themselves() -> None:
    volumes = {each["name"]: each for each in OURS["executor"]["spec"]["volumes"]}
    mounted = {each["mountPath"]: volumes[each["name"]] for each in container(OURS["executor"])["volumeMounts"]}
    claim = mounted["/var/lib/dataaggregator"]["persistentVolumeClaim"]["claimName"]
    assert of_kind("PersistentVolumeClaim")[claim]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "emptyDir" in mounted["/var/lib/dataaggregator/spill"]
    assert "replicas" not in of_kind("Deployment")["executor"]["spec"]


# Who may call whom, from ARCHITECTURE: the gateway everybody; executor and connectors each other; scheduler the
# executor; everybody auth, for the keys.
CALLS = {(caller, "auth") for caller in OURS} | {("gateway", called) for called in SERVICES if called != "gateway"}
CALLS |= {("executor", "connectors"), ("connectors", "executor"), ("scheduler", "executor")}
CALLS |= {("scheduler", "connectors"), ("connectors", "scheduler")}


def policies(name: str) -> list[Json]:
    labels = OURS[name]["metadata"]["labels"].items()
    found = of_kind("NetworkPolicy").values()
    return [each["spec"] for each in found if each["spec"]["podSelector"]["matchLabels"].items() <= labels]


def allows(rules: list[Json], side: str, other: str, port: int) -> bool:
    """Whether a rule names pods with the labels of ``other`` and the port."""
    labels = OURS[other]["metadata"]["labels"].items()
    return any(
        any(labels >= peer["podSelector"]["matchLabels"].items() for peer in rule.get(side, []) if len(peer) == 1)
        and any(each["port"] == port for each in rule.get("ports", []))
        for rule in rules
        if all("podSelector" in peer for peer in rule.get(side, []))
    )


def test_services_call_whom_they_must_and_nobody_else() -> None:
    allowed = set()
    for caller in OURS:
        out = [rule for policy in policies(caller) for rule in policy.get("egress", [])]
        for called in SERVICES:
            port = container(OURS[called])["ports"][0]["containerPort"]
            into = [rule for policy in policies(called) for rule in policy.get("ingress", [])]
            if allows(out, "to", called, port) and allows(into, "from", caller, port):
                allowed.add((caller, called))
    assert allowed == CALLS


# What stays closed of all that lies outside: to webhooks all private networks, to connectors a cloud's credentials.
INSIDE = {
    "0.0.0.0/0": {"10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"},
    "2000::/3": set(),
}
METADATA = {"0.0.0.0/0": {"169.254.0.0/16"}, "::/0": {"fe80::/10", "fd00:ec2::254/128"}}


def test_only_executors_and_the_gateways_webhooks_reach_outside() -> None:
    outside = {}
    for name in OURS:
        rules = [rule for policy in policies(name) for rule in policy.get("egress", [])]
        assert all(rule.get("to") for rule in rules), f"{name}: a rule without `to` lets everything out"
        blocks = [(peer["ipBlock"], rule.get("ports")) for rule in rules for peer in rule["to"] if "ipBlock" in peer]
        if blocks:
            outside[name] = blocks
    assert set(outside) == {"gateway", "executor"}
    assert all({each["port"] for each in ports} == {80, 443} for _, ports in outside["gateway"])
    for name, closed in (("gateway", INSIDE), ("executor", METADATA)):
        assert {block["cidr"]: set(block.get("except", ())) for block, _ in outside[name]} == closed, name
    for name in OURS:
        assert any(set(each["policyTypes"]) == {"Ingress", "Egress"} for each in policies(name))


def test_skaffold_builds_every_image_and_applies_the_overlay() -> None:
    skaffold = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
    used = {re.sub(":.*", "", container(pod)["image"]) for pod in OURS.values()}
    built = {each["image"]: each["docker"] for each in skaffold["build"]["artifacts"]}
    assert set(built) == used == {f"dataaggregator-{name}" for name in SERVICES}
    for image, how in built.items():
        assert how == {
            "dockerfile": "deploy/docker/Dockerfile",
            "buildArgs": {"SERVICE": image.removeprefix("dataaggregator-")},
        }
    assert [ROOT / path for path in skaffold["manifests"]["kustomize"]["paths"]] == [FOLDERS["overlays/dev"]]
    [forward] = skaffold["portForward"]
    assert forward["resourceName"] == "gateway"
    assert forward["port"] == Settings().gateway_port
