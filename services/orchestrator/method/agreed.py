"""The teacher's answer by agreement: of several samples of a question one that most of them agree on (self-consistency, Wang et al. 2022,
arXiv 2203.11171). Answers are the same where the job's grader says so: equal results of queries, equal numbers, equal languages."""

from collections import Counter
from collections.abc import Callable, Sequence

from services.orchestrator.method.grading import Grading
from shared.contracts.data import Question
from shared.contracts.phase_records import AgreementRecord
from shared.contracts.rows import Sampled, TeacherResponse, Votes
from shared.contracts.step_key import StepKey

NO_AGREEMENT = "no_agreement"
LEAST_VOTES = 2  # one answer alone agrees with nothing


async def most_agreed(
    grading: Grading,
    key: StepKey,
    asked: Sequence[tuple[Question, TeacherResponse]],
    checked: Callable[[TeacherResponse, Question], TeacherResponse],
) -> list[TeacherResponse]:
    """Of each response the sample that most samples agree on, with their share of all as its `share`; its outcome is no_agreement where
    no two usable ones agree. checked: a sample with its outcome. Where no sample is usable the response stays as it is."""
    usable = [
        [sample for one in response.each() if (sample := checked(one, question)).outcome == "ok"]
        for question, response in asked
    ]
    rows = [
        Sampled(id=question.id, texts=[sample.answer for sample in samples])
        for (question, _), samples in zip(asked, usable, strict=True)
        if len(samples) >= LEAST_VOTES
    ]
    votes: dict[str, Votes] = {}
    if rows:
        votes = {row.id: row for row in await grading.votes(key, rows)}
    return [
        _chosen(response, checked(response, question), samples, votes.get(question.id))
        for (question, response), samples in zip(asked, usable, strict=True)
    ]


def _chosen(
    response: TeacherResponse, first: TeacherResponse, samples: Sequence[TeacherResponse], votes: Votes | None
) -> TeacherResponse:
    if not samples:
        return first
    asked, groups = len(response.samples), votes.groups if votes else []
    members = groups[0].members if groups else []
    if len(members) < LEAST_VOTES:
        return samples[0].model_copy(update={"outcome": NO_AGREEMENT, "share": 1 / asked})
    return samples[members[0]].model_copy(update={"share": len(members) / asked})


def distinct_samples(response: TeacherResponse) -> list[TeacherResponse]:
    """Every distinct text of a response's samples, in the order in which they came; share: of all samples, how many are this text."""
    samples = response.each() or [response]
    times = Counter((sample.outcome, sample.completion) for sample in samples)
    first = {(sample.outcome, sample.completion): sample for sample in reversed(samples)}
    return [first[text].model_copy(update={"share": count / len(samples)}) for text, count in times.items()]


def agreement_of(samples: int, responses: Sequence[TeacherResponse]) -> AgreementRecord | None:
    """For the report; None where each question was asked once. samples: asked for each question."""
    shares = [response.share for response in responses if response.share is not None]
    if not shares:
        return None
    votes = Counter(round(share * samples) for share in shares)
    return AgreementRecord(
        samples=samples,
        mean=round(sum(shares) / len(shares), 4),
        questions_by_votes={str(count): votes[count] for count in range(1, samples + 1)},
    )
