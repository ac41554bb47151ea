"""The rules of the English-French grammar: clauses, verbs and noun phrases of both languages at once.

Each rule returns its English and its French words. Words that express the same thing get the same key, a
number; grammar.py turns the keys into an alignment.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from course_lib.data import lexicon as lx

Word = tuple[str, tuple[int, ...]]  # a word and its keys
Words = list[Word]
Both = tuple[Words, Words]  # English and French
Mood = tuple[str, str] | None  # "not", "never" or an adverb, with its French word

VOWELS = frozenset("aâàeéèêiîoôœuyhAEÉIOUYH")  # every h of the lexicon is mute
_NO_WORDS: Both = ([], [])
_OWNERS = {lx.FIRST: "my", lx.SECOND: "your", lx.THIRD: None, lx.WE: "our", lx.THEY: "their"}
_BY_KIND = {kind: [n for n in lx.NOUNS if n.kind == kind] for kind in {n.kind for n in lx.NOUNS}}
_ADJECTIVES = {kind: [a for a in lx.ADJECTIVES if kind in a.kinds] for kind in _BY_KIND}
_ADJECTIVES_OF = {
    n.english[0]: [a for a in _ADJECTIVES[n.kind] if (a.english, n.english[0]) not in lx.UNSAID]
    for n in lx.NOUNS
}
_VERBS_ON = {kind: [v for v in (lx.HAVE, *lx.TRANSITIVE) if kind in v.objects] for kind in _BY_KIND}
_ANIMAL_INTRANSITIVE = [v for v in lx.INTRANSITIVE if v.animals]
_ANIMAL_TRANSITIVE = [v for v in lx.TRANSITIVE if v.animals]
_ANIMAL_ON_PERSON = [v for v in _ANIMAL_TRANSITIVE if "person" in v.objects]


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


def _join(first: Both, *others: Both) -> Both:
    english, french = first
    for more_english, more_french in others:
        english, french = english + more_english, french + more_french
    return english, french


class Walk:
    """One random walk at a time through the rules. A rule returns its English and its French words."""

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

    # Sentences

    def sentence(self) -> Both:
        shape = self._random()
        if shape < 0.45:
            words = self.main_clause(self.tense())
        elif shape < 0.68:
            words = self.compound(self.main_clause, self.tense())
        elif shape < 0.80:
            words = self.subordinate()
        elif shape < 0.92:
            words = self.report(self.clause, self.tense())
        else:
            words = self.report(lambda tense: self.compound(self.clause, tense), self.tense())
        return _join(words, self.pair(".", "."))

    def tense(self) -> str:
        return "past" if self.chance(0.3) else "present"

    def main_clause(self, tense: str) -> Both:
        """A clause at the head of the sentence, where either language can begin with the time."""
        english, french = self.clause(tense, timed=False)
        if self.chance(0.35) and not self._timeless:
            time = self.pick(lx.TIMES[tense])
            english_time, french_time = self.fixed(time)
            comma = (",", ())
            english = [*english_time, comma, *english] if time[2] == "english" else english + english_time
            french = [*french_time, comma, *french] if time[2] == "french" else french + french_time
        return english, french

    def compound(self, first: Callable[[str], Both], tense: str) -> Both:
        """Two clauses: one thing happens and, but, because, while another does."""
        conjunctions = (*lx.COORDINATING, lx.WHILE) if tense == "present" else lx.COORDINATING
        return _join(first(tense), self.fixed(self.pick(conjunctions)), self.clause(tense))

    def subordinate(self) -> Both:
        """When or if one thing happens, another does."""
        conjunction, condition = self.fixed(self.pick(lx.SUBORDINATING)), self.clause("present")
        return _join(conjunction, condition, self.pair(",", ","), self.clause("present"))

    def report(self, content: Callable[[str], Both], tense: str) -> Both:
        """Somebody thinks, knows or says that something happens."""
        verb = self.pick(lx.REPORTING)
        mood = lx.NEGATIONS[0] if verb is lx.KNOW and self.chance(0.3) else None
        start = self.predicate(self.subject(("person",)), verb, "present", mood)
        return _join(start, self.pair("that", "que"), content(tense))

    # Clauses

    def clause(self, tense: str, timed: bool = True) -> Both:
        self._timeless = False
        words = self.pick(_CLAUSES[tense])(self, tense)
        if timed and self.chance(0.12) and not self._timeless:
            words = _join(words, self.fixed(lx.TIMES[tense][-1]))  # the time that is last in both languages
        return words

    def intransitive(self, tense: str) -> Both:
        subject = self.subject(("person", "person", "animal"))
        verb = self.pick(_ANIMAL_INTRANSITIVE if subject.kind == "animal" else lx.INTRANSITIVE)
        return _join(self.predicate(subject, verb, tense, self.mood(tense)), self.perhaps_place(0.45))

    def transitive(self, tense: str) -> Both:
        subject = self.subject(("person", "person", "person", "animal"))
        choices = (lx.HAVE, *lx.TRANSITIVE) if tense == "present" else lx.TRANSITIVE
        verb = self.pick(_ANIMAL_TRANSITIVE if subject.kind == "animal" else choices)
        mood = self.mood(tense)
        start = self.predicate(subject, verb, tense, mood)
        return _join(start, self.object(verb, subject, mood), self.perhaps_place(0.12))

    def with_pronoun(self, tense: str) -> Both:
        """The object is a pronoun: after the English verb, before the French one."""
        subject = self.subject(("person", "person", "animal"))
        verb = self.pick(_ANIMAL_ON_PERSON if subject.kind == "animal" else _VERBS_ON["person"])
        hidden = verb.french[lx.FIRST][0] in VOWELS  # "l'" would hide whether it is him or her
        pronoun = self.pick(
            [p for p in lx.PRONOUNS if not (hidden and p[5] == lx.THIRD) and _differ(p[5], subject.person)]
        )
        self.combine("object", (verb.base,), (pronoun[1],))
        key = self.key()
        start = self.predicate(subject, verb, tense, self.mood(tense), clitic=(pronoun[3], key))
        return _join(start, ([(pronoun[1], key)], []), self.perhaps_place(0.2))

    def ditransitive(self, tense: str) -> Both:
        subject, verb, mood = self.subject(("person",)), self.pick((lx.GIVE, lx.SHOW)), self.mood(tense)
        start = self.predicate(subject, verb, tense, mood)
        given = self.object(verb, subject, mood)
        receiver = self.noun_phrase(self.pick(("person", "person", "animal")), determiners="definite")
        return _join(start, given, self.pair("to", "à"), (receiver.english, receiver.french))

    def miss(self, tense: str) -> Both:
        """Who misses is the subject in English; who is missed is the subject in French."""
        misser = self.subject(
            ("person", "person", "animal"), [p for p in lx.PRONOUNS if p[4]], together=False
        )
        others = [p for p in lx.PRONOUNS if _differ(p[5], misser.person)]
        missed = self.subject(("person", "animal"), others, owner=misser.owner, determiners="definite")
        if missed.pronoun:
            missed.english = [(missed.pronoun[1], missed.english[0][1])]
        self.combine("miss", misser.heads, missed.heads)
        clitic = (misser.pronoun[4], misser.french[0][1]) if misser.pronoun else None
        key = self.key()
        english, french = self.verb(
            lx.MISS, tense, self.mood(tense), misser.person, missed.person, clitic=clitic, key=key
        )
        to = [] if misser.pronoun else [("à", key), *misser.french]
        return misser.english + english + missed.english, missed.french + french + to

    def ache(self, tense: str) -> Both:
        """English speaks of the part, French of its owner: "my feet hurt", "j'ai mal aux pieds"."""
        part = self.pick(lx.BODY_PARTS)
        if self.chance(0.6):
            _, _, subject, _, _, person, gender = self.pick(lx.PRONOUNS)
            owner = _OWNERS[person] or ("her" if gender == "f" else "his")
            heads, (english, french) = (owner,), self.pair(owner, subject)
        else:
            nominal = self.name() if self.chance(0.5) else self.noun_phrase("person", plural=False, bare=True)
            person, heads = nominal.person, nominal.heads
            english, french = [*nominal.english, ("'s", ())], nominal.french
        paired = part.kind == "paired"
        # Several owners have several heads in English, where each has one in French.
        plural = person >= lx.WE or (paired and self.chance(0.6))
        word, french_word = part.english[plural], part.french[plural and paired]
        self.combine("ache", heads, (word,))
        hurt, part_key = self.key(), self.key()
        mood, english_person = self.mood(tense), lx.THEY if plural else lx.THIRD
        english_verb, french_verb = self.verb(lx.HURT, tense, mood, english_person, person, key=hurt)
        article = "les" if plural and paired else "la" if part.gender == "f" else "le"
        to_the_part = [("mal", hurt), ("à", hurt), (article, part_key), (french_word, part_key)]
        return [*english, (word, part_key), *english_verb], french + french_verb + to_the_part

    def quality(self, tense: str) -> Both:
        """The house is red."""
        subject = self.subject(("person", "person", "animal", "thing", "opening", "text", "song", "food"))
        return _join(self.predicate(subject, lx.BE, tense, self.mood(tense)), self.predicative(subject))

    def predicative(self, subject: _Nominal) -> Both:
        self._timeless = True
        # "I", "you" and "we" do not say whether a man or a woman speaks: adjectives that do not tell either.
        choices = [a for a in _ADJECTIVES[subject.kind] if subject.gender or a.french[0] == a.french[1]]
        adjective = self.pick(choices)
        self.combine("adjective", subject.heads, (adjective.english,))
        return self.pair(adjective.english, adjective.french[_form(subject.gender, subject.person >= lx.WE)])

    def state(self, tense: str) -> Both:
        """I am hungry: j'ai faim."""
        start = self.predicate(self.subject(("person", "animal")), lx.BE_WITH_AVOIR, tense, self.mood(tense))
        return _join(start, self.pair(*self.pick(lx.STATES)))

    def age(self, tense: str) -> Both:
        """I am ten years old: j'ai dix ans."""
        start = self.predicate(self.subject(("person",), together=False), lx.BE_WITH_AVOIR, tense, None)
        self._timeless = True
        years = self.key()
        count = self.pair(*self.pick(lx.AGES))
        return _join(start, count, ([("years", years), ("old", years)], [("ans", years)]))

    def fear(self, tense: str) -> Both:
        """I am afraid of the dog: j'ai peur du chien."""
        subject = self.subject(("person", "person", "animal"))
        feared = self.noun_phrase(
            self.pick(("person", "animal")), owner=subject.owner, determiners="definite"
        )
        self.combine("object", ("be afraid",), feared.heads)
        start = self.predicate(subject, lx.BE_WITH_AVOIR, tense, self.mood(tense))
        return _join(
            start, self.pair("afraid", "peur"), self.pair("of", "de"), (feared.english, feared.french)
        )

    def motion(self, tense: str) -> Both:
        subject, verb = self.subject(("person", "person", "animal")), self.pick((lx.GO, lx.COME))
        start = self.predicate(subject, verb, tense, self.mood(tense))
        name, place = self.place()
        self.combine("object", (verb.base,), (name,))
        return _join(start, self.pair(*verb.preposition), place)

    def talk(self, tense: str) -> Both:
        subject = self.subject(("person",))
        start = self.predicate(subject, lx.TALK, tense, self.mood(tense))
        kind = self.pick(lx.TALK.objects)
        topic = (
            self.name()
            if kind == "person" and self.chance(0.4)
            else self.noun_phrase(kind, owner=subject.owner, determiners="definite")
        )
        self.combine("object", ("talk",), topic.heads)
        return _join(start, self.pair(*lx.TALK.preposition), (topic.english, topic.french))

    def existence(self, tense: str) -> Both:
        """There is a cat in the garden: il y a un chat dans le jardin."""
        mood, there, kind = self.mood(tense), self.key(), self.pick(("person", "animal", "food", "thing"))
        found = self.noun_phrase(kind, determiners="indefinite", negated=mood in lx.NEGATIONS)
        english, french = self.verb(
            lx.BE_WITH_AVOIR, tense, mood, found.person, lx.THIRD, clitic=("y", there)
        )
        start = [("there", there), *english], [("il", there), *french]
        return _join(start, (found.english, found.french), self.perhaps_place(1.0))

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
        return _join((subject.english, subject.french), words)

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
            english, french = _join(
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
        return english, _join(self.pair("the", "la" if gender == "f" else "le"), self.pair(english, french))

    def perhaps_place(self, probability: float) -> Both:
        if not self.chance(probability):
            return _NO_WORDS
        return _join(self.fixed(self.pick(lx.PLACE_PHRASES)), self.place()[1])

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
            phrase.english, phrase.french = _join((english, french), clause)
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
            return _join(self.predicate(subject, lx.BE, "present", mood), self.predicative(subject))
        animal = head.kind == "animal"
        if chance < 0.6:
            verb = self.pick(_ANIMAL_INTRANSITIVE if animal else lx.INTRANSITIVE)
            return self.predicate(subject, verb, "present", mood)
        verb = self.pick(_ANIMAL_TRANSITIVE if animal else lx.TRANSITIVE)
        return _join(self.predicate(subject, verb, "present", mood), self.object(verb, subject, mood))

    def relative_on_object(self, head: _Nominal) -> Both:
        """The cake that Anna eats."""
        pronoun = self.pair("that", "que")
        verb = self.pick(_VERBS_ON[head.kind])
        self.combine("object", (verb.base,), head.heads)
        return _join(
            pronoun, self.predicate(self.subject(("person",)), verb, "present", self.mood("present"))
        )


def _differ(person: int, other: int) -> bool:
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


_PRESENT_CLAUSES = {
    Walk.intransitive: 4,
    Walk.transitive: 7,
    Walk.with_pronoun: 3,
    Walk.ditransitive: 3,
    Walk.miss: 4,
    Walk.ache: 3,
    Walk.quality: 3,
    Walk.state: 1,
    Walk.age: 1,
    Walk.fear: 1,
    Walk.motion: 2,
    Walk.talk: 1,
    Walk.existence: 1,
}
_PAST_CLAUSES = {Walk.intransitive: 4, Walk.transitive: 7, Walk.ditransitive: 3, Walk.talk: 2}
# Each rule as often as its weight says, so that one draw picks it.
_CLAUSES = {
    "present": [rule for rule, weight in _PRESENT_CLAUSES.items() for _ in range(weight)],
    "past": [rule for rule, weight in _PAST_CLAUSES.items() for _ in range(weight)],
}
