"""Files and models: what users upload and what jobs publish."""

import time
from collections.abc import Sequence
from typing import Any

import uuid_utils
from sqlalchemy import Connection, Engine, Row, and_, delete, func, insert, or_, select, update

from shared.contracts.errors import Conflict, NotFound, StorageFull, UserError
from shared.contracts.jobs import JobKind
from shared.contracts.steps import Method, ModelRef
from shared.db.engine import insert_once, reading, upsert, writing
from shared.jobs.states import FINAL_JOBS
from shared.jobs.tables import DEFAULT_PROJECT, aliases, canaries, files, jobs, models, projects

DELETED = "deleted"
LIVE = models.c.deleted_at.is_(None)


def ref_of(model: Row) -> ModelRef:
    """The student that a row of `models` stands for."""
    return ModelRef(base=model.base, base_hash=model.base_hash).trained(Method(model.method), model.adapter)


def _check_room(connection: Connection, project_id: str, size: int) -> None:
    most = connection.execute(select(projects.c.stored_bytes).where(projects.c.id == project_id)).scalar_one()
    if most is None:
        return
    mine = select(func.coalesce(func.sum(files.c.bytes), 0))
    used = connection.execute(mine.where(files.c.project_id == project_id, files.c.status != DELETED)).scalar_one()
    if used + size > most:
        raise StorageFull(
            f"the project's files may take {most} bytes and take {used}: {size} more do not fit; delete some",
            param="file",
        )


def _point(connection: Connection, project_id: str, model: Row) -> None:
    """The alias serves this version from now on. Where that is another one than before, a canary ends: it compared its
    version with what is no longer served. Raises NotFound for a version that was deleted meanwhile."""
    before = _locked_alias(connection, project_id, model.alias)
    still = select(models.c.id).where(models.c.id == model.id, LIVE).with_for_update(read=True)
    if connection.execute(still).first() is None:
        raise _no_model(f"{model.alias}@{model.version}")
    values = {"project_id": project_id, "alias": model.alias, "model_id": model.id, "changed_at": time.time()}
    upsert(connection, aliases, values)
    if before != model.id:
        of_alias = (canaries.c.project_id == project_id) & (canaries.c.alias == model.alias)
        connection.execute(delete(canaries).where(of_alias))


def _locked_alias(connection: Connection, project_id: str, alias: str) -> str | None:
    """The id of the version that it serves. Whoever locks versions too locks their alias first."""
    mine = (aliases.c.project_id == project_id) & (aliases.c.alias == alias)
    return connection.execute(select(aliases.c.model_id).where(mine).with_for_update()).scalar()


def _no_model(name: str) -> NotFound:
    return NotFound(f"no model {name!r}; GET /v1/models lists what is served", param="model", code="model_not_found")


def _refuse_use(connection: Connection, versions: Sequence[Row], trains: str | None = None) -> None:
    """Raises Conflict where somebody needs one of these versions of an alias. trains: that alias, where a job that is going
    to give it another version is in the way too."""
    ids = [version.id for version in versions]
    tried = connection.execute(select(canaries).where(canaries.c.model_id.in_(ids))).first()
    if tried is not None:
        raise Conflict(
            f"a canary of {tried.alias} tries this version; end it first: DELETE /v1/models/{tried.alias}/canary",
            param="model",
            code="model_in_use",
        )
    needs = or_(
        jobs.c.id.in_([version.job_id for version in versions if version.job_id]),
        and_(jobs.c.kind == JobKind.EXPORT, jobs.c.request["model_id"].as_string().in_(ids)),
        and_(jobs.c.kind == JobKind.DISTILLATION, jobs.c.request["suffix"].as_string() == trains),
    )
    mine = (jobs.c.project_id == versions[0].project_id) & jobs.c.status.not_in(FINAL_JOBS)
    job = connection.execute(select(jobs.c.id).where(mine, needs).limit(1)).scalar()
    if job is not None:
        raise Conflict(f"job {job} needs it; wait for its end, or cancel it", param="model", code="model_in_use")


class Catalog:
    def __init__(self, engine: Engine):
        self.engine = engine

    def ensure_default_project(self) -> None:
        with writing(self.engine) as connection:
            insert_once(connection, projects, {"id": DEFAULT_PROJECT, "name": "default", "created_at": time.time()})

    # files

    def add_file(self, project_id: str, **values: Any) -> Row:
        """Raises StorageFull. bytes counts in full, also where another file has the same content. A file whose given id is
        there already stays as it is."""
        made = {"id": f"file-{uuid_utils.uuid7().hex}", "project_id": project_id, "created_at": time.time()}
        values = made | values
        with writing(self.engine) as connection:
            # one file of a project at a time, so that together they stay below its limit
            connection.execute(select(projects.c.id).where(projects.c.id == project_id).with_for_update(key_share=True))
            known = connection.execute(select(files).where(files.c.id == values["id"])).first()
            if known is not None:
                return known
            _check_room(connection, project_id, values["bytes"])
            return connection.execute(insert(files).values(**values).returning(files)).one()

    def check_room(self, project_id: str, size: int) -> None:
        """Raises StorageFull where a project's limit leaves no room for so many bytes."""
        with reading(self.engine) as connection:
            _check_room(connection, project_id, size)

    def file(self, project_id: str, file_id: str) -> Row:
        """Raises NotFound, also for another project's file."""
        with reading(self.engine) as connection:
            row = connection.execute(
                select(files).where(files.c.id == file_id, files.c.project_id == project_id, files.c.status != DELETED)
            ).first()
        if row is None:
            raise NotFound(f"no file {file_id!r}", param="file_id", code="file_not_found")
        return row

    def file_of_job(self, file_id: str) -> Row:
        """A job's file, also one that was deleted since."""
        with reading(self.engine) as connection:
            return connection.execute(select(files).where(files.c.id == file_id)).one()

    def file_page(self, project_id: str, after: str | None, limit: int) -> tuple[list[Row], bool]:
        query = select(files).where(files.c.project_id == project_id, files.c.status != DELETED)
        with reading(self.engine) as connection:
            if after:
                if connection.execute(query.where(files.c.id == after)).first() is None:
                    raise UserError(f"no file {after!r} to continue after", param="after", code="unknown_cursor")
                query = query.where(files.c.id < after)
            rows = list(connection.execute(query.order_by(files.c.id.desc()).limit(limit + 1)))
        return rows[:limit], len(rows) > limit

    def delete_file(self, project_id: str, file_id: str) -> None:
        """Refused with 409 while a job that has not ended needs it; the row stays for the record of ended jobs."""
        self.file(project_id, file_id)
        with writing(self.engine) as connection:
            reads = or_(jobs.c.file_id == file_id, jobs.c.request["validation_file"].as_string() == file_id)
            mine = (jobs.c.project_id == project_id) & jobs.c.status.not_in(FINAL_JOBS)
            live = connection.execute(select(jobs.c.id).where(mine, reads).limit(1)).first()
            if live is not None:
                raise Conflict(f"file {file_id} is needed by job {live.id}", code="file_in_use")
            connection.execute(update(files).where(files.c.id == file_id).values(status=DELETED))

    def keeps(self, sha256: str) -> bool:
        """Whether any file that was not deleted has this content."""
        query = select(files.c.id).where(files.c.sha256 == sha256, files.c.status != DELETED).limit(1)
        with reading(self.engine) as connection:
            return connection.execute(query).first() is not None

    # models

    def publish(self, project_id: str, alias: str, ref: ModelRef, job_id: str, state: str) -> Row:
        """A new version under an alias; the same job publishes the same trained model only once."""
        with writing(self.engine) as connection:
            # one publication of a project at a time, so that two jobs never choose the same version
            connection.execute(select(projects.c.id).where(projects.c.id == project_id).with_for_update(key_share=True))
            mine = (models.c.project_id == project_id) & (models.c.alias == alias)
            found = connection.execute(
                select(models).where(mine, models.c.job_id == job_id, models.c.adapter == ref.tuned)
            ).first()
            if found is not None:
                return found
            last = connection.execute(select(func.max(models.c.version)).where(mine)).scalar_one() or 0
            return connection.execute(
                insert(models)
                .values(
                    id=f"model-{uuid_utils.uuid7().hex}",
                    project_id=project_id,
                    alias=alias,
                    version=last + 1,
                    adapter=ref.tuned,
                    method=ref.method.value,
                    base=ref.base,
                    base_hash=ref.base_hash,
                    state=state,
                    job_id=job_id,
                    created_at=time.time(),
                )
                .returning(models)
            ).one()

    def serve(self, project_id: str, model: Row) -> None:
        """Point the alias at this version."""
        with writing(self.engine) as connection:
            _point(connection, project_id, model)

    def roll_back(self, project_id: str, alias: str) -> Row:
        """Point the alias at the promoted version before the one it serves, and return that. Raises NotFound, Conflict."""
        with writing(self.engine) as connection:
            mine = (aliases.c.project_id == project_id) & (aliases.c.alias == alias)
            current = connection.execute(
                select(models).join(aliases, aliases.c.model_id == models.c.id).where(mine).with_for_update(of=aliases)
            ).first()
            if current is None:
                raise NotFound(f"no alias {alias!r} is served", param="model", code="model_not_found")
            former = connection.execute(
                select(models)
                .where(models.c.project_id == project_id, models.c.alias == alias, models.c.state == "promoted")
                .where(models.c.version < current.version, LIVE)
                .order_by(models.c.version.desc())
                .limit(1)
            ).first()
            if former is None:
                raise Conflict(
                    f"{alias}@{current.version} is served, and no promoted version came before it",
                    param="model",
                    code="nothing_to_roll_back_to",
                )
            _point(connection, project_id, former)
        return former

    def delete_version(self, project_id: str, model: Row) -> None:
        """Refused with 409 while its alias serves it, a canary tries it, or a job that has not ended made it or exports it. What
        it was trained to goes when nothing needs it any more (`shared.jobs.retention`)."""
        with writing(self.engine) as connection:
            _locked_alias(connection, project_id, model.alias)
            mine = models.c.id == model.id
            if connection.execute(select(models.c.id).where(mine, LIVE).with_for_update()).first() is None:
                raise _no_model(f"{model.alias}@{model.version}")
            if connection.execute(select(aliases).where(aliases.c.model_id == model.id)).first() is not None:
                raise Conflict(
                    f"{model.alias}@{model.version} is what {model.alias} serves; promote another version or roll back first, or "
                    f"delete {model.alias} as a whole",
                    param="model",
                    code="version_is_served",
                )
            _refuse_use(connection, [model])
            connection.execute(update(models).where(mine).values(deleted_at=time.time()))

    def delete_alias(self, project_id: str, alias: str) -> None:
        """All its versions with it. Raises NotFound, and Conflict as `delete_version` does, or while a job trains another one."""
        with writing(self.engine) as connection:
            _locked_alias(connection, project_id, alias)
            mine = (models.c.project_id == project_id) & (models.c.alias == alias) & LIVE
            versions = list(connection.execute(select(models).where(mine).with_for_update()))
            if not versions:
                raise _no_model(alias)
            _refuse_use(connection, versions, trains=alias)
            connection.execute(delete(aliases).where(aliases.c.project_id == project_id, aliases.c.alias == alias))
            connection.execute(update(models).where(mine).values(deleted_at=time.time()))

    def served(self, project_id: str, alias: str) -> Row | None:
        """The version that the alias points at, if any."""
        with reading(self.engine) as connection:
            query = select(models).join(aliases, aliases.c.model_id == models.c.id)
            return connection.execute(query.where(aliases.c.project_id == project_id, aliases.c.alias == alias)).first()

    def resolve(self, project_id: str, name: str) -> Row:
        """alias, alias@version or a version's id -> its row. Raises NotFound; only names read from here ever reach the
        engine."""
        alias, at, version = name.partition("@")
        row = None if at else self.served(project_id, alias) or self._model(project_id, name)
        if version.isdecimal() and len(version) < 10:
            with reading(self.engine) as connection:
                query = select(models).where(models.c.project_id == project_id, models.c.alias == alias, LIVE)
                row = connection.execute(query.where(models.c.version == int(version))).first()
        if row is None:
            raise _no_model(name)
        return row

    def _model(self, project_id: str, model_id: str) -> Row | None:
        with reading(self.engine) as connection:
            query = select(models).where(models.c.project_id == project_id, models.c.id == model_id, LIVE)
            return connection.execute(query).first()

    def has_versions(self, project_id: str, alias: str) -> bool:
        """Also of an alias that serves none of them."""
        with reading(self.engine) as connection:
            query = select(models.c.id).where(models.c.project_id == project_id, models.c.alias == alias, LIVE)
            return connection.execute(query.limit(1)).first() is not None

    def models(self, project_id: str) -> list[tuple[Row, bool]]:
        """All versions, newest first, each with whether its alias points at it."""
        with reading(self.engine) as connection:
            served = set(
                connection.execute(select(aliases.c.model_id).where(aliases.c.project_id == project_id)).scalars()
            )
            rows = connection.execute(
                select(models).where(models.c.project_id == project_id, LIVE).order_by(models.c.id.desc())
            )
            return [(row, row.id in served) for row in rows]
