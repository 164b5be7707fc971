"""The alerts, the runbook and the dashboard use only metrics that GET /metrics exports."""

import contextlib
import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import npm
from tests.harness.clients import Opener
from tests.harness.gateways import running
from tests.harness.people import MovableClock, real_clock, sign_up
from tests.harness.ports import free_port
from tests.harness.servers import REPOSITORY, find_program, keyturn, missing, wait_until

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
RUNBOOK = (REPOSITORY / "docs" / "guides" / "runbook.md").read_text("utf-8")
RULES = yaml.safe_load((PROMETHEUS / "keyturn.rules.yml").read_text("utf-8"))
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule
}
DASHBOARD = json.loads((REPOSITORY / "deploy" / "grafana" / "keyturn.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OURS = re.compile(r"\b(keyturn_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
PROMETHEUS_OWN = {"job", "instance"}


def promtool(*arguments: str) -> str:
    """Run promtool (Debian's package `prometheus`) and return its output."""
    if shutil.which("promtool") is None:
        missing("promtool")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression for Prometheus with its source, with Grafana's variables filled in."""
    for name, rule in ALERTS.items():
        yield name, rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], filled_in(target["expr"])
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["target"]["expr"]


def filled_in(expression: str) -> str:
    for variable, value in (("$__rate_interval", "1m"), ("$job", "keyturn"), ("$instance", ".*")):
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    """Every rule does what its test says."""
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    promtool("test", "rules", str(PROMETHEUS / "keyturn.tests.yml"))


def test_every_alert_has_a_test_that_fires_and_one_that_does_not() -> None:
    """A rule that never fires or always fires is worse than no rule."""
    spoke: set[str] = set()
    silent: set[str] = set()
    for story in yaml.safe_load((PROMETHEUS / "keyturn.tests.yml").read_text("utf-8"))["tests"]:
        for case in story["alert_rule_test"]:
            (spoke if case["exp_alerts"] else silent).add(case["alertname"])
    assert set(ALERTS) == spoke == silent


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_its_section_in_the_runbook(name: str) -> None:
    """The alert links to the section, which says what it means, what users notice, what to check and what to do."""
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
    place, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert (True, name.lower()) == (place.endswith("/docs/guides/runbook.md"), anchor)
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    for part in ("**Means.**", "**Users", "**Check**"):
        assert part in section, part
    assert re.search(r"\*\*Do\.\*\*|and \*\*do\*\*", section)
    assert f"({rule['labels']['severity']})" in section


def test_every_section_of_the_runbook_is_an_alerts() -> None:
    """The sections are in the order of the rules."""
    assert list(ALERTS) == re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE)


@pytest.mark.parametrize("page", ["docs/guides/runbook.md", "docs/guides/monitor.md", "deploy/README.md"])
def test_links_have_targets(page: str) -> None:
    """The file exists, and so does the heading in it."""
    here = REPOSITORY / page
    links = re.findall(r"\]\(([^)\s]+)\)", here.read_text("utf-8"))
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        there = here.parent / path if path else here
        assert there.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, link


async def test_rules_and_dashboard_use_existing_metrics(
    embedded: dict[str, Any], open_client: Opener, clock: MovableClock
) -> None:
    """Every metric is exported and has every label and every outcome that an expression selects."""
    async with open_client({**embedded, "limit_login": "1/15m"}) as client:
        alice = await sign_up(client, clock)
        await alice.confirm()
        await alice.log_in(alice.code(6))
        for _ in range(3):
            await alice.give_password("wrong")
        exported = (await client.get("/metrics")).text
    names: dict[str, str] = {}
    values: dict[tuple[str, str], set[str]] = {}
    for family in text_string_to_metric_families(exported):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        for suffix in suffixes:
            names[family.name + suffix] = family.name
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault((family.name, label), set()).add(value)
    routes = set(json.loads((REPOSITORY / "openapi.json").read_text("utf-8"))["paths"])
    for asker, expression in expressions():
        for name, matchers in OURS.findall(expression):
            assert name in names, (asker, name)
            for label, _, value in MATCHER.findall(matchers):
                if label in PROMETHEUS_OWN:
                    continue
                assert (names[name], label) in values, (asker, name, label)
                if label in {"outcome", "store"} or (label == "event" and "[" not in value):  # no expression
                    assert set(value.split("|")) <= values[names[name], label], (asker, value)
                if label == "route":
                    assert set(value.split("|")) <= routes, (asker, value)


def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    """Each expression of each panel is checked as Prometheus would get it."""
    rules = [{"record": f"panel:{n}", "expr": expression} for n, (_, expression) in enumerate(expressions())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", str(file))


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[tuple[str, httpx2.Client]]:
    """Yield a Keyturn's URL, and a client of a Prometheus that scrapes it every second with our rules."""
    (folder / "keyturn.rules.yml").write_text((PROMETHEUS / "keyturn.rules.yml").read_text("utf-8"))
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (job,) = configuration["scrape_configs"]
    address = f"127.0.0.1:{free_port()}"
    arguments = [find_program("prometheus"), f"--config.file={folder / 'prometheus.yml'}"]
    arguments += [f"--storage.tsdb.path={folder / 'figures'}", f"--web.listen-address={address}"]
    with keyturn({"KEYTURN_DATA_DIR": str(folder / "data")}) as served:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [served.url.removeprefix("http://")]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        api = httpx2.Client(base_url=f"http://{address}/api/v1", timeout=10)
        with running(arguments, f"http://{address}/-/ready"), api as client:
            yield served.url, client


async def test_prometheus_evaluates_every_expression_of_a_real_service(tmp_path: Path) -> None:
    """It finds Keyturn, evaluates every rule, and returns a result (perhaps empty) for every panel."""
    with watched(tmp_path) as (url, prometheus):
        async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
            alice = await sign_up(client, real_clock)
            await alice.confirm_early()
            await alice.log_in(alice.wrong_code())

        def has_looked() -> None:
            (refused,) = prometheus.get(
                "/query", params={"query": 'count_over_time(keyturn_codes_total{outcome="no_match"}[1m] offset 1s)'}
            ).json()["data"]["result"]
            assert "keyturn" == refused["metric"]["job"]
            groups = prometheus.get("/rules").json()["data"]["groups"]
            assert ["ok"] * len(ALERTS) == [rule["health"] for group in groups for rule in group["rules"]]

        wait_until(has_looked)
        alerts = prometheus.get("/alerts").json()["data"]["alerts"]  # at first every target counts as down
        assert not [alert for alert in alerts if alert["state"] == "firing"]
        for asker, expression in expressions():
            answer = prometheus.get("/query", params={"query": expression}).json()
            assert "success" == answer["status"], (asker, answer)


def test_the_dashboard_is_complete() -> None:
    """Panels have different titles, do not overlap, and have a description, a unit and the chosen data source."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert (len(ids), len(titles)) == (len(set(ids)), len(set(titles)))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    for panel in PANELS:
        assert source == panel["datasource"], panel["title"]
        assert {"unit"} <= set(panel["fieldConfig"]["defaults"])
        assert panel["description"].endswith(".")
        assert [source] * len(panel["targets"]) == [target["datasource"] for target in panel["targets"]]
        assert 'job="$job"' in panel["targets"][0]["expr"]
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert {"datasource", "job", "instance"} == variables


def test_every_field_of_the_dashboard_exists_in_grafana(tmp_path: Path) -> None:
    """The types of Grafana's own package check the model and the options of each kind of panel."""
    npm.install(tmp_path, "@grafana/schema@13", "typescript@7")
    kinds = {"stat": "Stat", "timeseries": "TimeSeries"}
    lines = [
        textwrap.dedent("""
        import type { AnnotationQuery, Dashboard, DataQuery } from "@grafana/schema";
        import type { Options as Stat }
          from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
        import type { Options as TimeSeries, FieldConfig }
          from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

        // JSON has the words of an enumeration, not its names.
        type Plain<T> = T extends string ? `${T}` : T extends (infer U)[] ? Plain<U>[]
          : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
        type Asked = AnnotationQuery<DataQuery & { expr: string }> & { titleFormat: string };
        type Ours = Omit<Dashboard, "annotations"> & { annotations: { list: Asked[] } };
    """)
    ]
    lines.append(f"export const dashboard: Plain<Ours> = {json.dumps(DASHBOARD, indent=1)};")
    for panel in PANELS:
        kind, custom = kinds[panel["type"]], panel["fieldConfig"]["defaults"].get("custom", {})
        lines.append(f"export const options{panel['id']}: Plain<{kind}> = {json.dumps(panel['options'])};")
        lines.append(f"export const custom{panel['id']}: Plain<FieldConfig> = {json.dumps(custom)};")
    (tmp_path / "dashboard.ts").write_text("\n".join(lines))
    done = subprocess.run(
        ["npx", "--no-install", "tsc", "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext",
         "dashboard.ts"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout
