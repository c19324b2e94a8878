"""Which of several answers to a question are the same, by a grader's own equality, on this machine."""

import asyncio

from shared.contracts.rows import AnswerGroup, Sampled, Votes
from shared.grading.agreement import Voter
from shared.platform.run_rows import OnProgress


def votes_of(voter: Voter, row: Sampled) -> Votes:
    agreement = voter.agreement(row.texts)
    groups = [AnswerGroup(members=list(group.members), share=group.share) for group in agreement.groups]
    return Votes(id=row.id, groups=groups, unread=list(agreement.unread))


async def agree(voter: Voter, rows: list[Sampled], progress: OnProgress) -> tuple[list[Votes], dict[str, int]]:
    """The groups of each row's answers, and counts: all answers, those that say nothing to the grader, rows where no two agree.

    Runs in a thread, so that the step's lease is renewed while queries run.
    """
    votes: list[Votes] = []
    for row in rows:
        votes.append(await asyncio.to_thread(votes_of, voter, row))
        progress(len(votes), len(rows))
    return votes, {
        "n": sum(len(row.texts) for row in rows),
        "unread": sum(len(row.unread) for row in votes),
        "without_agreement": sum(all(len(group.members) < 2 for group in row.groups) for row in votes),
    }
