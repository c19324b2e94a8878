"""Conversations that are written as one text: chat templates, and lines that begin with the speaker's name. Pure functions."""

import re

from shared.contracts.json_types import Json

SPEAKERS = {
    "human": "user", "user": "user", "customer": "user", "client": "user", "prompter": "user", "instruction": "user",
    "question": "user", "input": "user", "kunde": "user", "cliente": "user", "пользователь": "user", "клиент": "user", "用户": "user",
    "assistant": "assistant", "bot": "assistant", "ai": "assistant", "agent": "assistant", "chatbot": "assistant", "gpt": "assistant",
    "response": "assistant", "answer": "assistant", "model": "assistant", "output": "assistant", "berater": "assistant",
    "бот": "assistant", "оператор": "assistant", "ассистент": "assistant", "助手": "assistant",
    "system": "system",
}  # fmt: skip
NAMES = "|".join(sorted(SPEAKERS, key=len, reverse=True))
TEMPLATES = [  # each with the speaker's name as its group; what stands up to the next one is said
    re.compile(r"<\|im_start\|>\s*(\w+)[ \t]*\n?"),
    re.compile(r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>\s*"),
    re.compile(r"<start_of_turn>\s*(\w+)\s*"),
    re.compile(r"<\|(system|user|assistant)\|>\s*"),
    re.compile(rf"(?:^|\n)\s*#{{2,3}} *({NAMES}) *:? *\n?", re.I),
    re.compile(rf"(?:^|\n)\s*\**({NAMES})\** ?[:：] ?", re.I),
]  # fmt: skip
ENDS = re.compile(
    r"<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|<\|end\|>|<\|begin_of_text\|>|<\|endoftext\|>|</?s>|<bos>|<eos>"
)
INST = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=\[INST\]|$)", re.S)
SYS = re.compile(r"<<SYS>>(.*?)<</SYS>>", re.S)


def spoken(text: str) -> list[Json] | None:
    """The messages of a text that holds a question and an answer at least; None for any other text."""
    if "[INST]" in text:
        return _inst(text)
    for template in TEMPLATES:
        parts = template.split(text)
        roles = [SPEAKERS.get(name.casefold()) for name in parts[1::2]]
        if "user" in roles and "assistant" in roles[roles.index("user") :] and None not in roles:
            said = (ENDS.sub("", part).strip() for part in parts[2::2])
            before = ENDS.sub("", parts[0]).strip()
            turns = [{"role": role, "content": part} for role, part in zip(roles, said, strict=True) if part]
            return [{"role": "system", "content": before}, *turns] if before else turns
    return None


def _inst(text: str) -> list[Json] | None:
    turns: list[Json] = []
    for asked, answered in INST.findall(text):
        system = SYS.search(asked)
        if system and system[1].strip():
            turns.append({"role": "system", "content": system[1].strip()})
        turns.append({"role": "user", "content": SYS.sub("", asked).strip()})
        if said := ENDS.sub("", answered).strip():
            turns.append({"role": "assistant", "content": said})
    return turns if any(turn["role"] == "assistant" for turn in turns) else None
