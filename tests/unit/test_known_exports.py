"""Rows as known tools and datasets export them, by their field names: each is recognised, or refused with a mapping that a person would
choose. One line an export; all texts are ours."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.data import Question
from shared.contracts.field_names import is_id
from shared.contracts.file_reading import ReadOptions
from shared.importing.dataset import DataFile, check

U, A = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
Q, QA = {"question": "q"}, {"question": "q", "reference": "a"}
PAIR = QA | {"rejected": "b"}
B = {"role": "assistant", "content": "b"}
OPTIONS = {"question": "q\nA. x\nB. a", "reference": "B. a"}
EXPORTS: dict[str, tuple[dict[str, Any], dict[str, str] | str]] = {
    # instruction sets, chat logs, preferences
    "openhermes": ({"custom_instruction": None, "topic": "t", "model_name": None, "conversations": TURNS, "source": "s", "skip_prompt_formatting": None, "hash": None, "views": None}, QA),
    "ultrachat": ({"prompt": "q", "prompt_id": "p", "messages": [U, A]}, QA),
    "dolly": ({"instruction": "q", "context": "", "response": "a", "category": "open_qa"}, QA),
    "openorca": ({"id": "flan.1", "system_prompt": "", "question": "q", "response": "a"}, QA),
    "slimorca": ({"conversations": [{"from": "system", "value": "", "weight": None}, {**TURNS[0], "weight": 0}, {**TURNS[1], "weight": 1}]}, QA),
    "wizardlm evol": ({"idx": "1", "conversations": TURNS}, QA),
    "wizardlm 70k": ({"instruction": "q", "output": "a"}, QA),
    "capybara": ({"source": "s", "conversation": [{"input": "q", "output": "a"}]}, QA),
    "lmsys-chat": ({"conversation_id": "c", "model": "m", "conversation": [U, A], "turn": 1, "language": "English", "openai_moderation": [{"flagged": False}], "redacted": False}, QA),
    "wildchat": ({"conversation_hash": "c", "model": "m", "timestamp": "t", "conversation": [{**U, "toxic": False}, {**A, "toxic": False}], "turn": 1, "language": "English", "toxic": False}, QA),
    "tulu 3": ({"id": "t", "messages": [U, A], "source": "s"}, QA),
    "aya": ({"inputs": "q", "targets": "a", "language": "German", "language_code": "deu", "annotation_type": "original-annotations", "user_id": "u"}, QA),
    "xP3": ({"inputs": "q", "targets": "a", "language": "en", "split": "train", "template": "t", "dataset": "d", "config": None}, QA),
    "flan": ({"inputs": "q", "targets": "a", "task": "t"}, QA),
    "hh-rlhf": ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, PAIR),
    "ultrafeedback binarized": ({"prompt": "q", "prompt_id": "p", "chosen": [U, A], "rejected": [U, B], "messages": [U, A], "score_chosen": 8.0, "score_rejected": 2.0}, PAIR),
    "ultrafeedback": ({"source": "s", "instruction": "q", "models": ["m", "n"], "completions": [{"model": "m", "response": "a", "overall_score": 9}, {"model": "n", "response": "b", "overall_score": 2}], "correct_answers": ["None"], "incorrect_answers": ["None"]}, "--map reference=completions.0.response"),
    "HelpSteer": ({"prompt": "q", "response": "a", "helpfulness": 4, "correctness": 4, "coherence": 4, "complexity": 1, "verbosity": 1}, QA),
    "HelpSteer 2 preferences": ({"split": "train", "prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": -1, "preference_statement": "s"}, "--map reference=response_1"),
    "orca dpo pairs": ({"system": "", "question": "q", "chosen": "a", "rejected": "b"}, PAIR),
    "stack exchange preferences": ({"qid": 1, "question": "q", "answers": [{"answer_id": 2, "pm_score": 3, "selected": True, "text": "a"}], "date": "d", "metadata": ["https://x"]}, QA),
    "trl preferences": ({"prompt": [U], "chosen": [A], "rejected": [B]}, PAIR),
    # benchmarks
    "squad": ({"id": "s", "title": "T", "context": "c", "question": "q", "answers": {"text": ["a"], "answer_start": [0]}}, QA),
    "nq open": ({"question": "q", "answer": ["a"]}, QA),
    "natural questions": ({"id": "n", "question": {"text": "q", "tokens": ["q"]}, "document": {"title": "T", "url": "u", "html": "<p>h</p>"}, "long_answer_candidates": {"start_byte": [1]}, "annotations": {"id": ["i"], "short_answers": [{"text": ["a"], "start_byte": [1]}], "yes_no_answer": [-1]}}, "--map reference=annotations.short_answers.0.text"),
    "ms marco": ({"answers": ["a"], "passages": {"is_selected": [0, 1], "passage_text": ["c", "d"], "url": ["u", "v"]}, "query": "q", "query_id": 1, "query_type": "description", "wellFormedAnswers": []}, QA),
    "hotpot qa": ({"id": "h", "question": "q", "answer": "a", "type": "bridge", "level": "hard", "supporting_facts": {"title": ["T"], "sent_id": [0]}, "context": {"title": ["T"], "sentences": [["c"]]}}, QA),
    "trivia qa": ({"question": "q", "question_id": "t", "question_source": "s", "entity_pages": {"filename": []}, "search_results": {"url": []}, "answer": {"value": "a", "aliases": ["a", "A"], "normalized_value": "a"}}, QA),
    "medqa": ({"question": "q", "answer": "y", "options": {"A": "x", "B": "y"}, "meta_info": "step1", "answer_idx": "B"}, {"question": "q\nA. x\nB. y", "reference": "y"}),
    "mmlu": ({"question": "q", "subject": "anatomy", "choices": ["x", "a"], "answer": 1}, OPTIONS),
    "arc": ({"id": "M", "question": "q", "choices": {"text": ["x", "a"], "label": ["A", "B"]}, "answerKey": "B"}, OPTIONS),
    "medmcqa": ({"id": "m", "question": "q", "opa": "x", "opb": "a", "opc": "y", "opd": "z", "cop": 1, "choice_type": "single", "exp": "why", "subject_name": "Anatomy", "topic_name": None}, {"question": "q\nA. x\nB. a\nC. y\nD. z", "reference": "B. a"}),
    "gsm8k": ({"question": "q", "answer": "a"}, QA),
    "math": ({"problem": "q", "level": "Level 5", "type": "Algebra", "solution": "a"}, QA),
    "humaneval": ({"task_id": "H/0", "prompt": "q", "canonical_solution": "a", "test": "def check(f): ...", "entry_point": "f"}, QA),
    "mbpp": ({"task_id": 1, "text": "q", "code": "a", "test_list": ["assert f"], "test_setup_code": "", "challenge_test_list": []}, QA),
    "mbpp sanitized": ({"source_file": "f", "task_id": 1, "prompt": "q", "code": "a", "test_imports": [], "test_list": ["assert f"]}, QA),
    "spider": ({"db_id": "d", "query": "a", "question": "q", "query_toks": ["a"], "query_toks_no_value": ["a"], "question_toks": ["q"]}, QA),
    "bird": ({"question_id": 1, "db_id": "d", "question": "q", "evidence": "e", "SQL": "a", "difficulty": "simple"}, QA),
    "wikisql": ({"phase": 1, "question": "q", "table": {"header": ["h"], "rows": [["r"]]}, "sql": {"human_readable": "a", "sel": 1, "agg": 0, "conds": {"column_index": [1]}}}, QA),
    "nl2bash": ({"nl": "q", "cmd": "a"}, QA),
    "boolq": ({"question": "q", "answer": True, "passage": "c"}, {"question": "q", "reference": "True"}),
    "truthful qa": ({"type": "Adversarial", "category": "c", "question": "q", "best_answer": "a", "correct_answers": ["a"], "incorrect_answers": ["b"], "source": "s"}, QA),
    # help desks, trackers, wikis, bots
    "zendesk csv": ({"Ticket ID": "1", "Subject": "s", "Description": "q", "Latest Comment": "a", "Status": "solved", "Requester": "r", "Tags": "t"}, "--map question=Description --map 'reference=Latest Comment'"),
    "zendesk": ({"id": 1, "subject": "s", "description": "q", "status": "solved", "comments": [{"id": 1, "body": "q", "public": True}, {"id": 2, "body": "a", "public": True}]}, "--map question=description --map reference=comments.0.body"),
    "zendesk macro": ({"Title": "q", "Comment/Description": "a", "Active": "true"}, "--map reference=Comment/Description"),
    "zendesk article": ({"id": 1, "title": "q", "body": "a", "html_url": "u", "locale": "de", "section_id": 2}, "--map reference=body"),
    "freshdesk": ({"id": 1, "subject": "s", "description_text": "q", "status": 5, "conversations": [{"body_text": "a", "incoming": False, "user_id": 2}]}, "--map question=description_text --map reference=conversations.0.body_text"),
    "freshdesk csv": ({"Ticket Id": "1", "Subject": "s", "Description": "q", "Resolution": "a", "Priority": "Low", "Agent": "x"}, "--map question=Description --map reference=Resolution"),
    "intercom": ({"id": "1", "title": None, "source": {"subject": "s", "body": "q", "author": {"type": "user", "name": "n"}}, "conversation_parts": {"conversation_parts": [{"body": "a", "author": {"type": "admin"}}]}}, "--map question=source.body --map reference=conversation_parts.conversation_parts.0.body"),
    "intercom article": ({"id": "1", "title": "q", "description": "d", "body": "a", "state": "published"}, "--map reference=body"),
    "jira csv": ({"Summary": "s", "Issue key": "A-1", "Issue Type": "Bug", "Status": "Done", "Description": "q", "Resolution": "Fixed", "Comment": "a"}, "--map question=Description --map reference=Comment"),
    "jira": ({"key": "A-1", "fields": {"summary": "s", "description": "q", "status": {"name": "Done"}, "comment": {"comments": [{"body": "a"}]}}}, "--map question=fields.description --map reference=fields.comment.comments.0.body"),
    "github issue": ({"number": 1, "title": "q", "body": "b", "state": "closed", "comments": [{"body": "a"}]}, "--map reference=comments.0.body"),
    "confluence": ({"id": "1", "type": "page", "title": "q", "body": {"storage": {"value": "a", "representation": "storage"}}}, "--map reference=body.storage.value"),
    "servicenow": ({"number": "INC1", "short_description": "s", "description": "q", "close_notes": "a", "state": "Closed"}, "--map question=description --map reference=close_notes"),
    "faq page": ({"Question": "q", "Answer": "a", "Category": "c"}, QA),
    "faq schema.org": ({"@type": "Question", "name": "q", "acceptedAnswer": {"@type": "Answer", "text": "a"}}, QA),
    "rasa": ({"intent": "hours", "examples": ["q"], "responses": ["a"]}, QA),
    "qna maker": ({"Question": "q", "Answer": "a", "Source": "s", "Metadata": "m", "QnaId": "1"}, QA),
    "discourse": ({"topic_id": 1, "topic_title": "q", "post": "b", "accepted_answer": "a"}, "--map question=topic_title --map reference=accepted_answer"),
    # other languages
    "german faq": ({"Frage": "q", "Antwort": "a", "Kategorie": "c"}, QA),
    "german tickets": ({"Ticketnummer": "1", "Betreff": "s", "Beschreibung": "q", "Lösung": "a", "Status": "zu"}, "--map question=Beschreibung --map reference=Lösung"),
    "german requests": ({"Kundenanfrage": "q", "Antworttext": "a"}, QA),
    "german mails": ({"Nachricht": "q", "Antwort": "a", "Datum": "d"}, QA),
    "german tasks": ({"Aufgabe": "q", "Musterlösung": "a"}, QA),
    "french faq": ({"Question": "q", "Réponse": "a", "Catégorie": "c"}, QA),
    "french tickets": ({"Numéro": "1", "Sujet": "s", "Demande": "q", "Solution": "a"}, QA),
    "french mails": ({"Message": "q", "Réponse": "a"}, QA),
    "french clients": ({"question_client": "q", "reponse_agent": "a"}, "--map question=question_client --map reference=reponse_agent"),
    "spanish faq": ({"Pregunta": "q", "Respuesta": "a", "Categoría": "c"}, QA),
    "spanish tickets": ({"ID": "1", "Asunto": "s", "Consulta": "q", "Solución": "a"}, QA),
    "spanish tasks": ({"instrucción": "q", "salida": "a"}, QA),
    "chinese faq": ({"问题": "q", "答案": "a", "分类": "c"}, QA),
    "chinese service": ({"用户问题": "q", "客服回复": "a"}, QA),
    "chinese instructions": ({"指令": "q", "输入": "", "输出": "a"}, QA),
    "chinese forum": ({"标题": "s", "提问内容": "q", "最佳答案": "a"}, QA),
    "chinese medicine": ({"department": "内科", "title": "s", "ask": "q", "answer": "a"}, QA),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_recognised_or_gets_a_mapping_that_works(name: str, tmp_path: Path):
    row, expected = EXPORTS[name]
    path = tmp_path / "rows.jsonl"
    rows = [{field: f"{part}{n}" if is_id(field) else part for field, part in row.items()} for n in range(2)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    checked = check(DataFile.open(path), None, 9, 99)
    if isinstance(expected, dict):
        assert checked.errors == []
        made = [
            item.model_dump(include={*PAIR}, exclude_none=True)
            for item in DataFile.open(path).rows()
            if isinstance(item, Question)
        ]
        assert made == [expected] * 2
        return
    assert [error.message for error in checked.errors if expected in error.message] != [], (
        checked.errors or checked.reading
    )
    words = shlex.split(
        " ".join(re.findall(r"--map '[^']+'|--map \S+[^,\s]", checked.errors[0].message.partition(", or say")[0]))
    )
    mapping = dict(word.split("=", 1) for word in words if word != "--map")
    again = check(DataFile.open(path, ReadOptions.model_validate({"mapping": mapping})), None, 9, 99)
    assert again.errors == []
    assert again.reading.references == again.n_rows > 0
