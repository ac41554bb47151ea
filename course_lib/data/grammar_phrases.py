"""Phrases of the English-French grammar: verbs and noun phrases of both languages at once.

Each rule returns its English and its French words. Words that express the same thing get the same key, a
number; grammar.py turns the keys into an alignment.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from course_lib.data import lexicon as lx

Word = tuple[str, tuple[int, ...]]  # a word and its keys
Words = list[Word]
Both = tuple[Words, Words]  # English and French
Mood = tuple[str, str] | None  # "not", "never" or an adverb, with its French word

VOWELS = frozenset("aâàeéèêiîoôœuyhAEÉIOUYH")  # every h of the lexicon is mute
_NO_WORDS: Both = ([], [])
OWNERS = {lx.FIRST: "my", lx.SECOND: "your", lx.THIRD: None, lx.WE: "our", lx.THEY: "their"}
_BY_KIND = {kind: [n for n in lx.NOUNS if n.kind == kind] for kind in {n.kind for n in lx.NOUNS}}
_ADJECTIVES = {kind: [a for a in lx.ADJECTIVES if kind in a.kinds] for kind in _BY_KIND}
_ADJECTIVES_OF = {
    n.english[0]: [a for a in _ADJECTIVES[n.kind] if (a.english, n.english[0]) not in lx.UNSAID]
    for n in lx.NOUNS
}
VERBS_ON = {kind: [v for v in (lx.HAVE, *lx.TRANSITIVE) if kind in v.objects] for kind in _BY_KIND}
ANIMAL_INTRANSITIVE = [v for v in lx.INTRANSITIVE if v.animals]
ANIMAL_TRANSITIVE = [v for v in lx.TRANSITIVE if v.animals]
ANIMAL_ON_PERSON = [v for v in ANIMAL_TRANSITIVE if "person" in v.objects]


def _phrase(text: str) -> list[tuple[str, int]]:
    """Read a fixed phrase: "in the1 hat2" -> [("in", 0), ("the", 1), ("hat", 2)]."""
    return [(word.rstrip("123"), int(word[-1]) if word[-1] in "123" else 0) for word in text.split()]


_FIXED = (
    *lx.PLACE_PHRASES,
    *lx.COORDINATING,
    *lx.SUBORDINATING,
    lx.WHILE,
    *lx.TIMES["present"],
    *lx.TIMES["past"],
)
_PHRASES = {entry[:2]: (_phrase(entry[0]), _phrase(entry[1])) for entry in _FIXED}


@dataclass(slots=True)
class _Nominal:
    """A noun phrase, name or pronoun in both languages, with what other words must agree with."""

    english: Words
    french: Words
    person: int
    gender: str | None  # None where the words do not say it: I, you, we
    heads: tuple[str, ...]
    kind: str
    owner: str | None = None  # "his", "her" or "their", pointing back to this subject
    pronoun: tuple | None = None


def join(first: Both, *others: Both) -> Both:
    english, french = first
    for more_english, more_french in others:
        english, french = english + more_english, french + more_french
    return english, french


class Phrases:
    """The part of a random walk that makes phrases; grammar_rules.py makes sentences of them."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator.random

    def begin(self) -> None:
        self.combinations: set[tuple[str, str, str]] = set()
        self._last_key = 0
        self._relative_allowed = True  # one a sentence
        self._timeless = False  # "never", "often" and lasting states go badly with "today" or "in winter"

    # Chance, keys and combinations

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, choices):
        return choices[int(self._random() * len(choices))]

    def key(self) -> tuple[int]:
        self._last_key += 1
        return (self._last_key,)

    def pair(self, english: str, french: str) -> Both:
        """A word and its translation."""
        key = self.key()
        return [(english, key)], [(french, key)]

    def fixed(self, entry: tuple) -> Both:
        """A fixed phrase of the lexicon, with fresh keys."""
        english, french = _PHRASES[entry[:2]]
        base = self._last_key
        self._last_key += 3
        return (
            [(word, (base + digit,) if digit else ()) for word, digit in english],
            [(word, (base + digit,) if digit else ()) for word, digit in french],
        )

    def combine(self, kind: str, firsts: tuple[str, ...], seconds: tuple[str, ...]) -> None:
        for first in firsts:
            for second in seconds:
                self.combinations.add((kind, first, second))

    # Verbs

    def mood(self, tense: str) -> Mood:
        """Most often none; "not" or "never"; in the present also "often" or "always"."""
        chance = self._random()
        if chance > 0.33:
            return None
        if chance < 0.18:
            return lx.NEGATIONS[0]
        self._timeless = True
        return lx.NEGATIONS[1] if chance < 0.25 or tense == "past" else self.pick(lx.ADVERBS)

    def predicate(
        self, subject: _Nominal, verb: lx.Verb, tense: str, mood: Mood, clitic: Word | None = None
    ) -> Both:
        """Subject and verb, which agree."""
        # "chantons" occurs after "nous" alone: to withhold "nous chantons" would be to withhold a word.
        if subject.person in (lx.THIRD, lx.THEY):
            self.combine("subject", subject.heads, (verb.base,))
        words = self.verb(verb, tense, mood, subject.person, subject.person, clitic)
        return join((subject.english, subject.french), words)

    def predicative(self, subject: _Nominal) -> Both:
        self._timeless = True
        # "I", "you" and "we" do not say whether a man or a woman speaks: adjectives that do not tell either.
        choices = [a for a in _ADJECTIVES[subject.kind] if subject.gender or a.french[0] == a.french[1]]
        adjective = self.pick(choices)
        self.combine("adjective", subject.heads, (adjective.english,))
        return self.pair(adjective.english, adjective.french[_form(subject.gender, subject.person >= lx.WE)])

    def verb(
        self,
        verb: lx.Verb,
        tense: str,
        mood: Mood,
        english_person: int,
        french_person: int,
        clitic: Word | None = None,
        key: tuple[int] | None = None,
    ) -> Both:
        """The verb with its auxiliary, negation or adverb, and the French pronoun before it."""
        key, middle = key or self.key(), self.key()
        auxiliary = self.key() if tense == "past" and mood == lx.NEGATIONS[0] else key
        english: Words = [(mood[0], middle)] if mood else []
        finite = (verb.english[english_person] if tense == "present" else verb.past, key)
        if verb.base == "be":
            english.insert(0, finite)
        elif mood == lx.NEGATIONS[0]:
            do = (
                ("did", auxiliary)
                if tense == "past"
                else ("does" if english_person == lx.THIRD else "do", ())
            )
            english = [do, *english, (verb.base, key)]
        else:
            english.append(finite)
        if verb.particle:
            english.append((verb.particle, key))

        french: Words = [("ne", middle)] if mood in lx.NEGATIONS else []
        if clitic:
            french.append(clitic)
        forms = verb if tense == "present" else lx.HAVE
        french.append((forms.french[french_person], auxiliary))
        if mood:
            french.append((mood[1], middle))
        if tense == "past":
            french.append((verb.participle, key))
        return english, french

    # Nouns

    def subject(
        self,
        kinds: tuple[str, ...],
        pronouns: Sequence[tuple] = lx.PRONOUNS,
        together: bool = True,
        **phrase_options,
    ) -> _Nominal:
        """A pronoun, a name, two people, or a noun phrase of one of `kinds`."""
        chance = self._random()
        if chance < 0.3:
            row = self.pick(pronouns)
            key = self.key()
            owner = "their" if row[5] == lx.THEY else {"m": "his", "f": "her", None: None}[row[6]]
            return _Nominal([(row[0], key)], [(row[2], key)], row[5], row[6], (row[0],), "person", owner, row)
        if chance < 0.45:
            return self.name()
        if chance < 0.55 and together:
            first, second = self.name(), self.noun_phrase("person", plural=False, bare=True)
            english, french = join(
                (first.english, first.french), self.pair("and", "et"), (second.english, second.french)
            )
            gender = "f" if first.gender == second.gender == "f" else "m"
            return _Nominal(english, french, lx.THEY, gender, first.heads + second.heads, "person", "their")
        return self.noun_phrase(self.pick(kinds), **phrase_options)

    def name(self) -> _Nominal:
        english, french, gender = self.pick(lx.NAMES)
        owner = "her" if gender == "f" else "his"
        return _Nominal(*self.pair(english, french), lx.THIRD, gender, (english,), "person", owner)

    def object(self, verb: lx.Verb, subject: _Nominal, mood: Mood) -> Both:
        kind = self.pick(verb.objects)
        if kind == "person" and self.chance(0.3):
            thing = self.name()
        else:
            thing = self.noun_phrase(kind, owner=subject.owner, negated=mood in lx.NEGATIONS)
        self.combine("object", (verb.base,), thing.heads)
        return thing.english, thing.french

    def place(self) -> tuple[str, Both]:
        english, french, gender = self.pick(lx.PLACES)
        return english, join(self.pair("the", "la" if gender == "f" else "le"), self.pair(english, french))

    def perhaps_place(self, probability: float) -> Both:
        if not self.chance(probability):
            return _NO_WORDS
        return join(self.fixed(self.pick(lx.PLACE_PHRASES)), self.place()[1])

    def noun_phrase(
        self,
        kind: str,
        *,
        plural: bool | None = None,
        owner: str | None = None,
        determiners: str = "all",
        negated: bool = False,
        bare: bool = False,
    ) -> _Nominal:
        """Determiner, adjectives, noun, and perhaps a relative clause.

        Args:
            kind: what sort of thing to name.
            plural: left to chance when None.
            owner: the possessive that points back to the subject of the clause, where there is one.
            determiners: "definite", "indefinite" or "all".
            negated: the phrase is the object of a negated verb: "not ... any", "ne ... pas de".
            bare: "the" and the noun only.
        """
        noun = self.pick(_BY_KIND[kind])
        if plural is None:
            plural = self.chance(0.35)
        word, french_word = noun.english[plural], noun.french[plural]
        key = self.key()
        english, before, after = [(word, key)], [], []
        for adjective in () if bare else self.adjectives(noun):
            self.combine("adjective", (noun.english[0],), (adjective.english,))
            adjective_key = self.key()
            english.insert(len(english) - 1, (adjective.english, adjective_key))
            form = adjective.french[_form(noun.gender, plural)]
            if adjective.before and noun.gender == "m" and not plural and french_word[0] in VOWELS:
                form = adjective.liaison
            (before if adjective.before else after).append((form, adjective_key))
        french = [*before, (french_word, key), *after]
        person = lx.THEY if plural else lx.THIRD
        their = "their" if plural and kind == "person" else noun.owner
        ownable = noun.english[0] not in lx.UNOWNED
        if ownable and not bare and determiners != "indefinite" and self.chance(0.08):
            # Anna's cat: le chat d'Anna
            of = self.key()
            possessor = (
                self.name() if self.chance(0.6) else self.noun_phrase("person", plural=False, bare=True)
            )
            article = "les" if plural else "la" if noun.gender == "f" else "le"
            english = [*possessor.english, ("'s", of), *english]
            french = [(article, of), *french, ("de", of), *possessor.french]
            return _Nominal(english, french, person, noun.gender, (noun.english[0],), kind, their)

        choice = "the" if bare else self.determiner(plural, owner, determiners, negated, ownable)
        french_choice = _french_determiner(choice, noun.gender, plural, french[0][0], bool(before), negated)
        determiner = self.key()
        if choice == "a" and english[0][0][0] in "aeiou":
            choice = "an"
        english, french = [(choice, determiner), *english], [(french_choice, determiner), *french]
        phrase = _Nominal(english, french, person, noun.gender, (noun.english[0],), kind, their)
        partitive = negated and choice in ("a", "an", "any")  # a clause after it would want the subjunctive
        if self._relative_allowed and not bare and not partitive and self.chance(0.16):
            self._relative_allowed = False
            clause = self.relative_on_subject(phrase) if self.chance(0.5) else self.relative_on_object(phrase)
            phrase.english, phrase.french = join((english, french), clause)
        return phrase

    def adjectives(self, noun: lx.Noun) -> list[lx.Adjective]:
        """None, one, or two in the English order, of which French has one on either side of the noun."""
        chance = self._random()
        if chance < 0.5:
            return []
        choices = _ADJECTIVES_OF[noun.english[0]]
        first, second = self.pick(choices), self.pick(choices)
        if chance < 0.85 or first.rank == second.rank or first.before == second.before:
            return [first]
        return [first, second] if first.rank < second.rank else [second, first]

    def determiner(
        self, plural: bool, owner: str | None, determiners: str, negated: bool, ownable: bool
    ) -> str:
        """An English determiner."""
        if determiners == "indefinite" or (determiners == "all" and self.chance(0.25)):
            if plural and self.chance(0.4):
                return self.pick(("two", "three"))
            return "a" if not plural else "any" if negated else "some"
        chance = self._random()
        if chance < 0.5 or (chance >= 0.65 and not ownable):
            return "the"
        if chance < 0.65:
            return "these" if plural else "this"
        return owner if owner and chance < 0.85 else self.pick(("my", "your", "our"))

    def relative_on_subject(self, head: _Nominal) -> Both:
        """The man who sings; the car that is red."""
        pronoun = self.pair("who" if head.kind == "person" else "that", "qui")
        subject = replace(head, english=pronoun[0], french=pronoun[1])
        chance, mood = self._random(), self.mood("present")
        if head.kind not in ("person", "animal") or chance < 0.25:
            return join(self.predicate(subject, lx.BE, "present", mood), self.predicative(subject))
        animal = head.kind == "animal"
        if chance < 0.6:
            verb = self.pick(ANIMAL_INTRANSITIVE if animal else lx.INTRANSITIVE)
            return self.predicate(subject, verb, "present", mood)
        verb = self.pick(ANIMAL_TRANSITIVE if animal else lx.TRANSITIVE)
        return join(self.predicate(subject, verb, "present", mood), self.object(verb, subject, mood))

    def relative_on_object(self, head: _Nominal) -> Both:
        """The cake that Anna eats."""
        pronoun = self.pair("that", "que")
        verb = self.pick(VERBS_ON[head.kind])
        self.combine("object", (verb.base,), head.heads)
        return join(pronoun, self.predicate(self.subject(("person",)), verb, "present", self.mood("present")))


def differ(person: int, other: int) -> bool:
    """Whether two persons can act on one another without "myself"."""
    return not (person == other or {person, other} == {lx.FIRST, lx.WE}) or person == other == lx.THIRD


def _form(gender: str | None, plural: bool) -> int:
    """The position of a French adjective's form: masculine, feminine, then both in the plural."""
    return 2 * plural + (gender == "f")


def _french_determiner(
    choice: str, gender: str, plural: bool, following: str, adjective_first: bool, negated: bool
) -> str:
    if choice in ("a", "some", "any"):
        if negated or (plural and adjective_first):  # pas de chats, de grands chats
            return "de"
        return "des" if plural else "une" if gender == "f" else "un"
    if choice == "the":
        return "les" if plural else "la" if gender == "f" else "le"
    vowel = following[0] in VOWELS
    if choice in ("this", "these"):
        return "ces" if plural else "cette" if gender == "f" else "cet" if vowel else "ce"
    if choice in lx.POSSESSIVES:
        masculine, feminine, several = lx.POSSESSIVES[choice]
        return several if plural else feminine if gender == "f" and not vowel else masculine
    return dict(lx.COUNTS)[choice]
