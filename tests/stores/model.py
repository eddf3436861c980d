"""A store in its simplest form: what `skuld_async.durable.store` says, in dicts and lists, and nothing else.

It answers with what a store answers, as plain data, and knows the allowed answers where there is more than one: `claim`
and `append` are told what the store did.
"""

from copy import deepcopy
from typing import Any

from msgspec.structs import asdict

from skuld_async.durable.records import (
    Append,
    NewAnswer,
    NewDeposit,
    NewRun,
    RunFilter,
    RunStatus,
    WaitFilter,
)

Plain = dict[str, Any]

ENDED: tuple[RunStatus, ...] = ("completed", "failed", "cancelled")
PARKED: tuple[RunStatus, ...] = ("paused", "needs_attention", "dead")
LOST = "lease lost"


class Model:
    """Runs, each a dict of its record, and of what belongs to it."""

    def __init__(self) -> None:
        self.runs: dict[str, Plain] = {}
        self.beating: set[str] = set()

    def copy(self) -> "Model":
        return deepcopy(self)

    # -- the life of a run -------------------------------------------------------------------------------------------

    def create(self, run: NewRun, worker: str | None) -> Plain:
        if run.id not in self.runs:
            owner = None if run.paused else worker
            record = {
                "id": run.id,
                "workflow": run.workflow,
                "version": run.version,
                "arguments": run.arguments,
                "tags": run.tags,
                "status": "paused" if run.paused else "running",
                "created": run.at,
                "updated": run.at,
                "wake": 0.0 if owner is None and not run.paused else None,
                "owner": owner,
                "token": 0 if owner is None else 1,
                "appends": 1,
                "inbox": 0,
                "events": 0,
                "recoveries": 0,
                "result": None,
                "error": None,
                "attention": None,
            }
            self.runs[run.id] = {
                "record": record,
                "log": [run.chunk],
                "sent": [],
                "waits": {},
                "told": [],
                "last": None,
            }
        return dict(self.runs[run.id]["record"])

    def append(self, item: Append, answer: object) -> object:
        """What an append gives: None, that the lease is lost, or one of the waits that were answered first."""
        run = self.runs.get(item.run)
        lease = (item.worker, item.token, item.number)
        if run is not None and run["last"] == lease:
            return None
        if run is None:
            return LOST
        record, waits = run["record"], run["waits"]
        if (record["owner"], record["token"], record["appends"] + 1) != lease:
            return LOST
        taken = [
            one.wait
            for one in item.closes
            if not one.answered and one.wait in waits and waits[one.wait]["state"] == "answered"
        ]
        if taken:
            return answer if answer in taken else taken

        run["last"] = lease
        self._write(run, item)
        self._stand(run, item)
        return None

    def _write(self, run: Plain, item: Append) -> None:
        record, waits = run["record"], run["waits"]
        record["appends"] += 1
        record["events"] += len(item.events)
        if item.progress:
            record["recoveries"] = 0
        if item.chunk is not None:
            run["log"] = [*([] if item.replace else run["log"]), item.chunk]
        if item.replace:
            self._forget(run, item.forget)
        for closing in item.closes:
            if closing.wait in waits:
                waits[closing.wait]["state"] = "closed"
        for wait in item.opens:
            waits[wait.id] = asdict(wait)
        for folded in item.folded:
            for sent in run["sent"]:
                if sent["number"] == folded.number:
                    sent["fate"] = folded.refused
        run["told"] = [one for one in [*run["told"], *map(asdict, item.events)] if one["offset"] > item.trim]

    def _forget(self, run: Plain, before: float) -> None:
        waits = run["waits"]
        run["sent"] = [one for one in run["sent"] if one["fate"] is None or one["at"] >= before]
        for gone in [one for one, wait in waits.items() if wait["state"] == "closed" and wait["opened"] < before]:
            del waits[gone]

    def _stand(self, run: Plain, item: Append) -> None:
        record = run["record"]
        is_behind = record["inbox"] > item.seen
        if item.status is not None:
            status = "running" if item.status == "suspended" and is_behind else item.status
            self._turn(record, status, item.at)
            record["result"], record["error"], record["attention"] = item.result, item.error, item.attention
            if status in ENDED:
                for wait in run["waits"].values():
                    wait["state"] = "closed"
        if item.release:
            record["owner"] = None
            record["wake"] = item.wake
            if is_behind and record["status"] in {"running", "suspended"}:
                record["wake"] = 0.0

    def _turn(self, record: Plain, status: str, at: float) -> None:
        if record["status"] != status:
            record["status"], record["updated"] = status, at

    def claim(
        self,
        worker: str,
        *,
        now: float,
        limit: int,
        workflows: list[str],
        dead: list[str],
        unknown: bool,
        taken: list[str],
        at_once: bool,
    ) -> object:
        """The records of the runs *taken*, or what is wrong with them.

        A claim that is made *at once* with other calls may leave the runs that those are changing.
        """
        wanted = [run["record"] for run in self.runs.values() if (run["record"]["workflow"] in workflows) != unknown]
        of_dead = [record["id"] for record in wanted if record["owner"] in dead]
        due = {
            record["id"]: record["wake"]
            for record in wanted
            if record["owner"] is None and record["wake"] is not None and record["wake"] <= now
        }
        most = min(limit, len(due) + len(of_dead))
        if len(taken) > most or not {*taken} <= {*due, *of_dead} or (len(taken) < most and not at_once):
            return f"{most} of {due} and {of_dead}"
        wakes = [due[run] for run in taken if run in due]
        if wakes != sorted(wakes if at_once else due.values())[: len(wakes)]:
            return f"those of {due} first that are due for longest"
        for run in taken:
            record = self.runs[run]["record"]
            record["recoveries"] += record["owner"] is not None
            record["owner"], record["wake"] = worker, None
            record["token"] += 1
            self._turn(record, "running", now)
        return [dict(self.runs[run]["record"]) for run in taken]

    def requeue(self, run: str, now: float) -> bool:
        if run not in self.runs or self.runs[run]["record"]["status"] not in PARKED:
            return False
        record = self.runs[run]["record"]
        self._turn(record, "running", now)
        record["wake"], record["recoveries"], record["error"], record["attention"] = 0.0, 0, None, None
        return True

    def requeue_known(self, attention: str, workflows: list[str], now: float) -> int:
        records = [run["record"] for run in self.runs.values()]
        return sum(
            self.requeue(record["id"], now)
            for record in records
            if record["status"] == "needs_attention"
            and record["attention"] == attention
            and record["workflow"] in workflows
        )

    def delete(self, run: str) -> str:
        if run not in self.runs:
            return "unknown"
        if self.runs[run]["record"]["owner"] is not None:
            return "owned"
        del self.runs[run]
        return "deleted"

    def expire(self, before: float) -> int:
        records = [run["record"] for run in self.runs.values()]
        gone = [one["id"] for one in records if one["status"] in ENDED and one["updated"] < before]
        for run in gone:
            del self.runs[run]
        return len(gone)

    # -- messages ----------------------------------------------------------------------------------------------------

    def answer(self, item: NewAnswer) -> str:
        wait = self.runs.get(item.run, {"waits": {}})["waits"].get(item.wait)
        if wait is None or wait["digest"] != item.digest:
            return "unknown"
        if wait["answer"] is not None:
            return "repeated" if wait["answer"] == item.body else "conflict"
        if wait["state"] == "closed":
            return "closed"
        wait["state"], wait["answer"], wait["answered_by"], wait["answered"] = "answered", item.body, item.by, item.at
        self._send(item.run, "answer", item.wait, "", item.body, item.by, item.at)
        return "accepted"

    def deposit(self, item: NewDeposit) -> int | None:
        if item.run not in self.runs or self.runs[item.run]["record"]["status"] in ENDED:
            return None
        for sent in self.runs[item.run]["sent"]:
            if sent["kind"] == "deposit" and all(
                sent[name] == value for name, value in asdict(item).items() if name != "run"
            ):
                return int(sent["number"])
        return self._send(item.run, "deposit", item.wait, item.name, item.body, item.by, item.at)

    def cancel(self, run: str, reason: str, by: str, at: float) -> bool:
        if run not in self.runs or self.runs[run]["record"]["status"] in ENDED:
            return False
        if "cancel" not in [sent["kind"] for sent in self.runs[run]["sent"]]:
            self._send(run, "cancel", "", "", reason.encode(), by, at)
            self.requeue(run, at)
        return True

    def _send(self, run: str, *fields: object) -> int:
        record, sent = self.runs[run]["record"], self.runs[run]["sent"]
        record["inbox"] += 1
        names = ("kind", "wait", "name", "body", "by", "at")
        message: Plain = dict(zip(names, fields, strict=True))
        sent.append({**message, "number": record["inbox"], "fate": None})
        if record["status"] == "suspended":
            self._turn(record, "running", message["at"])
        if record["status"] == "running" and record["owner"] is None:
            record["wake"] = 0.0
        return int(record["inbox"])

    # -- what can be seen --------------------------------------------------------------------------------------------

    def list_runs(self, only: RunFilter, after: tuple[float, str] | None, limit: int) -> list[Plain]:
        records = [dict(run["record"]) for run in self.runs.values()]
        records.sort(key=lambda one: (one["created"], one["id"]), reverse=True)
        return [
            one
            for one in records
            if (after is None or (one["created"], one["id"]) < after)
            and only.workflow in {None, one["workflow"]}
            and (only.statuses is None or one["status"] in only.statuses)
            and (only.tag is None or only.tag in one["tags"])
        ][:limit]

    def list_waits(self, only: WaitFilter, after: tuple[float, str, str] | None, limit: int) -> list[Plain]:
        waits = [dict(wait) for run in self.runs.values() for wait in run["waits"].values() if wait["state"] == "open"]
        waits.sort(key=_place)
        return [
            one
            for one in waits
            if (after is None or _place(one) > after)
            and only.run in {None, one["run"]}
            and only.workflow in {None, one["workflow"]}
            and (only.tag is None or only.tag in one["tags"])
            and only.assignee in {None, one["assignee"]}
            and only.name in {None, one["name"]}
            and (only.opened_before is None or one["opened"] < only.opened_before)
        ][:limit]

    def load(self, run: str) -> tuple[list[bytes], list[Plain]]:
        if run not in self.runs:
            return [], []
        unfolded = [message for message, fate in self.messages(run) if fate is None]
        return list(self.runs[run]["log"]), unfolded

    def messages(self, run: str) -> list[tuple[Plain, str | None]]:
        sent: list[Plain] = self.runs[run]["sent"] if run in self.runs else []
        return [({name: value for name, value in one.items() if name != "fate"}, one["fate"]) for one in sent]

    def wait(self, run: str, wait: str) -> Plain | None:
        found = self.runs[run]["waits"].get(wait) if run in self.runs else None
        return None if found is None else dict(found)

    def events(self, run: str, after: int, limit: int) -> list[Plain]:
        told: list[Plain] = self.runs[run]["told"] if run in self.runs else []
        return [dict(one) for one in told if one["offset"] > after][:limit]

    def next_wake(self, workflows: list[str]) -> float | None:
        records = [run["record"] for run in self.runs.values()]
        wakes = [one["wake"] for one in records if one["owner"] is None and one["workflow"] in workflows]
        return min((wake for wake in wakes if wake is not None), default=None)

    def mail(self, worker: str) -> list[tuple[str, int]]:
        return [
            (run, kept["record"]["inbox"])
            for run, kept in sorted(self.runs.items())
            if kept["record"]["owner"] == worker and self.load(run)[1]
        ]

    # -- workers -----------------------------------------------------------------------------------------------------

    def workers(self) -> dict[str, bool]:
        """Each worker that is listed, and whether it beats."""
        owners = {run["record"]["owner"] for run in self.runs.values()} - {None}
        return {worker: worker in self.beating for worker in sorted(owners | self.beating)}

    def bury(self, workers: list[str]) -> None:
        owners = {run["record"]["owner"] for run in self.runs.values()}
        self.beating -= {*workers} - owners


def _place(wait: Plain) -> tuple[float, str, str]:
    return wait["opened"], wait["run"], wait["id"]
