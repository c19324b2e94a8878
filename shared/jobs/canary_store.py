"""Canaries: a version that is tried beside the one its alias serves. A canary ends when the alias moves (see Catalog).

A canary with a rule decides by itself: each API process adds its observations to a few rows, and any orchestrator evaluates them.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import uuid_utils
from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, select, update

from shared.contracts.canary import Arm, CanaryRule, CanaryStanding, CanaryTerms, Count, Metric, Outcome, Per, Verdict
from shared.contracts.errors import Conflict, NotFound
from shared.contracts.grader_kinds import Grader, VerifyingGrader
from shared.contracts.notices import NoticeKind
from shared.contracts.webhooks import WebhookEvent
from shared.db.engine import Values, add_up, insert_once, reading, upsert, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.jobs.audit_store import add_entry
from shared.jobs.canary_moves import end_canary, of_alias
from shared.jobs.catalog import LIVE, lock_alias, point_alias, ref_of
from shared.jobs.notices import add_notice
from shared.jobs.records import AuditEntry, CanaryRecord, ModelRecord
from shared.jobs.tables import aliases, canaries, canary_counts, canary_units, models, notices
from shared.jobs.tallies import Tally, tally

CALLER = "canary"  # in the audit log: what a canary did by itself
END_ROUTE, PROMOTE_ROUTE = "/v1/models/{alias}/canary", "/v1/models/{model}/promote"


class Trial(NamedTuple):
    """What is observed of a canary in its present step, as its goal says."""

    canary_id: str
    step: int
    metric: Metric
    limit_ms: float | None = None
    grader: Grader | VerifyingGrader | None = None
    per: Per = Per.USER
    user_key: str | None = None


@dataclass(frozen=True, slots=True)
class Canary:
    """percent: share of conversations that the tried version answers. shadow: it only gets copies of requests.
    since: Unix seconds of its start or last change. rule: how it decides; None: it does not. step: of the rule, from 0."""

    served: ModelRecord
    tried: ModelRecord
    percent: float
    shadow: bool
    since: float
    id: str | None = None
    rule: CanaryRule | None = None
    step: int = 0
    standing: CanaryStanding | None = None
    outcome: Outcome | None = None

    @property
    def trial(self) -> Trial | None:
        """What is observed of it; None: nothing, or no more."""
        if self.rule is None or self.id is None or self.outcome is not None:
            return None
        goal = self.rule.goal
        return Trial(self.id, self.step, goal.metric, goal.limit_ms, goal.grader, goal.per, goal.user_key)


class CountKey(NamedTuple):
    """minute: of Unix time, rounded down."""

    canary_id: str
    step: int
    arm: Arm
    minute: int


class Sum(NamedTuple):
    n: float
    loss: float


class UnitKey(NamedTuple):
    """A user in a step of a canary. unit: a hash, so that nobody's name stands here."""

    canary_id: str
    step: int
    unit: str


Sums = Mapping[CountKey, Sum]


def added_up(parts: Iterable[Sums]) -> dict[CountKey, Sum]:
    total = defaultdict[CountKey, Sum](lambda: Sum(0.0, 0.0))
    for part in parts:
        for key, one in part.items():
            total[key] = Sum(total[key].n + one.n, total[key].loss + one.loss)
    return dict(total)


class CanaryStore:
    def __init__(self, engine: Engine):
        self.engine = engine

    def set(self, project_id: str, alias: str, version: int, terms: CanaryTerms) -> Canary:
        """Start a canary in place of the present one, whose counts are gone. Raises NotFound, Conflict."""
        with writing(self.engine) as connection:
            return self._set(connection, project_id, alias, version, terms)

    def set_once(self, project_id: str, alias: str, version: int, terms: CanaryTerms) -> bool:
        """The same, unless the version has been tried before. Returns whether it begins now. Raises NotFound, Conflict."""
        of_alias = (notices.c.kind == NoticeKind.CANARY) & (notices.c.subject == alias)
        begun = select(notices.c.id).where(notices.c.project_id == project_id, of_alias, notices.c.type == "started")
        with writing(self.engine) as connection:
            _served(connection, project_id, alias, lock=True)
            if connection.execute(begun.where(notices.c.data["version"].as_integer() == version)).first() is not None:
                return False
            self._set(connection, project_id, alias, version, terms)
        return True

    @staticmethod
    def _set(connection: Connection, project_id: str, alias: str, version: int, terms: CanaryTerms) -> Canary:
        percent, shadow, rule = terms.shares[0], terms.shadow, terms.rule
        now, new_id = time.time(), f"canary-{uuid_utils.uuid7().hex}"
        served = _served(connection, project_id, alias, lock=True)  # the alias must not move in between
        query = select(models).where(of_alias(models, project_id, alias), models.c.version == version, LIVE)
        tried = fetch_first(connection, ModelRecord, query.with_for_update(read=True))
        if tried is None:
            raise NotFound(f"no model {alias}@{version}", param="version", code="model_not_found")
        _check(served, tried)
        present = select(canaries.c.id).where(of_alias(canaries, project_id, alias)).with_for_update()
        before = connection.execute(present).scalar()
        for table in (canary_counts, canary_units):
            connection.execute(delete(table).where(table.c.canary_id == before))
        values: Values = {
            "model_id": tried.id,
            "percent": percent,
            "shadow": shadow,
            "created_at": now,
            "id": new_id,
            "rule": None if rule is None else rule.model_dump(mode="json"),
            "step": None if rule is None else 0,
            "step_times": None if rule is None else [now],
            "next_look": None if rule is None else now,
            "standing": None,
            "outcome": None,
        }
        upsert(connection, canaries, {"project_id": project_id, "alias": alias} | values)
        what = f"{percent:g} % of conversations {'are copied' if shadow else 'go'} to {alias}@{version}"
        data = {"id": new_id, "alias": alias, "version": version, "served": served.version, "percent": percent}
        add_notice(connection, project_id, NoticeKind.CANARY, alias, "started", what, data)
        return Canary(served, tried, percent, shadow, now, new_id, rule)

    def get(self, project_id: str, alias: str) -> Canary | None:
        with reading(self.engine) as connection:
            query = select(canaries).where(of_alias(canaries, project_id, alias))
            canary = fetch_first(connection, CanaryRecord, query)
            if canary is None:
                return None
            tried = fetch_one(connection, ModelRecord, select(models).where(models.c.id == canary.model_id))
            served = _served(connection, project_id, alias)
        return Canary(
            served,
            tried,
            canary.percent,
            canary.shadow,
            canary.created_at,
            canary.id,
            canary.rule,
            canary.step or 0,
            canary.standing,
            canary.outcome,
        )

    def end(self, project_id: str, alias: str) -> bool:
        """Whether the alias had a canary."""
        with writing(self.engine) as connection:
            return end_canary(connection, project_id, alias, "ended", "the canary was ended by request", {})

    # what is observed

    def add(self, sums: Sums, of_users: Mapping[UnitKey, Sums] = MappingProxyType({})) -> None:
        """Add observations to the counts, those of a user unless some process has counted the user in this step. Those of canaries that
        have ended or decided are left out."""
        with writing(self.engine) as connection:
            ids = {key.canary_id for key in (*sums, *of_users)}
            open_ones = select(canaries.c.id, canaries.c.project_id).where(canaries.c.id.in_(ids), _deciding())
            # the lock: counts of a canary that ends now would stay for good
            shared = open_ones.order_by(canaries.c.id).with_for_update(read=True, key_share=True)
            projects = dict(connection.execute(shared).all())
            counted = [sums]
            for user in sorted(of_users):  # in one order, so that no two processes wait for each other
                project = projects.get(user.canary_id)
                if project is None:
                    continue
                if insert_once(connection, canary_units, user._asdict() | {"project_id": project}) is not None:
                    counted.append(of_users[user])
            for key, one in sorted(added_up(counted).items()):
                if key.canary_id in projects:
                    row = key._asdict() | {"project_id": projects[key.canary_id]}
                    add_up(connection, canary_counts, row, one._asdict())

    def counts(self, canary_id: str) -> list[Count]:
        """The sums of all minutes."""
        cell = (canary_counts.c.step, canary_counts.c.arm)
        sums = (func.sum(canary_counts.c.n), func.sum(canary_counts.c.loss))
        query = select(*cell, *sums).where(canary_counts.c.canary_id == canary_id).group_by(*cell)
        with reading(self.engine) as connection:
            return [Count(step, Arm(arm), n, loss) for step, arm, n, loss in connection.execute(query)]

    # what is decided

    def due(self, hold_s: float) -> list[CanaryRecord]:
        """The canaries whose turn it is; for hold_s seconds nobody else gets them."""
        now = time.time()
        waiting = and_(_deciding(), canaries.c.next_look <= now)
        with reading(self.engine) as connection:
            if connection.execute(select(canaries.c.id).where(waiting).limit(1)).first() is None:
                return []  # saves a writing transaction; SQLite has one at a time
        taken = update(canaries).where(waiting).values(next_look=now + hold_s).returning(canaries)
        with writing(self.engine) as connection:
            return fetch_all(connection, CanaryRecord, taken)

    def note(self, canary: CanaryRecord, standing: CanaryStanding) -> None:
        with writing(self.engine) as connection:
            connection.execute(update(canaries).where(_same(canary)).values(standing=standing.model_dump(mode="json")))

    def advance(self, canary: CanaryRecord, standing: CanaryStanding) -> bool:
        """Begin the next step. False: the canary is another one by now."""
        assert canary.rule is not None
        assert canary.step is not None
        step, now = canary.step + 1, time.time()
        values: Values = {
            "step": step,
            "percent": canary.rule.steps[step],
            "step_times": [*(canary.step_times or []), now],
            "standing": standing.model_dump(mode="json"),
        }
        with writing(self.engine) as connection:
            moved = connection.execute(update(canaries).where(_same(canary)).values(**values)).rowcount > 0
            if moved:
                what = f"step {step + 1} of {len(canary.rule.steps)}: {values['percent']:g} % of conversations"
                data = {
                    "id": canary.id,
                    "alias": canary.alias,
                    "percent": values["percent"],
                    "standing": values["standing"],
                }
                add_notice(connection, canary.project_id, NoticeKind.CANARY, canary.alias, "step", what, data)
        return moved

    def conclude(self, canary: CanaryRecord, verdict: Verdict) -> bool:
        """Do what the outcome asks for, and tell it: the version returns, is promoted, or goes on as an ordinary canary. False: the canary
        is another one by now."""
        assert canary.rule is not None
        with writing(self.engine) as connection:
            lock_alias(connection, canary.project_id, canary.alias)
            if connection.execute(select(canaries.c.id).where(_same(canary)).with_for_update()).first() is None:
                return False
            tried = fetch_one(connection, ModelRecord, select(models).where(models.c.id == canary.model_id))
            served = _served(connection, canary.project_id, canary.alias)
            _conclude(connection, canary, verdict, tried, served)
            if verdict.outcome is not None:
                tally(connection, Tally.CANARY, (verdict.outcome,))
        return True


def _conclude(
    connection: Connection, canary: CanaryRecord, verdict: Verdict, tried: ModelRecord, served: ModelRecord
) -> None:
    project, alias = canary.project_id, canary.alias
    old, new = f"{alias}@{served.version}", f"{alias}@{tried.version}"
    data = {
        "outcome": verdict.outcome,
        "version": tried.version,
        "served": served.version,
        "standing": verdict.standing.model_dump(mode="json"),
    }
    comparison = _in_words(canary, verdict.standing)

    def audited(method: str, route: str, name: str) -> None:
        add_entry(connection, project, AuditEntry(CALLER, method, route, name, 200, canary.id or ""))

    if verdict.outcome is Outcome.HARM:
        message = f"{new} returned: {comparison}; {old} answers everybody"
        event = WebhookEvent.CANARY_RETURNED
        end_canary(connection, project, alias, "returned", message, data, level="warn", webhook=event)
        audited("DELETE", END_ROUTE, alias)
    elif verdict.outcome is Outcome.UNDECIDED:
        message = f"{new} was not decided in time: {comparison}; {old} answers everybody"
        event = WebhookEvent.CANARY_UNDECIDED
        end_canary(connection, project, alias, "undecided", message, data, level="warn", webhook=event)
        audited("DELETE", END_ROUTE, alias)
    elif canary.rule is not None and canary.rule.promote:
        message = f"{new} is promoted: {comparison}"
        end_canary(connection, project, alias, "promoted", message, data, webhook=WebhookEvent.CANARY_PROMOTED)
        point_alias(connection, project, tried)
        audited("POST", PROMOTE_ROUTE, new)
    else:
        _pass(connection, canary, verdict, f"{new} passed: {comparison}; promote it, or end the canary", data)


def _pass(connection: Connection, canary: CanaryRecord, verdict: Verdict, message: str, data: Values) -> None:
    """It goes on as an ordinary canary, with the last step's share."""
    assert canary.rule is not None
    last = len(canary.rule.steps) - 1
    values = {"outcome": verdict.outcome, "standing": data["standing"], "step": last}
    values |= {} if canary.shadow else {"percent": canary.rule.steps[last]}
    connection.execute(update(canaries).where(_same(canary)).values(**values))
    told = {"id": canary.id, "alias": canary.alias} | data
    event = WebhookEvent.CANARY_PASSED
    add_notice(connection, canary.project_id, NoticeKind.CANARY, canary.alias, "passed", message, told, webhook=event)


def _in_words(canary: CanaryRecord, standing: CanaryStanding) -> str:
    assert canary.rule is not None
    metric = canary.rule.goal.metric.value
    parts = [
        f"{name} {'-' if arm.loss is None else f'{arm.loss:.4g}'} in {arm.requests} answers"
        for name, arm in (("its loss", standing.canary), ("that of the served version", standing.served))
    ]
    return f"{metric}: {', '.join(parts)}"


def _deciding() -> ColumnElement[bool]:
    return and_(canaries.c.step.is_not(None), canaries.c.outcome.is_(None))


def _same(canary: CanaryRecord) -> ColumnElement[bool]:
    """The canary in the step in which it was looked at."""
    return and_(canaries.c.id == canary.id, canaries.c.step == canary.step, canaries.c.outcome.is_(None))


def _served(connection: Connection, project_id: str, alias: str, lock: bool = False) -> ModelRecord:
    """lock: the alias does not move before the transaction ends."""
    if lock:
        lock_alias(connection, project_id, alias)
    query = select(models).join(aliases, aliases.c.model_id == models.c.id).where(of_alias(aliases, project_id, alias))
    served = fetch_first(connection, ModelRecord, query)
    if served is None:
        raise NotFound(f"no alias {alias!r} is served", param="model", code="model_not_found")
    return served


def _check(served: ModelRecord, tried: ModelRecord) -> None:
    name = f"{tried.alias}@{tried.version}"
    if served.id == tried.id:
        raise Conflict(f"{name} is already served", param="version", code="version_is_served")
    if ref_of(served).served_by != ref_of(tried).served_by:
        raise Conflict(
            f"one engine cannot serve both {name} and {served.alias}@{served.version}: both must be adapters on the same base. "
            "Request them by their names, or promote",
            param="version",
            code="not_served_together",
        )
