"""docs/observability.md and docs/alerts.yml name every metric, label and action that there is, and no other."""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from messaging import metrics

REPOSITORY: Final = Path(__file__).parents[2]
DOCUMENT: Final = (REPOSITORY / "docs" / "observability.md").read_text()
RULES: Final = yaml.safe_load((REPOSITORY / "docs" / "alerts.yml").read_text())
PACKAGES: Final = ("contracts", "sealing", "messaging", "gateway", "workers", "trivault")
LEVELS: Final = {"exception": "error", "log": "any"}  # by method of the logger, where it has another name

OURS: Final = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]


def table(head: str) -> list[list[str]]:
    """The rows of the table that begins with `head`."""
    _, _, rest = DOCUMENT.partition(f"| {head} |")
    rows = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


def logged() -> Iterator[tuple[str, str]]:
    """Action and level of every log line in the code."""
    for package in PACKAGES:
        for file in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method), keywords=keywords):
                        (action,) = [each.value for each in keywords if each.arg == "action"]
                        assert isinstance(action, ast.Constant), f"{file}:{node.lineno}"
                        yield str(action.value), LEVELS.get(method, method)


def test_every_metric_is_documented() -> None:
    """Name, type and labels; and nothing is documented that is not there."""
    there = set()
    for metric in OURS:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        there.add((name, family.type, ", ".join(metric._labelnames)))
    assert len(there) == len(OURS) > 10
    assert {(name, kind, labels) for name, kind, labels, _ in table("metric | type | labels | says")} == there


def test_every_metric_is_registered_and_has_our_prefix() -> None:
    """What the module has is what is exposed."""
    exposed = {family.name for family in REGISTRY.collect() if family.name.startswith("trivault_")}
    assert exposed == {family.name for metric in OURS for family in metric.describe()}


def test_every_action_is_documented() -> None:
    """With its level; and none is documented that is not logged."""
    levels = defaultdict(set)
    for action, level in logged():
        levels[action].add(level)
    documented = {
        action: set(level.split(", ")) for action, level, _ in table("action | level | who, and what happened")
    }
    assert len(levels) > 20
    assert documented.keys() == levels.keys()
    for action, known in levels.items():
        assert known == {"any"} or known == documented[action], action


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    return [rule for group in RULES["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", rules(), ids=[rule["alert"] for rule in rules()])
def test_an_alert_names_what_there_is(rule: dict[str, Any]) -> None:
    """Metrics, labels, and the actions that they select; and it says what it means."""
    labels: dict[str, set[str]] = {}
    for metric in OURS:
        (family,) = metric.describe()
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_count", "_sum", "_bucket")}[family.type]
        labels |= {family.name + suffix: {"le", *metric._labelnames} for suffix in suffixes}
    labels["up"] = {"job"}
    used = re.findall(r"\b(trivault_\w+|up\b)(?:\{([^}]*)\})?", rule["expr"])
    assert used
    actions = {action for action, _ in logged()}
    for name, selectors in used:
        assert name in labels, name
        for label, value in re.findall(r'(\w+)!?=~?"([^"]*)"', selectors):
            assert label in labels[name], (name, label)
            assert label != "action" or value in actions, value
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_the_scrape_configuration_is_yaml() -> None:
    """As much as can be said without Prometheus; the file that it names is the local stack's."""
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    told = yaml.safe_load(block)
    assert told["scrape_configs"][0]["file_sd_configs"] == [{"files": [".trivault/etc/prometheus-targets.json"]}]
    assert (REPOSITORY / told["rule_files"][0]).is_file()


def test_the_commands_follow_a_job(tmp_path: Path) -> None:
    """The first finds its lines in the order of time; the second those of its requests in the stores."""
    job, rpc, other = str(uuid4()), uuid4().hex, uuid4().hex
    logs = tmp_path / ".trivault" / "logs"
    logs.mkdir(parents=True)
    gateway = f'{{"timestamp": "2", "action": "job.ended", "job_id": "{job}"}}'
    cryptor = f'{{"timestamp": "1", "action": "store.answered", "rpc": "{rpc}", "job_id": "{job}"}}'
    keystore = f'{{"timestamp": "0", "action": "rpc.answered", "rpc": "{rpc}"}}'
    (logs / "gateway.log").write_text(f"{gateway}\n")
    (logs / "cryptor.log").write_text(f'{cryptor}\n{{"rpc": "{other}", "job_id": "{uuid4()}"}}\n')
    (logs / "keystore.log").write_text(f'{keystore}\n{{"timestamp": "0", "rpc": "{other}"}}\n')
    commands = re.findall(r"```console\n\$ (.*?)```", DOCUMENT, re.DOTALL)
    said = [
        subprocess.run(  # noqa: S603 - our own document
            ["/bin/sh", "-c", command], cwd=tmp_path, env={"JOB": job}, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for command in commands
    ]
    assert said == [[cryptor, gateway], [keystore]]
