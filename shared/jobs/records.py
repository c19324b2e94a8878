"""What the stores return: one type per table."""

from sqlalchemy import Row

JobRecord = Row
StepRecord = Row
FileRecord = Row
ModelRecord = Row
EventRecord = Row
WebhookRecord = Row
DeliveryRecord = Row
ApiKeyRecord = Row
ProjectRecord = Row
AuditRecord = Row
CanaryRecord = Row
LabelRecord = Row
WorkerRecord = Row
AnswerRecord = Row
ClaimedDelivery = Row
