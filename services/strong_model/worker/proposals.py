"""Topics and questions that a strong model proposes for a domain: what it is asked, and what of its reply can be used.

A change of the prompts raises the version of StepKind.PROPOSE.
"""

from services.strong_model.worker.question_lists import read_questions, read_topics, unread, usable, usable_topic
from shared.contracts.coverage import Proposal, Proposed, ProposeParams
from shared.contracts.errors import RowRefused
from shared.platform.gateway_client import GatewayClient
from shared.platform.run_rows import OnProgress, run_rows

LIST = "Reply with a JSON list of strings and nothing else."
INTRODUCED = {
    "passage": "The questions are about what is said here; whoever answers them does not see it:",
    "log": "Questions of this kind were answered badly, so more of their kind are wanted, not the same:",
}


def propose_messages(params: ProposeParams, wanted: Proposal) -> list[dict[str, str]]:
    if wanted.topic:
        rules = (
            f"You write questions that people ask an expert in this field: {params.domain}. Each question can be understood "
            f"and answered by itself: it names what it is about, and never speaks of a text or a list. {LIST}"
        )
        task = [f"Topic: {wanted.topic}\nLevel or kind: {wanted.level}"]
        task += [f"{INTRODUCED[wanted.origin]}\n" + "\n".join(wanted.material)] if wanted.origin else []
        task.append(f"Write {wanted.count} different questions of this topic.")
        task += ["They are none of these, in other words either:\n" + _listed(wanted.known)] if wanted.known else []
    else:
        rules = f"You plan a set of examination questions in this field: {params.domain}. {LIST}"
        task = []
        if wanted.origin:
            task.append("The field shows in these examples:\n" + _listed(wanted.material))
        task.append(
            f"Name {wanted.count} different topics that together cover the field. Each is a few words, and none is a part of another."
        )
        task += ["They are none of these:\n" + _listed(wanted.known)] if wanted.known else []
    return [{"role": "system", "content": rules}, {"role": "user", "content": "\n\n".join(task)}]


def _listed(texts: list[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


async def propose(
    gateway: GatewayClient, params: ProposeParams, rows: list[Proposal], progress: OnProgress
) -> tuple[list[Proposed], dict[str, int]]:
    """Proposals in the order of the rows, and counts. Raises what GatewayClient.chat raises."""

    async def ask(wanted: Proposal) -> Proposed:
        try:
            reply = await gateway.chat(
                model=params.teacher,
                messages=propose_messages(params, wanted),
                max_tokens=params.max_tokens,
                temperature=params.temperature,
                seed=params.seed,
                example_id=wanted.id,
            )
        except RowRefused:
            return Proposed(id=wanted.id, items=[])
        return proposed(wanted, reply.text, reply.finish_reason == "length")

    made = await run_rows(ask, rows, progress)
    return made, {
        "items": sum(len(item.items) for item in made),
        "dropped": sum(item.dropped for item in made),
        "unparsed": sum(item.unparsed for item in made),
    }


def proposed(wanted: Proposal, reply: str, cut_off: bool) -> Proposed:
    """What can be used of a reply."""
    read, fits = (read_questions, usable) if wanted.topic else (read_topics, usable_topic)
    items = read(reply, cut_off)
    if items is None:
        return Proposed(id=wanted.id, items=[], unparsed=True, why=unread(reply, cut_off))
    kept = [" ".join(item.split()) for item in dict.fromkeys(items) if fits(item)]
    return Proposed(id=wanted.id, items=kept, dropped=len(items) - len(kept))
