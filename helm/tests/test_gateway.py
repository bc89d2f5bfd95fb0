"""What the gateway makes of the chart: its configuration, its metrics, what it prints for the notes."""

import json
import os
import re
import socket
import subprocess
import tempfile
import tomllib
import unittest
import urllib.request
from pathlib import Path

import yaml

import gateway
from support import CHART, NEWEST, SCENARIOS, gateway_binary, gateway_pod, helm, of_kind, rendered, template, toml_of

# What Prometheus adds to every series.
TARGET = {"namespace", "job", "pod", "instance", "le"}
METRIC = re.compile(r"\b((?:bucketferry|process)_\w+)(\{[^}]*\})?")


class Configuration(unittest.TestCase):
    """Every rendered TOML is one that the gateway takes."""

    def test_the_gateway_takes_every_rendered_configuration(self) -> None:
        for scenario in SCENARIOS:
            with self.subTest(scenario.name):
                result = gateway.check(rendered(scenario))
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_the_memory_is_what_the_gateway_counts_up(self) -> None:
        for scenario in SCENARIOS:
            for changed in ("limits.max_sessions=7", "upload.memory=1 GB", "download.memory=5000001", "limits.listing_memory=9 MiB",
                            "limits.hashing_memory=99 MiB", "limits.socket_memory=77MB", "admin.max_user_series=9"):  # fmt: skip
                with self.subTest(f"{scenario.name} with {changed}"):
                    self.assert_memory(scenario, f"config.{changed}")

    def assert_memory(self, scenario: Path, changed: str) -> None:
        by_the_chart = ["--set", "resources.limits.memory=null", "--set", "resources.requests.memory=null"]
        result = template(scenario.read_text(), NEWEST, *by_the_chart, "--set-string" if " " in changed else "--set", changed)
        self.assertEqual(result.returncode, 0, result.stderr)
        manifests = [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]
        resources = gateway_pod(manifests)["spec"]["containers"][0]["resources"]
        found = json.loads(gateway.check(manifests, "--format", "json").stdout)
        self.assertEqual(resources["limits"]["memory"], f"{found['memory_bytes'] >> 20}Mi")
        self.assertEqual(resources["requests"]["memory"], f"{found['least_memory_bytes'] >> 20}Mi")

    def test_it_listens_on_both_families_in_every_scenario(self) -> None:
        told = {json.dumps(listeners(tomllib.loads(toml_of(rendered(scenario))))): scenario.name for scenario in SCENARIOS}
        for listens, scenario in told.items():
            with self.subTest(scenario), gateway.listening(json.loads(listens)) as ports:
                for host in ("127.0.0.1", "[::1]") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
                    with urllib.request.urlopen(f"http://{host}:{ports['admin']}/livez", timeout=5) as answer:
                        self.assertEqual(answer.status, 200)
                    for kind in ports.keys() - {"admin"}:
                        socket.create_connection((host.strip("[]"), ports[kind]), timeout=5).close()

    def test_odd_values_arrive_as_they_are(self) -> None:
        values = {"config": {"ftp": {"greeting": 'a "b" \\ c', "allow": ["10.0.0.0/8", "2001:db8::/32"]},
                             "limits": {"max_sessions": 1000000}, "upload": {"check_allo": True, "max_size": 5000000},
                             "store": {"url": "s3://x/y", "options": {"aws_endpoint": "http://h:1", "odd key": {"file": "/etc/hostname"}}}}}  # fmt: skip
        toml = next(m for m in yaml.safe_load_all(template(json.dumps(values)).stdout) if m and m["kind"] == "ConfigMap")
        read = tomllib.loads(toml["data"]["bucketferry.toml"])
        for section, settings in values["config"].items():
            self.assertLessEqual(settings.items(), read[section].items())


class Monitoring(unittest.TestCase):
    """Alerts and panels name what is there."""

    @classmethod
    def setUpClass(cls) -> None:
        with gateway.serving() as (metrics, _):
            cls.series = series(metrics)

    def test_every_metric_and_label_exists_in_a_running_gateway(self) -> None:
        for place, expression in expressions():
            for name, labels in METRIC.findall(without_texts(expression)):
                with self.subTest(place, metric=name):
                    self.assertIn(name, self.series)
                    wanted = set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", labels)) - TARGET
                    self.assertLessEqual(wanted, self.series[name])

    def test_the_dashboard_is_as_grafana_wants_it(self) -> None:
        dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
        panels = dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(cells & taken, f"{panel['title']} lies on another panel")
            self.assertLessEqual(place["x"] + place["w"], 24)
            taken |= cells
            if panel["type"] == "row":
                continue
            self.assertTrue(panel["description"] and panel["title"])
            self.assertEqual(panel["datasource"], {"type": "prometheus", "uid": "${datasource}"})
            for target in panel["targets"]:
                self.assertTrue(target["legendFormat"] or panel["type"] == "stat", panel["title"])
                self.assertNotIn("%", target["expr"])
            unit = panel["fieldConfig"]["defaults"].get("unit") or panel["options"]["yAxis"]["unit"]
            self.assertIn(unit, {"short", "s", "bytes", "Bps", "cps", "reqps"})
            legends = [target["legendFormat"] for target in panel["targets"]]
            self.assertTrue(len(legends) == len(set(legends)), panel["title"])

    def test_every_panel_and_alert_is_promql(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            rules = [{"record": f"panel:{number}", "expr": plain(expression)} for number, (_, expression) in enumerate(expressions())]
            path = Path(folder, "rules.yaml")
            path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
            self.promtool("check", "rules", str(path))

    def test_alerts_fire_when_they_should_and_only_then(self) -> None:
        rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
        self.promtool("check", "rules", str(CHART / "files" / "alerts.yaml"))
        cases = yaml.safe_load(Path(__file__).with_name("alerts_test.yaml").read_text())
        self.assertEqual(fired(cases), {rule["alert"] for rule in alerts(rules)}, "each alert has a case that fires it")
        self.assertEqual(quiet(cases), {rule["alert"] for rule in alerts(rules)}, "and one that doesn't")
        self.hold(rules, cases)

    def test_alerts_of_a_release_are_about_its_own_pods(self) -> None:
        values = json.dumps({"skipApiChecks": True, "metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}})
        (made,) = (m["spec"] for m in yaml.safe_load_all(template(values).stdout) if m and m["kind"] == "PrometheusRule")
        for rule in alerts(made):
            with self.subTest(rule["alert"]):
                self.assertEqual({labels for _, labels in METRIC.findall(without_texts(rule["expr"])) if 'job="", namespace=""' not in labels}, set())
        cases = yaml.safe_load(Path(__file__).with_name("alerts_of_a_release_test.yaml").read_text())
        self.hold({"groups": made["groups"]}, cases)

    def hold(self, rules: dict, cases: dict) -> None:
        """These rules do what the cases say."""
        for rule in alerts(rules):
            # The texts are for people, and would have to be repeated in each case.
            del rule["annotations"]
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "alerts.yaml").write_text(yaml.safe_dump(rules))
            path = Path(folder, "alerts_test.yaml")
            path.write_text(yaml.safe_dump(cases))
            self.promtool("test", "rules", str(path))

    def test_every_alert_has_its_runbook(self) -> None:
        page = (CHART.parents[1] / "docs" / "operations.md").read_text()
        anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", page, re.M)}
        for rule in alerts(yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())):
            with self.subTest(rule["alert"]):
                path, _, anchor = rule["annotations"]["runbook"].partition("#")
                self.assertEqual((path, anchor), ("docs/operations.md", rule["alert"].lower()))
                self.assertIn(anchor, anchors)

    def promtool(self, *arguments: str) -> None:
        """It must be content."""
        result = subprocess.run(["promtool", *arguments], text=True, capture_output=True, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)


class Notes(unittest.TestCase):
    """What Helm says after an installation."""

    def test_they_tell_how_to_upload_in_every_scenario(self) -> None:
        for scenario in SCENARIOS:
            with self.subTest(scenario.name):
                result = helm("install", "ferry", str(CHART), "--dry-run=client", "--namespace", "ftp", "--values", str(scenario))
                self.assertEqual(result.returncode, 0, result.stderr)
                notes = result.stdout.partition("NOTES:")[2]
                self.assertRegex(notes, r'curl (--ssl-reqd .+ )?--user \S+ --upload-file FILE "ftp://(\$HOST|ftp.example.com)')
                self.assertEqual("tls:" in scenario.read_text(), "--ssl-reqd" in notes)
                self.assertNotRegex(notes, r"<no value>|%!|<nil>")

    def test_the_upload_with_tls_works_before_any_dns(self) -> None:
        for values in ("{}", "{tls: {certManager: {enabled: true, issuerRef: {name: x}, dnsNames: ['*.example.com', ftp.example.com]}}}"):
            made = "" if "certManager" in values else "tls.existingSecret=x,"
            notes = helm("install", "ferry", str(CHART), "--dry-run=client", "--values", "-", "--set", f"{made}users.existingSecret=x,skipApiChecks=true", stdin=values).stdout
            with self.subTest(values), tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                gateway.furnish(folder, "ftp.example.com")
                with gateway.running(folder) as log:
                    (host, port), _ = gateway.addresses(log)
                    line = re.search(r"^ *(curl .*--upload-file.*)$", notes, re.M)[1].replace("NAME:PASSWORD", f"ferry:{gateway.PASSWORD}")
                    line = line.replace("FILE", f"{folder}/tls.crt").replace('/"', f':{port}/"')
                    subprocess.run(["sh", "-c", line], env={**os.environ, "HOST": host, "CURL_CA_BUNDLE": f"{folder}/ca.crt"}, check=True, capture_output=True)

    def test_the_password_is_found_where_the_gateway_prints_it(self) -> None:
        notes = helm("install", "ferry", str(CHART), "--dry-run=client").stdout
        script = re.search(r"sed -n '([^']+)'", notes)[1]
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen([gateway_binary(), "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--store", "memory://"], stdout=log, stderr=log)
            try:
                for _ in gateway.eventually("the password"):
                    log.seek(0)
                    if (text := log.read()).count("ftp://") == 2:
                        break
            finally:
                process.terminate()
                process.wait(timeout=30)
        found = subprocess.run(["sed", "-n", script], input=text, text=True, capture_output=True, check=True).stdout.split()
        self.assertEqual(len(found), 2, found)
        self.assertRegex(found[0], r"^\w{20}$")


class HelmTest(unittest.TestCase):
    """What `helm test` runs in the cluster, here against a gateway on this machine."""

    def test_it_needs_no_more_than_it_says(self) -> None:
        for credentials in ({"FTP_USER": "ferry", "FTP_PASSWORD": gateway.PASSWORD}, {}):
            with self.subTest(credentials), tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                gateway.furnish(folder)
                with (folder / "users.toml").open("a") as users:
                    users.write('permissions = ["write", "read", "delete"]\n')
                config = folder / "bucketferry.toml"
                config.write_text(config.read_text().replace("max_sessions_per_ip = 1", "").replace('upload_rate = "1 KiB"', ""))
                with gateway.running(folder) as log:
                    (host, port), _ = gateway.addresses(log)
                    script = self.script().replace("ferry-bucketferry:21", f"{host}:{port}")
                    result = subprocess.run(["sh", "-ec", script], env={"PATH": os.environ["PATH"], **credentials}, text=True, capture_output=True, check=False)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    self.assertIn("uploaded, read back and deleted" if credentials else "the gateway greets", result.stdout)

    def script(self) -> str:
        """With TLS, of which it asks no certificate for the Service's name."""
        manifests = template("{tests: {credentialsSecret: x}, tls: {existingSecret: x}}").stdout
        (pod,) = of_kind(list(yaml.safe_load_all(manifests)), "Pod")
        return next(container["args"][0] for container in pod["spec"]["containers"] if container["name"] == "ftp")


def listeners(toml: dict) -> dict:
    """What a configuration says about where to listen."""
    return {"ftp": {key: value for key, value in toml["ftp"].items() if key.endswith("listen")}, "admin": toml["admin"]}


def series(text: str) -> dict[str, set[str]]:
    """The names of series with the names of their labels."""
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.M):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def expressions() -> list[tuple[str, str]]:
    """Every PromQL expression of the dashboard and the alerts, with where it stands."""
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    panels = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    marks = [(mark["name"], mark["expr"]) for mark in dashboard["annotations"]["list"]]
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    return [*panels, *marks, *((rule["alert"], rule["expr"]) for rule in alerts(rules))]


def alerts(rules: dict) -> list[dict]:
    """The rules of all groups."""
    return [rule for group in rules["groups"] for rule in group["rules"]]


def fired(cases: dict) -> set[str]:
    """The alerts that some case fires."""
    return {check["alertname"] for case in cases["tests"] for check in case["alert_rule_test"] if check["exp_alerts"]}


def quiet(cases: dict) -> set[str]:
    """The alerts that some case of their own keeps quiet all the time."""
    calm = [case["alert_rule_test"] for case in cases["tests"] if not any(check["exp_alerts"] for check in case["alert_rule_test"])]
    return {check["alertname"] for checks in calm for check in checks}


def without_texts(expression: str) -> str:
    """What stands in quotes is a label's value, not a metric."""
    return re.sub(r'"[^"]*"', '""', expression)


def plain(expression: str) -> str:
    """As Grafana would send it."""
    return expression.replace("$__rate_interval", "5m").replace("$namespace", ".*").replace("$job", ".*").replace("$pod", ".*")
