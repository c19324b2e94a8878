"""The process that takes the text out of one document: `python -m shared.importing.extract KIND <FILE >TEXT`.

A stranger's file reaches parsers here, so the process first limits itself. It needs no package of this project that is slow to
load. Exit code 0: the text was written; BAD: a sentence that says what is wrong with the document.
"""

import io
import re
import resource
import sys
from collections.abc import Callable

BAD = 3
CPU_S = 60
MEMORY = 2**30  # bytes of address space
TEXT_BYTES = 10 * 2**20  # longest text
CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)


class BadDocument(Exception):
    """What is wrong with the document, and what helps."""


def limit() -> None:
    """Processor time, memory, length of the result; no file but the open ones can be written."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (TEXT_BYTES, TEXT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def pdf_text(content: bytes) -> str:
    """Pages in order. Raises BadDocument for an encrypted file and for one of pictures only."""
    import logging

    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise BadDocument("encrypted PDF; save it without a password")
        pages = [page.extract_text() for page in reader.pages]
    except (DependencyError, FileNotDecryptedError) as error:
        raise BadDocument("encrypted PDF; save it without a password") from error
    if not any(page.strip() for page in pages):
        raise BadDocument("PDF without text, as of a scanner; run text recognition (OCR) on it first")
    return "\n\n".join(pages)


def docx_text(content: bytes) -> str:
    """Word to HTML by mammoth, whose lists, tables, footnotes and headings become Markdown. Pictures are not read."""
    import mammoth

    from shared.importing.html_text import html_to_markdown

    def no_picture(_image: object) -> dict[str, str]:
        return {}

    made = mammoth.convert_to_html(io.BytesIO(content), convert_image=mammoth.images.img_element(no_picture))
    return html_to_markdown(made.value)


def html_text(content: bytes) -> str:
    """In the encoding that the page names, else as any text."""
    from shared.importing.html_text import html_to_markdown

    return html_to_markdown(decoded(content, CHARSET.search(content[:4096])))


def decoded(content: bytes, named: re.Match[bytes] | None = None) -> str:
    from shared.importing.encodings import UTF8, encoding_of

    encoding = encoding_of(io.BytesIO(content))
    names = [encoding.name] if encoding.name != UTF8 or not encoding.mixed else []
    if named and not content.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        names.insert(0, named.group(1).decode())
    for name in names:
        try:
            return content.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    raise BadDocument("text in mixed encodings; save it as UTF-8")


def plain_text(content: bytes) -> str:
    text = decoded(content)
    if "\x00" in text:
        raise BadDocument("not a text, whatever its name says")
    return text


KINDS: dict[str, Callable[[bytes], str]] = {"pdf": pdf_text, "docx": docx_text, "html": html_text, "text": plain_text}


def main() -> int:
    limit()
    try:
        text = KINDS[sys.argv[1]](sys.stdin.buffer.read())
        result, code = text.encode(errors="replace"), 0
    except BadDocument as error:
        result, code = str(error).encode(), BAD
    except MemoryError:
        result, code = b"needs too much memory to be read; divide it", BAD
    except Exception as error:  # a parser met what it was not made for
        result, code = f"damaged {sys.argv[1].upper()} ({type(error).__name__})".encode(), BAD
    if len(result) > TEXT_BYTES:
        result, code = f"holds more than {TEXT_BYTES} bytes of text; divide it".encode(), BAD
    sys.stdout.buffer.write(result)
    sys.stdout.buffer.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
