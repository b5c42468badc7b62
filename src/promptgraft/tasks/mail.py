"""The SpamAssassin corpus, and what a person reads of a mail."""

import email
import html
import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message

from promptgraft.packs.fetch import extract
from promptgraft.tasks.labelled import Labelled
from promptgraft.tasks.packed_texts import from_texts

_CLASSES = {"easy-ham-1": "ham", "easy-ham-2": "ham", "hard-ham-1": "ham", "spam-1": "spam", "spam-2": "spam"}


def spam() -> Labelled:
    """6046 mails of 2002, subject and text: ham or spam; mails with one subject (a thread) stay on one side.

    Easy: most ham comes from a few mailing lists, whose topics, tags and footers give it away.
    """
    folder = extract("spam", [f"package/data/{part}" for part in _CLASSES]) / "package/data"
    files = [(file, label) for part, label in _CLASSES.items() for file in sorted(folder.glob(f"{part}/*.txt"))]
    mails = [read_mail(file.read_bytes()) for file, _ in files]
    threads = [_thread(subject) or text for subject, text in mails]
    texts = [f"{subject}\n{text}" for subject, text in mails]
    return from_texts(texts, [label for _, label in files], {"ham": "ham", "spam": "spam"}, groups=threads)


def read_mail(raw: bytes) -> tuple[str, str]:
    """Subject and text of a mail, each on one line, without HTML tags; "" for what it has not.

    The text is that of the first plain part, or else of the first HTML part; attachments are not read.
    """
    mail = email.message_from_bytes(raw)
    parts = {part.get_content_type(): part for part in reversed([*mail.walk()])}
    text = ""
    if "text/plain" in parts:
        text = _text(parts["text/plain"])
    elif "text/html" in parts:
        tags = r"(?is)<(style|script)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>"
        text = html.unescape(re.sub(tags, " ", _text(parts["text/html"])))
    return _one_line(_subject(mail)), _one_line(text)


def _subject(mail: Message) -> str:
    subject = mail.get("subject", "")
    try:
        return str(make_header(decode_header(subject)))
    except (HeaderParseError, LookupError, ValueError):  # spam is often encoded wrongly
        return str(subject)


def _text(part: Message) -> str:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)  # only a multipart has none
    try:
        return content.decode(part.get_content_charset("ascii"))
    except (LookupError, ValueError):
        return content.decode("latin-1")


def _thread(subject: str) -> str:
    """The subject without tags of mailing lists and signs of an answer."""
    return _one_line(re.sub(r"\b(?:re|fwd?)(?:\[\d+\])?:|\[[^]]*\]", " ", subject.lower()))


def _one_line(text: str) -> str:
    return " ".join(text.split())
