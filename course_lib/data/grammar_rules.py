"""The rules of the English-French grammar: sentences and clauses of both languages at once.

As in grammar_phrases.py, each rule returns its English and its French words, and words that express the same
thing get the same key.
"""

from collections.abc import Callable

from course_lib.data import lexicon as lx
from course_lib.data.grammar_phrases import (
    ANIMAL_INTRANSITIVE,
    ANIMAL_ON_PERSON,
    ANIMAL_TRANSITIVE,
    OWNERS,
    VERBS_ON,
    VOWELS,
    Both,
    Phrases,
    differ,
    join,
)


class Walk(Phrases):
    """One random walk at a time through the rules."""

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
        return join(words, self.pair(".", "."))

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
        return join(first(tense), self.fixed(self.pick(conjunctions)), self.clause(tense))

    def subordinate(self) -> Both:
        """When or if one thing happens, another does."""
        conjunction, condition = self.fixed(self.pick(lx.SUBORDINATING)), self.clause("present")
        return join(conjunction, condition, self.pair(",", ","), self.clause("present"))

    def report(self, content: Callable[[str], Both], tense: str) -> Both:
        """Somebody thinks, knows or says that something happens."""
        verb = self.pick(lx.REPORTING)
        mood = lx.NEGATIONS[0] if verb is lx.KNOW and self.chance(0.3) else None
        start = self.predicate(self.subject(("person",)), verb, "present", mood)
        return join(start, self.pair("that", "que"), content(tense))

    # Clauses

    def clause(self, tense: str, timed: bool = True) -> Both:
        self._timeless = False
        words = self.pick(_CLAUSES[tense])(self, tense)
        if timed and self.chance(0.12) and not self._timeless:
            words = join(words, self.fixed(lx.TIMES[tense][-1]))  # the time that is last in both languages
        return words

    def intransitive(self, tense: str) -> Both:
        subject = self.subject(("person", "person", "animal"))
        verb = self.pick(ANIMAL_INTRANSITIVE if subject.kind == "animal" else lx.INTRANSITIVE)
        return join(self.predicate(subject, verb, tense, self.mood(tense)), self.perhaps_place(0.45))

    def transitive(self, tense: str) -> Both:
        subject = self.subject(("person", "person", "person", "animal"))
        choices = (lx.HAVE, *lx.TRANSITIVE) if tense == "present" else lx.TRANSITIVE
        verb = self.pick(ANIMAL_TRANSITIVE if subject.kind == "animal" else choices)
        mood = self.mood(tense)
        start = self.predicate(subject, verb, tense, mood)
        return join(start, self.object(verb, subject, mood), self.perhaps_place(0.12))

    def with_pronoun(self, tense: str) -> Both:
        """The object is a pronoun: after the English verb, before the French one."""
        subject = self.subject(("person", "person", "animal"))
        verb = self.pick(ANIMAL_ON_PERSON if subject.kind == "animal" else VERBS_ON["person"])
        hidden = verb.french[lx.FIRST][0] in VOWELS  # "l'" would hide whether it is him or her
        pronoun = self.pick(
            [p for p in lx.PRONOUNS if not (hidden and p[5] == lx.THIRD) and differ(p[5], subject.person)]
        )
        self.combine("object", (verb.base,), (pronoun[1],))
        key = self.key()
        start = self.predicate(subject, verb, tense, self.mood(tense), clitic=(pronoun[3], key))
        return join(start, ([(pronoun[1], key)], []), self.perhaps_place(0.2))

    def ditransitive(self, tense: str) -> Both:
        subject, verb, mood = self.subject(("person",)), self.pick((lx.GIVE, lx.SHOW)), self.mood(tense)
        start = self.predicate(subject, verb, tense, mood)
        given = self.object(verb, subject, mood)
        receiver = self.noun_phrase(self.pick(("person", "person", "animal")), determiners="definite")
        return join(start, given, self.pair("to", "à"), (receiver.english, receiver.french))

    def miss(self, tense: str) -> Both:
        """Who misses is the subject in English; who is missed is the subject in French."""
        misser = self.subject(
            ("person", "person", "animal"), [p for p in lx.PRONOUNS if p[4]], together=False
        )
        others = [p for p in lx.PRONOUNS if differ(p[5], misser.person)]
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
            owner = OWNERS[person] or ("her" if gender == "f" else "his")
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
        return join(self.predicate(subject, lx.BE, tense, self.mood(tense)), self.predicative(subject))

    def state(self, tense: str) -> Both:
        """I am hungry: j'ai faim."""
        start = self.predicate(self.subject(("person", "animal")), lx.BE_WITH_AVOIR, tense, self.mood(tense))
        return join(start, self.pair(*self.pick(lx.STATES)))

    def age(self, tense: str) -> Both:
        """I am ten years old: j'ai dix ans."""
        start = self.predicate(self.subject(("person",), together=False), lx.BE_WITH_AVOIR, tense, None)
        self._timeless = True
        years = self.key()
        count = self.pair(*self.pick(lx.AGES))
        return join(start, count, ([("years", years), ("old", years)], [("ans", years)]))

    def fear(self, tense: str) -> Both:
        """I am afraid of the dog: j'ai peur du chien."""
        subject = self.subject(("person", "person", "animal"))
        feared = self.noun_phrase(
            self.pick(("person", "animal")), owner=subject.owner, determiners="definite"
        )
        self.combine("object", ("be afraid",), feared.heads)
        start = self.predicate(subject, lx.BE_WITH_AVOIR, tense, self.mood(tense))
        return join(
            start, self.pair("afraid", "peur"), self.pair("of", "de"), (feared.english, feared.french)
        )

    def motion(self, tense: str) -> Both:
        subject, verb = self.subject(("person", "person", "animal")), self.pick((lx.GO, lx.COME))
        start = self.predicate(subject, verb, tense, self.mood(tense))
        name, place = self.place()
        self.combine("object", (verb.base,), (name,))
        return join(start, self.pair(*verb.preposition), place)

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
        return join(start, self.pair(*lx.TALK.preposition), (topic.english, topic.french))

    def existence(self, tense: str) -> Both:
        """There is a cat in the garden: il y a un chat dans le jardin."""
        mood, there, kind = self.mood(tense), self.key(), self.pick(("person", "animal", "food", "thing"))
        found = self.noun_phrase(kind, determiners="indefinite", negated=mood in lx.NEGATIONS)
        english, french = self.verb(
            lx.BE_WITH_AVOIR, tense, mood, found.person, lx.THIRD, clitic=("y", there)
        )
        start = [("there", there), *english], [("il", there), *french]
        return join(start, (found.english, found.french), self.perhaps_place(1.0))


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
