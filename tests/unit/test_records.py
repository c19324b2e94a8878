"""Each record has the columns of its table: stores build it from a row by position."""

from dataclasses import fields

import pytest
from sqlalchemy import Table

from shared.jobs import records, tables
from shared.ledger import records as ledger_records
from shared.ledger import tables as ledger_tables

RECORDS = {
    tables.projects: records.ProjectRecord,
    tables.api_keys: records.ApiKeyRecord,
    tables.audit: records.AuditRecord,
    tables.answers: records.AnswerRecord,
    tables.files: records.FileRecord,
    tables.jobs: records.JobRecord,
    tables.steps: records.StepRecord,
    tables.events: records.EventRecord,
    tables.models: records.ModelRecord,
    tables.canaries: records.CanaryRecord,
    tables.notices: records.NoticeRecord,
    tables.recipes: records.RecipeRecord,
    tables.recipe_runs: records.RecipeRunRecord,
    tables.workers: records.WorkerRecord,
    tables.tallies: records.TallyRecord,
    tables.integrations: records.IntegrationRecord,
    tables.labels: records.LabelRecord,
    tables.chats: records.ChatRecord,
    tables.feedback: records.FeedbackRecord,
    tables.chat_origins: records.ChatOriginRecord,
    tables.captures: records.CaptureRecord,
    tables.webhooks: records.WebhookRecord,
    tables.deliveries: records.DeliveryRecord,
    ledger_tables.calls: ledger_records.CallRecord,
    ledger_tables.batches: ledger_records.BatchRecord,
    ledger_tables.accounts: ledger_records.AccountRecord,
}


@pytest.mark.parametrize("table", RECORDS, ids=lambda table: table.name)
def test_a_record_has_a_field_per_column_in_order(table: Table):
    assert [field.name for field in fields(RECORDS[table])] == [column.name for column in table.columns]
