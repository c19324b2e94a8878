"""What an OTLP receiver was sent."""

from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.fakes.receiver import Receiver


class Seen(NamedTuple):
    service: str
    name: str
    span_id: str
    parent: str
    trace: str
    attributes: dict[str, str]


def spans_of(receiver: Receiver) -> list[Seen]:
    made = []
    for message in receiver.at("/v1/traces"):
        for resource in ExportTraceServiceRequest.FromString(message.body).resource_spans:
            service = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {one.key: str(one.value) for one in span.attributes}
                    ids = (span.span_id.hex(), span.parent_span_id.hex(), span.trace_id.hex())
                    made.append(Seen(service, span.name, *ids, attributes))
    return made
