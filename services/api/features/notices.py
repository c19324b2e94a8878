"""Notices as the API shows them."""

from shared.contracts.notices import NoticeObject
from shared.jobs.records import NoticeRecord


def notice_object(notice: NoticeRecord) -> NoticeObject:
    return NoticeObject(
        id=notice.id,
        created_at=int(notice.created_at),
        level=notice.level,
        type=notice.type,
        message=notice.message,
        data=notice.data,
    )
