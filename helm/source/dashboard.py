"""The Grafana dashboard: six rows, from what clients feel to what the process needs.

Names of metrics are those of src/telemetry/metrics.rs; a test asks a running gateway for each of them.
"""

import json
from itertools import count
from typing import Any

ONE = 'namespace=~"$namespace", job=~"$job", pod=~"$pod"'
FAILED = 'outcome!~"complete|quit_before_reply"'
COLOURS = {"complete": "green", "quit_before_reply": "green", "accepted": "green"}


def render() -> str:
    """The dashboard as JSON."""
    return json.dumps(dashboard(), indent=2) + "\n"


def dashboard() -> dict:
    """All of it."""
    return {
        "uid": "bucketferry",
        "title": "Bucketferry",
        "description": "FTP gateways that put uploads into a bucket",
        "tags": ["bucketferry", "ftp"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "annotations": {"list": [deployments()]},
        "templating": {"list": variables()},
        "links": [],
        "panels": list(placed(rows())),
    }


def rows() -> list[tuple[str, list[dict]]]:
    """The rows with their panels."""
    return [
        ("Now", now()),
        ("Clients", clients()),
        ("Transfers", transfers()),
        ("Senders", senders()),
        ("The store", store()),
        ("Resources", resources()),
    ]


def now() -> list[dict]:
    """One line of numbers that tells whether to worry."""
    return [
        stat("Sessions", f"sum(bucketferry_sessions{{{ONE}}})", "short", "Connected clients, logged in or not."),
        stat("Transfers running", f"sum(bucketferry_transfers_in_flight{{{ONE}}})", "short", "Uploads, downloads and lists."),
        stat(
            "Uploads failed, 1 h",
            f'sum(increase(bucketferry_transfers_total{{{ONE}, direction="upload", {FAILED}}}[1h]))',
            "short",
            "Uploads that did not end with 226, for whichever reason.",
            steps=[("green", None), ("orange", 1), ("red", 20)],
        ),
        stat(
            "Store",
            f"min(bucketferry_store_up{{{ONE}}})",
            "short",
            "Whether all stores answer all gateways.",
            steps=[("red", None), ("green", 1)],
            words={"0": "no answer", "1": "answers"},
        ),
        stat(
            "Address",
            f"min(bucketferry_passive_address_known{{{ONE}}} + on (namespace, job, instance, pod, source) bucketferry_passive_address_current{{{ONE}}})",
            "short",
            "Whether the address is known that PASV tells clients. Stale: it was, and now there is none, or it can't be asked for.",
            steps=[("red", None), ("orange", 1), ("green", 2)],
            words={"0": "unknown", "1": "stale", "2": "known"},
        ),
        stat(
            "Endpoints",
            f"min(bucketferry_endpointslices_current{{{ONE}}})",
            "short",
            "Whether gateways that share a Service keep their EndpointSlices right; nothing where none is shared.",
            steps=[("red", None), ("green", 1)],
            words={"0": "stale", "1": "right"},
        ),
        stat(
            "Certificate",
            f"min((bucketferry_tls_certificate_expiry_timestamp_seconds{{{ONE}}} > 0) - time())",
            "s",
            "How long the TLS certificate is still valid; nothing without TLS.",
            steps=[("red", None), ("orange", 3 * 86400), ("green", 14 * 86400)],
        ),
    ]


def clients() -> list[dict]:
    """Sessions, logins, commands."""
    return [
        graph("Sessions", "short", "Clients at this moment, by pod.", [("sum by (pod) (bucketferry_sessions{%s})", "{{pod}}")]),
        graph(
            "Sessions begun and refused",
            "cps",
            "Refused by reason: a limit, the networks allowed, or a shutdown.",
            [
                ("sum(rate(bucketferry_sessions_total{%s}[$__rate_interval]))", "begun"),
                ("sum by (reason) (rate(bucketferry_sessions_refused_total{%s}[$__rate_interval]))", "refused: {{reason}}"),
            ],
        ),
        graph(
            "Logins",
            "cps",
            "Many wrong passwords or unknown users: somebody is guessing. Ended: sessions whose user may not log in any more.",
            [
                ("sum by (outcome) (rate(bucketferry_logins_total{%s}[$__rate_interval]))", "{{outcome}}"),
                ("sum by (reason) (rate(bucketferry_logins_lapsed_total{%s}[$__rate_interval]))", "ended: {{reason}}"),
            ],
            stacked=True,
        ),
        graph(
            "Replies that refuse",
            "cps",
            "Commands answered with 4xx or 5xx, by verb.",
            [('sum by (verb, class) (rate(bucketferry_commands_total{%s, class=~"4xx|5xx"}[$__rate_interval]))', "{{verb}} {{class}}")],
        ),
        graph(
            "TLS handshakes",
            "cps",
            "Refused: a data connection that did not resume its control connection's session.",
            [("sum by (connection, outcome) (rate(bucketferry_tls_handshakes_total{%s}[$__rate_interval]))", "{{connection}}: {{outcome}}")],
        ),
        graph(
            "Refused connections",
            "cps",
            "Data connections from strangers, transfers without a free port, or whose port was given to another user, PORT to somebody else, PROXY headers that are missing or not trusted.",
            [
                ("sum(rate(bucketferry_passive_ports_exhausted_total{%s}[$__rate_interval]))", "no free passive port"),
                ("sum(rate(bucketferry_passive_ports_taken_back_total{%s}[$__rate_interval]))", "passive port taken back"),
                ("sum(rate(bucketferry_data_connections_refused_total{%s}[$__rate_interval]))", "data connection from a stranger"),
                ("sum by (reason) (rate(bucketferry_active_targets_refused_total{%s}[$__rate_interval]))", "active target: {{reason}}"),
                ("sum by (reason) (rate(bucketferry_proxy_headers_refused_total{%s}[$__rate_interval]))", "PROXY header: {{reason}}"),
            ],
        ),
    ]


def transfers() -> list[dict]:
    """What arrives, what fails, and how fast."""
    quantiles = "histogram_quantile({q}, sum by (le, direction) (rate(bucketferry_transfer_duration_seconds_bucket{{%s}}[$__rate_interval])))"
    return [
        graph(
            "Throughput",
            "Bps",
            "Bytes of transfers that ended in the interval, complete or not.",
            [("sum by (direction) (rate(bucketferry_transferred_bytes_total{%s}[$__rate_interval]))", "{{direction}}")],
        ),
        graph(
            "Transfers running",
            "short",
            "At this moment, by direction.",
            [("sum by (direction) (bucketferry_transfers_in_flight{%s})", "{{direction}}")],
            stacked=True,
        ),
        graph(
            "Uploads by outcome",
            "cps",
            "What each outcome means: docs/operations.md, How transfers end.",
            [('sum by (outcome) (rate(bucketferry_transfers_total{%s, direction="upload"}[$__rate_interval]))', "{{outcome}}")],
            stacked=True,
        ),
        graph(
            "Downloads and lists by outcome",
            "cps",
            "What each outcome means: docs/operations.md, How transfers end.",
            [('sum by (direction, outcome) (rate(bucketferry_transfers_total{%s, direction!="upload"}[$__rate_interval]))', "{{direction}}: {{outcome}}")],
            stacked=True,
        ),
        graph(
            "Duration of complete transfers",
            "s",
            "Half of them are faster than the median, one in a hundred is slower than p99.",
            [(quantiles.format(q="0.5"), "{{direction}} median"), (quantiles.format(q="0.99"), "{{direction}} p99")],
        ),
        heatmap(
            "Sizes of uploads",
            "bytes",
            "How many complete uploads had which size.",
            'sum by (le) (increase(bucketferry_transfer_size_bytes_bucket{%s, direction="upload"}[$__rate_interval]))',
        ),
    ]


def senders() -> list[dict]:
    """Who uploads, and who should have."""
    return [
        graph(
            "Uploads by user",
            "short",
            "Complete ones in an hour: the ten users with the most.",
            [('topk(10, sum by (user) (increase(bucketferry_user_uploads_total{%s, outcome=~"complete|quit_before_reply"}[1h])))', "{{user}}")],
        ),
        graph(
            "Uploads that failed, by user",
            "short",
            "In an hour, for whichever reason: the ten users with the most.",
            [('topk(10, sum by (user) (increase(bucketferry_user_uploads_total{%s, outcome!~"complete|quit_before_reply"}[1h])) > 0)', "{{user}}")],
        ),
        graph(
            "Overdue senders",
            "s",
            "How long ago users with expect_every should have uploaded. 0 is in time.",
            [("topk(10, min by (user) (bucketferry_user_upload_overdue_seconds{%s}) > 0)", "{{user}}")],
        ),
        graph(
            "Since the last upload",
            "s",
            "The ten users who have been silent the longest, as far as the gateways know.",
            [("topk(10, time() - max by (user) (bucketferry_user_last_upload_timestamp_seconds{%s}))", "{{user}}")],
        ),
        graph(
            "Bytes by user",
            "Bps",
            "Bytes of uploads that ended in the interval: the ten users with the most.",
            [("topk(10, sum by (user) (rate(bucketferry_user_uploaded_bytes_total{%s}[$__rate_interval])))", "{{user}}")],
        ),
    ]


def store() -> list[dict]:
    """The bucket, as seen from the gateways."""
    quantile = "histogram_quantile({q}, sum by (le, store, operation) (rate(bucketferry_store_request_duration_seconds_bucket{{%s}}[$__rate_interval])))"
    return [
        graph("Latency, median", "s", "Durations of requests, with all their tries.", [(quantile.format(q="0.5"), "{{store}}: {{operation}}")]),
        graph("Latency, p99", "s", "One in a hundred requests is slower.", [(quantile.format(q="0.99"), "{{store}}: {{operation}}")]),
        graph(
            "Requests",
            "reqps",
            "Each once, with all its tries.",
            [("sum by (store, operation) (rate(bucketferry_store_requests_total{%s}[$__rate_interval]))", "{{store}}: {{operation}}")],
            stacked=True,
        ),
        graph(
            "Requests that failed",
            "reqps",
            "Without not_found, which is everyday.",
            [('sum by (store, operation, outcome) (rate(bucketferry_store_requests_total{%s, outcome!~"ok|not_found"}[$__rate_interval]))', "{{store}}: {{operation}}: {{outcome}}")],
        ),
    ]


def resources() -> list[dict]:
    """What runs short first."""
    return [
        graph(
            "Memory of uploads",
            "bytes",
            "Above five eighths, clients may wait.",
            [
                ('sum by (pod) (bucketferry_memory_bytes{use="uploads", %s})', "{{pod}} used"),
                ('max(bucketferry_memory_limit_bytes{use="uploads", %s})', "allowed"),
                ("sum by (pod) (bucketferry_upload_spilled_bytes{%s})", "{{pod}} on disk"),
            ],
        ),
        graph(
            "Memory by use",
            "bytes",
            "What is in use, or set apart for what is. `bucketferry_memory_limit_bytes` has the limits, `bucketferry check` their sum.",
            [("max by (use) (bucketferry_memory_bytes{%s})", "{{use}}")],
        ),
        graph(
            "Passive ports",
            "short",
            "Ports that wait for their client. When none is free, clients get 425.",
            [
                ("sum by (pod) (bucketferry_passive_ports_in_use{%s})", "{{pod}} in use"),
                ("max(bucketferry_passive_ports{%s})", "in all"),
            ],
        ),
        graph(
            "Held back",
            "short",
            "Transfers that wait because of a rate limit, on average; and transfers a second for which no files were left to open.",
            [
                ("sum by (direction) (rate(bucketferry_throttled_seconds_total{%s}[$__rate_interval]))", "{{direction}} slowed down"),
                ("sum(rate(bucketferry_transfers_refused_total{%s}[$__rate_interval]))", "no files left"),
            ],
        ),
        graph(
            "Memory of the process",
            "bytes",
            "Resident memory.",
            [("sum by (pod) (process_resident_memory_bytes{%s} and on (namespace, job, instance, pod) bucketferry_build_info)", "{{pod}}")],
        ),
        graph(
            "Processor",
            "short",
            "Cores in use.",
            [("sum by (pod) (rate(process_cpu_seconds_total{%s}[$__rate_interval]) and on (namespace, job, instance, pod) bucketferry_build_info)", "{{pod}}")],
        ),
        graph(
            "Open files",
            "short",
            "At four fifths of the limit, there are no new sessions.",
            [
                ("sum by (pod) (process_open_fds{%s} and on (namespace, job, instance, pod) bucketferry_build_info)", "{{pod}} open"),
                ("max(process_max_fds{%s} and on (namespace, job, instance, pod) bucketferry_build_info)", "limit"),
            ],
        ),
        graph(
            "Tasks that panicked",
            "short",
            "Long-lived tasks that began again after a panic: a defect of Bucketferry.",
            [("sum by (pod, task) (increase(bucketferry_task_restarts_total{%s}[$__rate_interval]))", "{{pod}} {{task}}")],
        ),
        graph(
            "Users file",
            "short",
            "Users in force, and changes of the file that could not be read.",
            [
                ("max by (pod) (bucketferry_users{%s})", "{{pod}} users"),
                ('sum by (outcome) (increase(bucketferry_users_reloads_total{%s}[$__rate_interval]))', "{{outcome}}"),
            ],
        ),
    ]


def placed(rows: list[tuple[str, list[dict]]]) -> Any:
    """Panels with numbers and places: numbers in one line, graphs two or three beside each other."""
    numbers, top = count(1), 0
    for title, panels in rows:
        yield {"id": next(numbers), "type": "row", "title": title, "collapsed": False, "panels": [],
               "gridPos": {"h": 1, "w": 24, "x": 0, "y": top}}
        top += 1
        stats = panels[0]["type"] == "stat"
        across, height = (6, 4) if stats else (2, 8)
        for place, panel in enumerate(panels):
            line, column = divmod(place, across)
            width = 24 // across
            yield {"id": next(numbers), **panel,
                   "gridPos": {"h": height, "w": width, "x": column * width, "y": top + line * height}}
        top += -(-len(panels) // across) * height


def variables() -> list[dict]:
    """Where to ask, and of which gateways."""
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0,
         "current": {}, "options": [], "refresh": 1, "regex": "", "multi": False, "includeAll": False},
        variable("namespace", "Namespace", "label_values(bucketferry_build_info, namespace)"),
        variable("job", "Job", 'label_values(bucketferry_build_info{namespace=~"$namespace"}, job)'),
        variable("pod", "Pod", 'label_values(bucketferry_build_info{namespace=~"$namespace", job=~"$job"}, pod)'),
    ]


def variable(name: str, label: str, query: str) -> dict:
    """One that is filled from Prometheus; "All" also takes series without the label."""
    return {
        "name": name, "label": label, "type": "query", "datasource": source(), "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
        "allValue": ".*", "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [], "regex": "", "hide": 0, "skipUrlSync": False,
    }


def deployments() -> dict:
    """A line where another version began."""
    return {
        "name": "New version", "enable": True, "hide": False, "iconColor": "blue", "datasource": source(),
        "expr": f"count by (version) (bucketferry_build_info{{{ONE}}} unless on (version) bucketferry_build_info{{{ONE}}} offset 1m)",
        "step": "60s", "titleFormat": "Version {{version}}", "textFormat": "",
    }


def source() -> dict:
    """The data source that the reader chose."""
    return {"type": "prometheus", "uid": "${datasource}"}


def target(number: int, expression: str, legend: str) -> dict:
    """One query."""
    return {
        "refId": "ABCDEF"[number], "datasource": source(), "editorMode": "code", "range": True,
        "expr": expression % ONE if "%s" in expression else expression, "legendFormat": legend,
    }


def stat(title: str, expression: str, unit: str, description: str, steps=None, words=None) -> dict:
    """A number with its colour."""
    thresholds = [{"color": colour, "value": value} for colour, value in steps or [("text", None)]]
    mappings = [{"type": "value", "options": {key: {"text": text, "index": index}
                                              for index, (key, text) in enumerate(words.items())}}] if words else []
    return {
        "type": "stat", "title": title, "description": description, "datasource": source(),
        "targets": [target(0, expression, "")],
        "fieldConfig": {
            "defaults": {"unit": unit, "decimals": 0 if unit == "short" else 1, "noValue": "-", "mappings": mappings,
                         "color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": thresholds}},
            "overrides": [],
        },
        "options": {"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
                    "textMode": "auto", "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}},
    }


def graph(title: str, unit: str, description: str, queries: list[tuple[str, str]], stacked: bool = False) -> dict:
    """Lines over time."""
    return {
        "type": "timeseries", "title": title, "description": description, "datasource": source(),
        "targets": [target(number, *query) for number, query in enumerate(queries)],
        "fieldConfig": {
            "defaults": {
                "unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "mappings": [],
                "thresholds": {"mode": "absolute", "steps": [{"color": "green", "value": None}]},
                "custom": {"drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1,
                           "fillOpacity": 30 if stacked else 5, "showPoints": "never", "spanNulls": False,
                           "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
                           "axisPlacement": "auto", "axisLabel": "", "scaleDistribution": {"type": "linear"}},
            },
            "overrides": [fixed(name, colour) for name, colour in COLOURS.items()] + [dashed("allowed"), dashed("in all"), dashed("limit")],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def heatmap(title: str, unit: str, description: str, expression: str) -> dict:
    """A distribution over time."""
    query = {**target(0, expression, "{{le}}"), "format": "heatmap"}
    return {
        "type": "heatmap", "title": title, "description": description, "datasource": source(), "targets": [query],
        "fieldConfig": {"defaults": {"custom": {"scaleDistribution": {"type": "linear"}}}, "overrides": []},
        "options": {
            "calculate": False, "cellGap": 1, "showValue": "never", "legend": {"show": True},
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 32, "exponent": 0.5, "fill": "blue", "scale": "exponential", "reverse": False},
            "yAxis": {"unit": unit, "axisPlacement": "left", "reverse": False},
            "rowsFrame": {"layout": "auto"}, "exemplars": {"color": "orange"}, "filterValues": {"le": 1e-9},
            "cellValues": {"unit": "short"}, "tooltip": {"show": True, "yHistogram": False, "mode": "single"},
        },
    }


def fixed(name: str, colour: str) -> dict:
    """A series that always has this colour."""
    return {"matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}


def dashed(name: str) -> dict:
    """A limit, drawn as one."""
    return {"matcher": {"id": "byName", "options": name},
            "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
                           {"id": "custom.fillOpacity", "value": 0},
                           {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}}]}
