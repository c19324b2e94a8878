"""Checks of a posted job that ask something outside this process: side by side, each bounded, and all of them together too.

What does not answer in time is told as a warning: it may well answer when the job comes to it.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from services.api.features.jobs.checks import Check, Findings, findings_of
from services.api.features.jobs.posted import Posted
from services.api.gateway_client import Answered, NoAnswer
from shared.contracts.json_types import Json
from shared.contracts.problems import Problem, warning
from shared.contracts.rows import ComparisonInput, JudgeInput
from shared.contracts.steps import StepKind

ALL_S = 10.0
CALL_S = 8.0
THREADS = 8
REMEDIES = {  # codes of the gateway that the job's owner has to do something about -> what
    "teacher_auth_failed": "put the provider's key into the setting that is named, and restart the gateway",
    "teacher_access_denied": "ask the provider for access to this model, or name another provider",
    "teacher_model_not_found": "name a model that the provider has in its setting that the message names",
    "teacher_quota_exhausted": "pay the provider, or name another one",
    "teacher_rejected": "change the setting of the provider or of the job that the message names",
    "teacher_refused_row": "it refuses even a made-up question: change what its message names, or name another provider",
    "teacher_prompt_too_long": "name a model with a larger context: a question of a few words is too long for it",
    "teacher_misconfigured": "fix the provider's address, certificate or proxy that is named",
    "teacher_not_configured": "METEOR_TEACHER_BASE_URL or METEOR_PROVIDERS_FILE names a strong model",
    "model_not_found": "name a model that the provider has",
}
UNREADABLE = "name another judge in distillation.judge.provider, or raise distillation.judge.max_tokens"


def live_findings(
    jobs: Sequence[Posted], checks: Sequence[Check] | None = None, all_s: float = ALL_S
) -> list[Findings]:
    """Per job what its live checks find; all of them together take all_s seconds at most. What jobs have in common is asked once."""
    checks = LIVE if checks is None else checks
    asked: dict[str, list[tuple[Check, Future[Findings]]]] = {}
    pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="check")
    try:
        for job in jobs:
            _ = job.asks_judge  # the rows are read before the threads begin, not by each of them
            if _asking(job) not in asked:
                asked[_asking(job)] = [(check, pool.submit(findings_of, job, [check])) for check in checks]
        wait([future for futures in asked.values() for _, future in futures], timeout=all_s)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    findings = {key: _joined(futures, all_s) for key, futures in asked.items()}
    return [findings[_asking(job)] for job in jobs]


def _asking(job: Posted) -> str:
    """What the live checks of a job depend on."""
    spec = job.spec
    parts = (spec.teacher, spec.judge, spec.primary_metric, spec.domain, job.asks_teacher, job.asks_judge)
    return repr((*parts, job.request.model, job.request.training_file))


def _joined(futures: Sequence[tuple[Check, Future[Findings]]], all_s: float) -> Findings:
    findings = Findings([], [])
    for check, future in futures:
        if future.done() and not future.cancelled():
            findings.problems.extend(future.result().problems)
            findings.right.extend(future.result().right)
        else:
            message = f"the check of the {check.__name__} did not end within {all_s:.0f} s, so nothing is known of it"
            findings.problems.append(warning("not_checked", message))
    return findings


def teacher(posted: Posted) -> Iterator[Problem | str]:
    """The teacher answers one cheap call, sent as the job will send its own."""
    spec = posted.spec.teacher
    if not posted.asks_teacher:
        return
    messages = [
        {"role": "system", "content": f"You are an expert in this field: {posted.spec.domain}."},
        {"role": "user", "content": f"Reply with the one word yes. ({_word()})"},
    ]

    def asked(ask: Callable[[Json], Answered]) -> Answered | Problem:
        body = {"messages": messages, "max_tokens": spec.max_tokens, "temperature": spec.temperature}
        return ask(body)

    yield from _provider(posted, "teacher", spec.provider, (spec.max_tokens, spec.temperature), asked)


def judge(posted: Posted) -> Iterator[Problem | str]:
    """The judge gives a verdict that can be read, on one question that is made up, by its own prompt and reader."""
    spec = posted.spec.judge
    if not posted.asks_judge or posted.plan is None:
        return
    kinds = {step.kind for stage in posted.plan.stages for step in stage.steps if step.most.total}
    reviews = StepKind.REVIEW in kinds

    def asked(ask: Callable[[Json], Answered]) -> Answered | Problem:
        from shared.judging import prompts, replies  # here: the graders' libraries take half a second

        kind = replies.Decision if reviews else replies.Choice
        messages = _planted(prompts, posted.spec.domain, reviews)
        form, read = (replies.analysed(kind), replies.read_analysed) if spec.analysis else (kind, replies.read)
        messages = prompts.with_analysis(messages) if spec.analysis else messages
        body = {"max_tokens": spec.max_tokens, "temperature": 0.0, "response_format": form.format()}
        answer = ask(body | {"messages": messages})
        if read(kind, answer.text, answer.cut_off)[0] is None:
            again = prompts.repair_messages(messages, answer.text, list(form.model_fields))
            answer = ask(body | {"messages": again})
            if read(kind, answer.text, answer.cut_off)[0] is None:
                shown = " ".join(answer.text.split())[:200] or "nothing"
                cut = ", cut off at its limit of tokens" if answer.cut_off else ""
                return Problem(
                    code="judge_unreadable",
                    param="distillation.judge",
                    message=f"the judge {spec.provider!r} was asked twice for a verdict on a made-up answer, and what it wrote "
                    f"is none ({shown}{cut})",
                    remedy=UNREADABLE,
                )
        return answer

    yield from _provider(posted, "judge", spec.provider, (spec.max_tokens, reviews, spec.analysis), asked)


def _planted(prompts, domain: str, reviews: bool) -> list[dict[str, str]]:
    """A question with a wrong answer, or with a right one beside it, that no cache can answer."""
    one, other = random.randint(100, 999), random.randint(100, 999)  # noqa: S311
    question, right, wrong = f"What is {one} plus {other}?", str(one + other), str(one + other + 7)
    if reviews:
        row = JudgeInput(id="check", question=question, reference=right, answer=wrong, want_critique=False)
        return prompts.review_messages(domain, row)
    pair = ComparisonInput(id="check", question=question, reference=right, first=right, second=wrong)
    return prompts.compare_messages(domain, pair)


def _provider(
    posted: Posted,
    role: str,
    name: str,
    key: tuple[object, ...],
    asked: Callable[[Callable[[Json], Answered]], Answered | Problem],
) -> Iterator[Problem | str]:
    """asked: asks by the function that it is given. key: what else of the job's settings the answer depends on."""
    providers, deadline = posted.context.providers, time.monotonic() + CALL_S
    if posted.prices is None or name not in posted.prices:
        return
    place = (role, name, posted.context.project, *key)
    answer = providers.kept(place)
    if answer is None:
        try:
            if (state := providers.unready().get(name)) is not None:
                raise state

            def ask(body: Json) -> Answered:
                left = max(deadline - time.monotonic(), 0.1)
                return providers.ask(posted.context.project, {"model": name} | body, left)

            result = asked(ask)
        except NoAnswer as error:
            yield _unanswered(role, name, error)
            return
        if isinstance(result, Problem):
            yield result
            return
        providers.keep(place, answer := result)
    if not answer.text.strip():
        limit = f"distillation.{role}.max_tokens"
        yield warning(
            f"{role}_empty",
            f"the {role} {name!r} answered a short question with an empty text",
            f"does it think first? raise {limit}",
            limit,
        )
        return
    when = "a short time ago" if answer.kept else f"in {answer.seconds:.1f} s"
    yield f"the {role} {name!r} answered {when}"


def _unanswered(role: str, name: str, error: NoAnswer) -> Problem:
    param, remedy = f"distillation.{role}.provider", REMEDIES.get(error.code or "")
    if remedy is None:
        return warning(
            error.code or "not_checked",
            f"the {role} {name!r} did not answer a short question: {error.message}",
            "the job is accepted, and its steps wait for it and try again",
            param,
        )
    return Problem(
        code=str(error.code), param=param, message=f"the {role} {name!r} refuses calls: {error.message}", remedy=remedy
    )


def _word() -> str:
    """That no cache has seen."""
    return f"{random.getrandbits(32):08x}"


LIVE: tuple[Check, ...] = (teacher, judge)
