from promptgraft.tasks.word_sense import sense_pairs

LINES = [
    "  1 This software and database is being provided to you",
    '00000001 00 s 02 sharp(p) 0 keen 0 000 | cutting; "a sharp knife in hand"; "sharp as a razor"; "a keen edge"',
    '00000002 00 s 01 Sharp 1 000 | sudden; "a sharp drop in prices"; "too short"; "a sharp knife in hand"',
    '00000003 00 s 01 sharp 2 000 | of a mind; "she is very sharp indeed"; "the sharpest of all minds"',
    '00000004 00 s 01 keen 2 000 | eager; "keen on her work"; "a keen and early riser"',
]


def test_as_many_pairs_of_one_sense_as_of_two():
    # "keen" has two senses and two pairs, "sharp" three senses but one with two examples that hold the word itself;
    # the knife counts for the first of its senses
    assert list(sense_pairs(LINES)) == [
        ("sharp", "a sharp knife in hand", "sharp as a razor", "same"),
        ("sharp", "a sharp knife in hand", "a sharp drop in prices", "different"),
        ("keen", "keen on her work", "a keen and early riser", "same"),
        ("keen", "a keen edge", "keen on her work", "different"),
    ]
