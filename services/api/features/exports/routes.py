"""/v1/exports: what POST /v1/models/{model}/export has begun, and its files."""

from fastapi.responses import Response

from services.api.deps import Context, Id, needs
from services.api.features.exports import service as exports
from services.api.features.jobs.lifecycle_routes import add_control_routes, add_read_routes
from services.api.responses.downloads import IfRange, Range, download_responses, downloaded
from services.api.router import Router
from shared.contracts.exports import ExportObject
from shared.contracts.keys import Scope

router = Router(tags=["exports"], dependencies=[needs(Scope.JOBS)])
PREFIX = "/v1/exports"
MEDIA = {"tar": "application/x-tar", "json": "application/json", "md": "text/markdown; charset=utf-8"}

add_read_routes(router, exports.lifecycle, ExportObject, PREFIX)
add_control_routes(router, exports.lifecycle, ExportObject, PREFIX)


@router.get(
    PREFIX + "/{export_id}/content/{name}",
    response_class=Response,
    responses=download_responses(
        {
            "application/x-tar": {"type": "string", "format": "binary"},
            "application/json": {"type": "object"},
            "text/markdown": {"type": "string"},
        }
    ),
)
def get_export_content(
    context: Context, export_id: Id, name: Id, range_header: Range = "", if_range: IfRange = ""
) -> Response:
    """The file, or with `Range: bytes=...` one part of it. Several parts at once are not served: the whole file is."""
    download, parts = exports.content(context, export_id, name)
    media = MEDIA[download.name.rpartition(".")[2]]
    return downloaded(parts, download.sha256, download.name, media, range_header, if_range)
