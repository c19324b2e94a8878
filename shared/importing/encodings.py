"""The encoding of a text file: a byte order mark, UTF-8, or what charset-normalizer finds in its lines that are not ASCII."""

import codecs
from typing import BinaryIO, NamedTuple

from charset_normalizer import from_bytes

UTF8 = "utf-8"
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CHUNK = 1 << 20
SAMPLE = 1 << 18  # bytes of lines with other characters than ASCII that the guess is made from
LIKELY = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "mac_roman"),
    *("gb18030", "big5", "cp932", "euc_jp", "euc_kr"),
)


class Encoding(NamedTuple):
    """name: a codec of Python. mixed: some lines are UTF-8 and others are not, so no single encoding reads the file."""

    name: str
    mixed: bool = False


def encoding_of(file: BinaryIO) -> Encoding:
    """Reads the file from its current place to its end, unless its first bytes tell."""
    head = file.read(4)
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return Encoding(name)
    head += file.read(CHUNK - len(head))
    wide = _without_mark(head)
    if wide:
        return Encoding(wide)
    sample, utf8, other = bytearray(), 0, 0
    decoder = codecs.getincrementaldecoder(UTF8)()
    rest = b""
    valid = True
    while head:
        if valid:
            try:
                decoder.decode(head)
            except UnicodeDecodeError:
                valid = False
        if len(sample) < SAMPLE:  # each chunk's lines are looked at until the sample is full
            *lines, rest = (rest + head).split(b"\n")
            rest = rest[-CHUNK:]
            for line in lines:
                if line.isascii() or len(sample) >= SAMPLE:
                    continue
                sample += line + b"\n"
                if _is_utf8(line):
                    utf8 += 1
                else:
                    other += 1
        elif not valid:
            break
        head = file.read(CHUNK)
    if valid:
        return Encoding(UTF8)
    if rest and not rest.isascii():
        sample += rest
        utf8, other = (utf8 + 1, other) if _is_utf8(rest) else (utf8, other + 1)
    if utf8:
        return Encoding(UTF8, mixed=True)
    return Encoding(_guess(bytes(sample[: 2 * SAMPLE])))


def _guess(sample: bytes) -> str:
    best = from_bytes(sample, cp_isolation=list(LIKELY)).best()
    if best is None or "cp1252" in best.could_be_from_charset:
        return "cp1252"
    return best.encoding


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode(UTF8)
    except UnicodeDecodeError:
        return False
    return True


def _without_mark(head: bytes) -> str:
    """UTF-16 without a byte order mark: every second byte of ASCII text is zero."""
    pairs = head[: len(head) // 2 * 2]
    if len(pairs) < 4:
        return ""
    if pairs[1::2].count(0) > len(pairs) * 0.4:
        return "utf-16-le"
    return "utf-16-be" if pairs[::2].count(0) > len(pairs) * 0.4 else ""
