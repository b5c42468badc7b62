from promptgraft.tasks.mail import _thread, read_mail

HTML = b"""\
Subject: =?iso-8859-1?q?caf=E9?= for
 you
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

<html><style>p {color: red}</style><!-- hidden --><p>Save=20&pound;5
today: caf=E9</p></html>
"""
PARTS = b"""\
Subject: Re: [List] parts
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: text/html

<b>second choice</b>
--x
Content-Type: text/plain

  the   text
--x
Content-Type: text/plain

an attachment
--x--
"""


def test_html_and_encodings_become_text():
    assert read_mail(HTML) == ("café for you", "Save £5 today: café")


def test_the_first_plain_part_is_the_text():
    assert read_mail(PARTS) == ("Re: [List] parts", "the text")


def test_wrong_encodings_and_missing_parts_are_no_error():
    wrong = b"Subject: =?big5?B?/////w==?=\nContent-Type: text/plain; charset=nowhere\n\ncaf\xe9"
    assert read_mail(wrong)[1] == "café"
    assert read_mail(b"Content-Type: image/png\n\n") == ("", "")


def test_answers_are_of_the_thread_that_they_answer():
    subjects = ["Java is for kiddies", "RE: Java is  for kiddies", "[fork] Re[2]: fwd: java is for kiddies"]
    assert {_thread(subject) for subject in subjects} == {"java is for kiddies"}
