"""Files that users upload, and the model versions and aliases that jobs publish."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import uuid_utils
from sqlalchemy import ColumnElement, Connection, Engine, Select, delete, func, insert, or_, select, update

from shared.contracts.errors import Conflict, NotFound, StorageFull, TransientError
from shared.contracts.generation import GREEDY, Generation
from shared.contracts.jobs import JobRequest
from shared.contracts.steps import Method, ModelRef
from shared.db.engine import insert_once, reading, upsert, writing
from shared.db.fetch import fetch_all, fetch_first, fetch_one
from shared.db.paging import keyset_page
from shared.jobs.canary_moves import end_canary
from shared.jobs.needs import unfinished
from shared.jobs.records import FileRecord, JobRecord, ModelRecord
from shared.jobs.tables import DEFAULT_PROJECT, aliases, canaries, chats, files, jobs, models, projects

DELETED = "deleted"
NO_VERSION = ""  # as a job's incumbent
AT_ONCE = 500  # ids of one statement


class Outdated(Exception):
    """Another version of the dataset was added since the one that a new version was made from."""


class Replaces(NamedTuple):
    """The version that an alias must still serve so that another one is served in its place. id: None for no version."""

    id: str | None


class ChatsGone(TransientError):
    """Chats whose rows are in a file were deleted before the file was added. Read again, they are left out."""


LIVE = models.c.deleted_at.is_(None)


def ref_of(model: ModelRecord) -> ModelRef:
    """The student model of a version."""
    return ModelRef(base=model.base, base_hash=model.base_hash).trained(Method(model.method), model.adapter)


def live_file() -> ColumnElement[bool]:
    """Neither deleted nor expired."""
    return (files.c.status != DELETED) & or_(files.c.expires_at.is_(None), files.c.expires_at > time.time())


def is_live(file: FileRecord) -> bool:
    """The same of a record that was read."""
    return file.status != DELETED and (file.expires_at is None or file.expires_at > time.time())


def _check_quota(connection: Connection, project_id: str, size: int) -> None:
    most = connection.execute(select(projects.c.stored_bytes).where(projects.c.id == project_id)).scalar_one()
    if most is None:
        return
    mine = select(func.coalesce(func.sum(files.c.bytes), 0))
    used = connection.execute(mine.where(files.c.project_id == project_id, live_file())).scalar_one()
    if used + size > most:
        raise StorageFull(
            f"the project's files take {used} of {most} bytes, and {size} more do not fit; delete some",
            param="file",
        )


def _check_chats(connection: Connection, ids: Sequence[str]) -> None:
    """The lock: whoever deletes one of these chats waits, and then finds the file."""
    once = sorted(set(ids))  # in the order in which chats are removed, so that neither waits for the other
    for start in range(0, len(once), AT_ONCE):
        part = once[start : start + AT_ONCE]
        there = select(chats.c.id).where(chats.c.id.in_(part)).order_by(chats.c.id)
        missing = len(part) - len(connection.execute(there.with_for_update(read=True, key_share=True)).all())
        if missing:
            raise ChatsGone(f"{missing} chats were deleted while their rows were stored")


def newest_version(connection: Connection, project_id: str, file_id: str) -> FileRecord | None:
    """Of the dataset that a version is of, even where that version was deleted. None: none is left."""
    named = select(files.c.dataset_id).where(files.c.id == file_id, files.c.project_id == project_id)
    dataset = connection.execute(named).scalar() or file_id
    versions = or_(files.c.id == dataset, files.c.dataset_id == dataset)
    query = select(files).where(versions, files.c.project_id == project_id, live_file())
    return max(fetch_all(connection, FileRecord, query), key=lambda file: file.version or 1, default=None)


def point_alias(connection: Connection, project_id: str, model: ModelRecord) -> None:
    """Let the alias serve this version. If the version changes the alias's canary ends, for it compares with the version
    before. Raises NotFound for a version that was deleted in between."""
    before = lock_alias(connection, project_id, model.alias)
    _check_live(connection, model)
    values = {"project_id": project_id, "alias": model.alias, "model_id": model.id, "changed_at": time.time()}
    upsert(connection, aliases, values)
    if before != model.id:
        moved = f"the canary ended, because {model.alias} moved to version {model.version}"
        end_canary(connection, project_id, model.alias, "moved", moved, {"served": f"{model.alias}@{model.version}"})


def _check_live(connection: Connection, model: ModelRecord) -> None:
    """The lock: the version is not deleted before the transaction ends."""
    still = select(models.c.id).where(models.c.id == model.id, LIVE).with_for_update(read=True)
    if connection.execute(still).first() is None:
        raise no_model(f"{model.alias}@{model.version}")


def _take_over(connection: Connection, project_id: str, model: ModelRecord, before: str | None) -> bool:
    """Point the alias at this version if it serves `before` (an id; None: no version). False: it serves another one."""
    if before is None:
        values = {"project_id": project_id, "alias": model.alias, "model_id": model.id, "changed_at": time.time()}
        insert_once(connection, aliases, values)
    served = lock_alias(connection, project_id, model.alias)
    _check_live(connection, model)
    if before is not None and served in (before, None):
        point_alias(connection, project_id, model)
        return True
    return served == model.id


def lock_alias(connection: Connection, project_id: str, alias: str) -> str | None:
    """The id of the version that it serves. Lock order: an alias before its versions."""
    mine = (aliases.c.project_id == project_id) & (aliases.c.alias == alias)
    return connection.execute(select(aliases.c.model_id).where(mine).with_for_update()).scalar()


def no_file(file_id: str) -> NotFound:
    return NotFound(f"no file {file_id!r}", param="file_id", code="file_not_found")


def no_model(name: str) -> NotFound:
    return NotFound(f"no model {name!r}; GET /v1/models lists what is served", param="model", code="model_not_found")


def _refuse_use(connection: Connection, versions: Sequence[ModelRecord], trains: str | None = None) -> None:
    """Raises Conflict if a canary or an unfinished job uses one of these versions of an alias. trains: the alias, if a job that
    trains another version of it counts too."""
    ids = {version.id for version in versions}
    tried = connection.execute(select(canaries).where(canaries.c.model_id.in_(ids))).first()
    if tried is not None:
        raise Conflict(
            f"a canary of {tried.alias} tries this version; end it first: DELETE /v1/models/{tried.alias}/canary",
            param="model",
            code="model_in_use",
        )
    named = ids | {f"{version.alias}@{version.version}" for version in versions}
    made_by = {version.job_id for version in versions}
    for job in unfinished(connection, versions[0].project_id):
        publishes = isinstance(job.request, JobRequest) and job.request.suffix == trains
        if publishes or job.id in made_by or job.request.names.model in named:
            raise Conflict(f"{job} needs it; wait for its end, or cancel it", param="model", code="model_in_use")


def _served(project_id: str, alias: str) -> Select:
    """The version that the alias serves."""
    of_alias = (aliases.c.project_id == project_id) & (aliases.c.alias == alias)
    return select(models).join(aliases, aliases.c.model_id == models.c.id).where(of_alias)


def _versions(project_id: str, alias: str) -> Select:
    """The live versions of an alias."""
    return select(models).where(models.c.project_id == project_id, models.c.alias == alias, LIVE)


class Catalog:
    def __init__(self, engine: Engine):
        self.engine = engine

    def ensure_default_project(self) -> None:
        with writing(self.engine) as connection:
            insert_once(connection, projects, {"id": DEFAULT_PROJECT, "name": "default", "created_at": time.time()})

    # files

    def add_file(
        self, project_id: str, *, newest: str | None = None, of_chats: Sequence[str] = (), **values: Any
    ) -> FileRecord:
        """Add a file; one with the same id stays as it is. Files with equal content count separately. One with a
        dataset_id is its next version; newest: the id of the version that must still be the dataset's newest. of_chats: ids of stored
        chats that rows were made of. Raises StorageFull, Outdated, ChatsGone."""
        defaults: dict[str, Any] = {
            "id": f"file-{uuid_utils.uuid7().hex}",
            "project_id": project_id,
            "created_at": time.time(),
        }
        values = defaults | values
        with writing(self.engine) as connection:
            # the lock admits one file of a project at a time, so that their sum stays below its limit
            connection.execute(select(projects.c.id).where(projects.c.id == project_id).with_for_update(key_share=True))
            existing = fetch_first(connection, FileRecord, select(files).where(files.c.id == values["id"]))
            if existing is not None:
                return existing
            _check_quota(connection, project_id, values["bytes"])
            _check_chats(connection, of_chats)
            if newest is not None:
                last = newest_version(connection, project_id, newest)
                if last is None or last.id != newest:
                    raise Outdated(newest)
            if values.get("dataset_id") is not None:
                last = select(func.max(files.c.version)).where(files.c.dataset_id == values["dataset_id"])
                values["version"] = (connection.execute(last).scalar() or 1) + 1
            return fetch_one(connection, FileRecord, insert(files).values(**values).returning(files))

    def versions(self, project_id: str, dataset_id: str) -> list[FileRecord]:
        """Those of a dataset that are not deleted, newest first."""
        mine = or_(files.c.id == dataset_id, files.c.dataset_id == dataset_id)
        query = select(files).where(mine, files.c.project_id == project_id, live_file())
        with reading(self.engine) as connection:
            records = fetch_all(connection, FileRecord, query)
        return sorted(records, key=lambda file: file.version or 1, reverse=True)

    def newest(self, project_id: str, file_id: str) -> FileRecord | None:
        with reading(self.engine) as connection:
            return newest_version(connection, project_id, file_id)

    def datasets(self, project_id: str) -> list[FileRecord]:
        """All files with rows, oldest first; deleted ones too, whose rows jobs may have learned from."""
        query = select(files).where(files.c.project_id == project_id, files.c.rows_ref.is_not(None))
        with reading(self.engine) as connection:
            return fetch_all(connection, FileRecord, query.order_by(files.c.id))

    def check_room(self, project_id: str, size: int) -> None:
        """Raises StorageFull if so many bytes more exceed the project's limit."""
        with reading(self.engine) as connection:
            _check_quota(connection, project_id, size)

    def file(self, project_id: str, file_id: str) -> FileRecord:
        """Raises NotFound, also for another project's file."""
        query = select(files).where(files.c.id == file_id, files.c.project_id == project_id, live_file())
        with reading(self.engine) as connection:
            file = fetch_first(connection, FileRecord, query)
        if file is None:
            raise no_file(file_id)
        return file

    def set_columns(self, file_id: str, reference: str) -> None:
        """Note the artifact with the columns beside a file's rows."""
        with writing(self.engine) as connection:
            connection.execute(update(files).where(files.c.id == file_id).values(columns_ref=reference))

    def file_of_job(self, file_id: str) -> FileRecord:
        """A job's file, even if it was deleted since."""
        with reading(self.engine) as connection:
            return fetch_one(connection, FileRecord, select(files).where(files.c.id == file_id))

    def file_page(
        self,
        project_id: str,
        after: str | None,
        limit: int,
        purpose: str | None = None,
        ascending: bool = False,
    ) -> tuple[list[FileRecord], bool]:
        """Newest first; ascending: oldest first. Raises UserError for an unknown `after`, whatever its purpose."""
        mine = select(files).where(files.c.project_id == project_id, live_file())
        query = mine if purpose is None else mine.where(files.c.purpose == purpose)
        return keyset_page(
            self.engine, FileRecord, query, files.c.id, after, limit, "file", cursors=mine, ascending=ascending
        )

    def delete_file(self, project_id: str, file_id: str) -> None:
        """Mark it deleted; the row stays for ended jobs. Raises NotFound, and Conflict while an unfinished job needs it."""
        with writing(self.engine) as connection:
            mine = (files.c.id == file_id) & (files.c.project_id == project_id) & live_file()
            if connection.execute(select(files.c.id).where(mine).with_for_update()).first() is None:
                raise no_file(file_id)
            job = next((job for job in unfinished(connection, project_id) if file_id in job.request.names.files), None)
            if job is not None:
                raise Conflict(f"file {file_id} is needed by {job}; wait for its end, or cancel it", code="file_in_use")
            connection.execute(update(files).where(files.c.id == file_id).values(status=DELETED))

    def expire_files(self, dry_run: bool = False) -> list[str]:
        """Delete (dry_run: find) the files whose time has come. Jobs that were posted before keep their rows. Returns the SHA-256
        of each one's bytes."""
        over = (files.c.status != DELETED) & (files.c.expires_at <= time.time())
        if dry_run:
            with reading(self.engine) as connection:
                return list(connection.execute(select(files.c.sha256).where(over)).scalars())
        with writing(self.engine) as connection:
            statement = update(files).where(over).values(status=DELETED).returning(files.c.sha256)
            return list(connection.execute(statement).scalars())

    def keeps(self, sha256: str) -> bool:
        """Whether a live file has this content."""
        query = select(files.c.id).where(files.c.sha256 == sha256, live_file()).limit(1)
        with reading(self.engine) as connection:
            return connection.execute(query).first() is not None

    # models

    def looks(self, project_id: str, alias: str, job_id: str, adapter: str | None) -> int:
        """How many other models of an alias were decided about by the dev split of the job's dataset, in any of its versions, before
        this one was published. The same model of another job is no other one."""
        own_job, own_file, own_model = jobs.alias(), files.alias(), models.alias()
        dataset = select(func.coalesce(own_file.c.dataset_id, own_file.c.id)).where(
            own_job.c.id == job_id, own_file.c.id == own_job.c.file_id
        )
        number = select(func.min(own_model.c.version)).where(
            own_model.c.project_id == project_id, own_model.c.alias == alias, own_model.c.job_id == job_id
        )
        of_alias = (models.c.project_id == project_id) & (models.c.alias == alias)
        others = (
            select(func.count(models.c.adapter.distinct()))
            .select_from(models.join(jobs, models.c.job_id == jobs.c.id).join(files, jobs.c.file_id == files.c.id))
            .where(of_alias, models.c.job_id != job_id, models.c.adapter != adapter, models.c.state != "partial")
            .where(func.coalesce(files.c.dataset_id, files.c.id) == dataset.scalar_subquery())
            .where(models.c.version < func.coalesce(number.scalar_subquery(), 2**31 - 1))
        )
        with reading(self.engine) as connection:
            return int(connection.execute(others).scalar_one())

    def publish(
        self,
        project_id: str,
        alias: str,
        ref: ModelRef,
        job_id: str,
        state: str,
        generation: Generation = GREEDY,
        continues: str | None = None,
        replaces: Replaces | None = None,
    ) -> ModelRecord:
        """Add a version to an alias. A job's second call with the same model returns the version of the first and changes nothing.

        generation: how the version was evaluated; it is served so by default. continues: the version that its training went
        on from. replaces: the alias serves the new version from now on, if it still serves that one.
        """
        with writing(self.engine) as connection:
            # the lock admits one publication of a project at a time, so that two jobs never take the same number
            connection.execute(select(projects.c.id).where(projects.c.id == project_id).with_for_update(key_share=True))
            mine = (models.c.project_id == project_id) & (models.c.alias == alias)
            same = select(models).where(mine, models.c.job_id == job_id, models.c.adapter == ref.tuned)
            published = fetch_first(connection, ModelRecord, same)
            if published is not None:
                return published
            last = connection.execute(select(func.max(models.c.version)).where(mine)).scalar_one() or 0
            added = insert(models).values(
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
                generation=generation.model_dump(mode="json"),
                continues=continues,
            )
            version = fetch_one(connection, ModelRecord, added.returning(models))
            if replaces is not None:
                _take_over(connection, project_id, version, replaces.id)
            return version

    def incumbent(self, job: JobRecord, alias: str) -> ModelRecord | None:
        """The version that the alias served when this job asked first, even if it is deleted now: a replay compares with the same one."""
        mine = jobs.c.id == job.id
        with writing(self.engine) as connection:
            chosen = connection.execute(select(jobs.c.incumbent).where(mine).with_for_update()).scalar_one()
            if chosen is None:
                served = fetch_first(connection, ModelRecord, _served(job.project_id, alias))
                chosen = served.id if served is not None else NO_VERSION
                connection.execute(update(jobs).where(mine).values(incumbent=chosen))
            return fetch_first(connection, ModelRecord, select(models).where(models.c.id == chosen))

    def serve_first(self, project_id: str, model: ModelRecord) -> bool:
        """Point the alias at this version if it serves none. False: it serves another one. Raises NotFound for a version that was deleted."""
        with writing(self.engine) as connection:
            return _take_over(connection, project_id, model, None)

    def serve(self, project_id: str, model: ModelRecord) -> None:
        """Point the alias at this version."""
        with writing(self.engine) as connection:
            point_alias(connection, project_id, model)

    def roll_back(self, project_id: str, alias: str) -> ModelRecord:
        """Point the alias at the promoted version before the served one, and return it. Raises NotFound, Conflict."""
        with writing(self.engine) as connection:
            # the alias first: a join that waits for its lock would miss the version that the alias has moved to
            lock_alias(connection, project_id, alias)
            current = fetch_first(connection, ModelRecord, _served(project_id, alias))
            if current is None:
                raise NotFound(f"no alias {alias!r} is served", param="model", code="model_not_found")
            earlier = _versions(project_id, alias).where(models.c.version < current.version)
            earlier = earlier.where(models.c.state == "promoted").order_by(models.c.version.desc()).limit(1)
            former = fetch_first(connection, ModelRecord, earlier)
            if former is None:
                raise Conflict(
                    f"{alias}@{current.version} is served, and no promoted version came before it",
                    param="model",
                    code="nothing_to_roll_back_to",
                )
            point_alias(connection, project_id, former)
        return former

    def delete_version(self, project_id: str, model: ModelRecord) -> None:
        """Raises Conflict while its alias serves it, a canary tries it, or an unfinished job made or names it. Its weights are
        removed once nothing needs them (`shared.jobs.retention`)."""
        with writing(self.engine) as connection:
            lock_alias(connection, project_id, model.alias)
            mine = models.c.id == model.id
            if connection.execute(select(models.c.id).where(mine, LIVE).with_for_update()).first() is None:
                raise no_model(f"{model.alias}@{model.version}")
            if connection.execute(select(aliases).where(aliases.c.model_id == model.id)).first() is not None:
                raise Conflict(
                    f"{model.alias} serves {model.alias}@{model.version}; promote another version or roll back first, or delete "
                    f"{model.alias} as a whole",
                    param="model",
                    code="version_is_served",
                )
            _refuse_use(connection, [model])
            connection.execute(update(models).where(mine).values(deleted_at=time.time()))

    def delete_alias(self, project_id: str, alias: str) -> None:
        """Delete an alias with all its versions. Raises NotFound, and Conflict while one is in use or a job trains another."""
        with writing(self.engine) as connection:
            lock_alias(connection, project_id, alias)
            mine = (models.c.project_id == project_id) & (models.c.alias == alias) & LIVE
            versions = fetch_all(connection, ModelRecord, select(models).where(mine).with_for_update())
            if not versions:
                raise no_model(alias)
            _refuse_use(connection, versions, trains=alias)
            connection.execute(delete(aliases).where(aliases.c.project_id == project_id, aliases.c.alias == alias))
            connection.execute(update(models).where(mine).values(deleted_at=time.time()))

    def served(self, project_id: str, alias: str) -> ModelRecord | None:
        """The version that the alias serves, if any."""
        with reading(self.engine) as connection:
            return fetch_first(connection, ModelRecord, _served(project_id, alias))

    def resolve(self, project_id: str, name: str) -> ModelRecord:
        """The version of an alias, alias@version or version id. Only names read from here reach the engine. Raises NotFound."""
        alias, at, version = name.partition("@")
        model = None if at else self.served(project_id, alias)
        with reading(self.engine) as connection:
            if not at and model is None:
                query = select(models).where(models.c.project_id == project_id, models.c.id == name, LIVE)
                model = fetch_first(connection, ModelRecord, query)
            elif version.isdecimal() and len(version) < 10:
                query = _versions(project_id, alias).where(models.c.version == int(version))
                model = fetch_first(connection, ModelRecord, query)
        if model is None:
            raise no_model(name)
        return model

    def has_versions(self, project_id: str, alias: str) -> bool:
        """Whether the alias has versions, served or not."""
        with reading(self.engine) as connection:
            return connection.execute(_versions(project_id, alias).limit(1)).first() is not None

    def models(self, project_id: str) -> list[tuple[ModelRecord, bool]]:
        """All versions, newest first, each with whether its alias serves it."""
        serving = select(aliases.c.model_id).where(aliases.c.project_id == project_id)
        query = select(models).where(models.c.project_id == project_id, LIVE).order_by(models.c.id.desc())
        with reading(self.engine) as connection:
            served = set(connection.execute(serving).scalars())
            return [(model, model.id in served) for model in fetch_all(connection, ModelRecord, query)]
