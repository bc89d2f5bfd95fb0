"""Results, the matrix that shows them, and the line that counts them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """How one case went with one client on one store."""

    store: str
    client: str
    case: str
    seconds: float
    mark: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.mark != "FAIL"


def passed(store: str, client: str, case: str, seconds: float) -> Result:
    return Result(store, client, case, seconds, "ok")


def failed(store: str, client: str, case: str, seconds: float, detail: str) -> Result:
    return Result(store, client, case, seconds, "FAIL", detail)


def not_applicable(store: str, client: str, case: str, reason: str) -> Result:
    """For what a client has no command for at all: neither passed nor failed, and never silent."""
    return Result(store, client, case, 0.0, "n/a", reason)


def left_out(store: str, client: str, reason: str) -> Result:
    """For a client that can do nothing at all there."""
    return Result(store, client, "", 0.0, "left out", reason)


def show(results: list[Result]) -> None:
    for result in results:
        if not result.passed:
            show_failure(result)
    for store in unique(result.store for result in results):
        show_matrix(store, [result for result in results if result.store == store])
    show_what_clients_lack(results)
    count = {mark: sum(result.mark == mark for result in results) for mark in ("ok", "FAIL")}
    print(f"\n{count['ok']} passed, {count['FAIL']} failed")


def show_failure(result: Result) -> None:
    print(f"\nFAIL {result.store} / {result.client} / {result.case}")
    for line in result.detail.splitlines():
        print(f"    {line}")


def show_matrix(store: str, results: list[Result]) -> None:
    results = [result for result in results if result.mark != "left out"]
    own = [result for result in results if result.client == "gateway"]
    cells = {(result.case, result.client): result.mark for result in results}
    clients = unique(result.client for result in results if result.client != "gateway")
    rows = unique(result.case for result in results if result.client != "gateway")
    width = max((len(row) for row in rows), default=0)
    column = max((len(client) for client in clients), default=0)
    print(f"\n{store}")
    for result in own:
        print(f"  {'gateway ' + result.case:<{width}}  {result.mark}")
    print(f"  {'':<{width}}  " + "  ".join(f"{client:<{column}}" for client in clients).rstrip())
    for row in rows:
        marks = (f"{cells.get((row, client), '?'):<{column}}" for client in clients)
        print(f"  {row:<{width}}  " + "  ".join(marks).rstrip())


def show_what_clients_lack(results: list[Result]) -> None:
    lacks = unique((result.client, result.case, result.detail)
                   for result in results if result.mark == "n/a")
    if lacks:
        print()
    for client, case, reason in lacks:
        print(f"n/a: {client}, {case}: {reason}")
    for result in results:
        if result.mark == "left out":
            print(f"n/a: {result.client} is not in {result.store}: {result.detail}")


def unique(values) -> list:
    return list(dict.fromkeys(values))
