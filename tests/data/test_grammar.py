"""The grammar against rules and word lists that are written here a second time, by hand."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from course_lib.data import grammar, load_translation
from course_lib.data.vocabulary import detokenize, tokenize


def words(text):
    return set(text.split())


# Gender and number of every noun and of all that stands beside one.
NOUNS = {
    "m": """homme garçon roi enfant médecin ami chat chien cheval oiseau œuf gâteau arbre chapeau livre
        parc jardin musée hôpital dos ventre pied bras genou œil matin dimanche""",
    "f": """femme fille reine vache pomme orange voiture maison clé fleur porte fenêtre lettre chanson
        école église gare cuisine tête main jambe oreille nuit semaine""",
    "mp": """hommes garçons rois enfants médecins amis chats chiens chevaux oiseaux œufs gâteaux arbres
        chapeaux livres pieds genoux yeux jours bras ans""",
    "fp": """femmes filles reines vaches pommes oranges voitures maisons clés fleurs portes fenêtres
        lettres chansons mains jambes oreilles""",
}
BEFORE = {
    "m": "le l' un ce cet au du mon ton son notre leur beau bel nouveau nouvel vieux vieil grand petit jeune",
    "f": "la l' une cette ma ta sa notre leur belle nouvelle vieille grande petite jeune",
    "mp": "les des aux ces mes tes ses nos leurs deux trois beaux nouveaux vieux grands petits jeunes",
    "fp": "les des aux ces mes tes ses nos leurs deux trois belles nouvelles vieilles grandes petites jeunes",
}
AFTER = {
    "m": "heureux triste riche célèbre malade fatigué rouge vert blanc noir",
    "f": "heureuse triste riche célèbre malade fatiguée rouge verte blanche noire",
    "mp": "heureux tristes riches célèbres malades fatigués rouges verts blancs noirs",
    "fp": "heureuses tristes riches célèbres malades fatiguées rouges vertes blanches noires",
}
# Of what may stand before a noun, the determiners stand first.
DETERMINER = re.compile(
    r"l[ae]s?|l'|une?|des|c(e|et|ette|es)|aux?|du|[mts](on|a|es)|notre|nos|leurs?|deux|trois"
)
VOWELS = "aàâeéèêiîoôœuyh"
# English verbs by form, its nouns by number, and what a clause can begin after.
BASE = words(
    """sleep play work sing dance laugh see love find look listen help eat buy wash open write know think say
    hurt have miss give show go come talk do"""
)
THIRD = {verb + ("es" if verb.endswith(("sh", "ss", "o")) else "s") for verb in BASE - {"have"}} | {"has"}
SINGULAR = words(
    """man woman boy girl king queen child doctor friend cat dog horse cow bird apple egg cake car house key
    tree flower hat door window book letter song head back stomach foot hand leg arm knee ear eye"""
)
PLURAL = words(
    """men women boys girls kings queens children doctors friends cats dogs horses cows birds apples oranges
    eggs cakes cars houses keys trees flowers hats doors windows books letters songs heads backs stomachs feet
    hands legs arms knees ears eyes"""
)
STARTS = (",", "that", "and", "but", "because", "while", "when", "if")


def forms(table):
    """The word lists above, turned round: which forms a word can have."""
    turned = {}
    for form, words in table.items():
        for word in words.split():
            turned.setdefault(word, set()).add(form)
    return turned


NOUN_FORMS, BEFORE_FORMS, AFTER_FORMS = forms(NOUNS), forms(BEFORE), forms(AFTER)


@pytest.fixture(scope="module")
def data():
    return load_translation("grammar")


@pytest.fixture(scope="module")
def pairs(data):
    return data.train + data.validation + data.test


def disagreements(tokens):
    """The words around each noun that cannot all have the form of the noun."""
    wrong = []
    for position, noun in enumerate(tokens):
        fitting = set(NOUN_FORMS.get(noun, ()))
        if not fitting:
            continue
        around, start = [], position
        while start > 0 and tokens[start - 1] in BEFORE_FORMS and not DETERMINER.fullmatch(tokens[start]):
            start -= 1
            around.append(tokens[start])
            liaison = tokens[start] in ("mon", "ton", "son") and tokens[start + 1][0] in VOWELS  # mon orange
            fitting &= {"m", "f"} if liaison else BEFORE_FORMS[tokens[start]]
        if position + 1 < len(tokens) and tokens[position + 1] in AFTER_FORMS:
            around.append(tokens[position + 1])
            fitting &= AFTER_FORMS[tokens[position + 1]]
        if not fitting:
            wrong.append((noun, around))
    return wrong


def misspellings(tokens):
    """Neighbours that French would elide or melt, or must not."""
    full = ("je", "me", "te", "le", "la", "ne", "de", "que", "ce", "ma", "ta", "sa")
    apart = {
        ("à", "le"),
        ("à", "les"),
        ("de", "le"),
        ("de", "les"),
        ("si", "il"),
        ("si", "ils"),
        ("vieux", "homme"),
    }
    wrong = []
    for word, following in pairwise(tokens):
        vowel = following[0] in VOWELS
        elided = word.endswith("'") or word in ("cet", "bel", "vieil", "nouvel")
        if (
            (word, following) in apart
            or (word in full and vowel)
            or (word in ("beau", "nouveau") and vowel and following in NOUN_FORMS)
            or (elided and not vowel)
        ):
            wrong.append((word, following))
    return wrong


def english_mistakes(tokens):
    """Neighbours that English does not allow: subject and verb, article and noun, auxiliary and verb."""
    text = " ".join(tokens)
    wrong = re.findall(r"\ba [aeiou]\w*|\ban [^aeiou]\w*", text)
    # After "that" and "who" a noun beside a verb may be the object of another verb, after "and" one of two.
    nouns_are_subjects = not {"that", "who", "and"} & set(tokens)
    for position, (word, following) in enumerate(pairwise(tokens)):
        third = word in ("he", "she", "anna", "emma", "paul", "leo") or word in SINGULAR
        other = word in ("i", "you", "we", "they") or word in PLURAL
        if word in ("anna", "emma", "paul", "leo") or word in SINGULAR or word in PLURAL:
            third, other = third and nouns_are_subjects, other and nouns_are_subjects
        if word == "you" and position and tokens[position - 1] not in STARTS:
            other = False  # an object
        be = {"i": "am", "am": None}.get(word, "are")
        if (third and (following in BASE or following in ("are", "am"))) or (
            other and (following in THIRD or (following in ("am", "are", "is") and following != be))
        ):
            wrong.append(f"{word} {following}")
    for auxiliary, verb in re.findall(r"\b(do|does|did) not (\w+)", text):
        if verb not in BASE:
            wrong.append(f"{auxiliary} not {verb}")
    return wrong


def test_the_checks_find_mistakes_in_english():
    for wrong in (
        "a apple", "an cake", "he are", "she do not", "i is", "i are", "we am", "they has", "they sings",
        "i sings", "we misses", "the cat sleep", "the cats sleeps", "my feet hurts", "my knee hurt",
        "anna go to", "he does not sings", "he did not danced", "the dogs is", "emma are", "if he sing ,",
    ):  # fmt: skip
        assert english_mistakes([*wrong.split(), "."]), wrong
    for right in (
        "an apple", "a cake", "he is", "i am", "they are", "we sing", "she sings", "the cats sleep",
        "the cat sleeps", "my feet hurt", "he does not sing", "anna and the king sleep", "i see you",
        "the man who sees the cats sleeps", "the girl misses you when you sleep", "they have cats",
    ):  # fmt: skip
        assert not english_mistakes([*right.split(), "."]), right


def test_the_checks_find_mistakes():
    for wrong in ("la petit chat noir", "les chats noires", "ma maisons", "mon voiture", "mon grande orange"):
        assert disagreements(wrong.split()), wrong
    for right in ("la petite vache noire", "mon orange", "mon vieil ami triste", "les vieux bras"):
        assert not disagreements(right.split()), right
    for wrong in ("je ai", "à le chat", "de les rois", "ce ami", "cet chat", "l' chat", "si il", "ma orange"):
        assert misspellings(wrong.split()), wrong
    for right in ("j' ai", "l' homme", "au chat", "cet ami", "s' il", "mon orange"):
        assert not misspellings(right.split()), right


def test_french_agrees(pairs):
    assert [(p.target_text, wrong) for p in pairs if (wrong := disagreements(p.target))][:5] == []


def test_french_is_elided_and_melted(pairs):
    assert [(p.target_text, wrong) for p in pairs if (wrong := misspellings(p.target))][:5] == []


def test_every_french_noun_is_known_to_these_tests(pairs):
    articles = ("un", "une", "cet", "cette", "ces", "au", "aux", "du", "mon", "mes")
    after = {following for p in pairs for word, following in pairwise(p.target) if word in articles}
    assert after <= set(NOUN_FORMS) | set(BEFORE_FORMS)


def test_verbs_agree_with_pronouns(pairs):
    endings = {"tu": r"s$", "ils": r"nt$", "nous": r"(ons|sommes)$", "je": r"(e|s|ai)$", "j'": r"(e|s|ai)$"}
    checked = Counter()
    for pair in pairs:
        tokens = pair.target
        for i, word in enumerate(tokens):
            starts = i == 0 or tokens[i - 1] in (",", "que", "qu'", "et", "mais", "quand", "si", "s'")
            if word not in endings or (word == "nous" and not starts):
                continue
            rest = [t for t in tokens[i + 1 :] if t not in ("ne", "n'")]
            clitics = ("me", "m'", "te", "t'", "le", "la", "les", "nous", "leur", "y")
            verb = next(t for t in rest if t not in clitics)
            assert re.search(endings[word], verb), pair
            checked[word] += 1
    assert min(checked[word] for word in endings) > 500


def test_negation_surrounds_the_verb(pairs):
    negated = 0
    for pair in pairs:
        starts = [i for i, word in enumerate(pair.target) if word in ("ne", "n'")]
        ends = [i for i, word in enumerate(pair.target) if word in ("pas", "jamais")]
        assert len(starts) == len(ends), pair
        assert all(2 <= end - start <= 3 for start, end in zip(starts, ends, strict=True)), pair
        assert len(starts) == sum(word in ("not", "never") for word in pair.source), pair
        negated += bool(starts)
    assert negated > 5000


def test_english_agrees(pairs):
    assert [(p.source_text, wrong) for p in pairs if (wrong := english_mistakes(p.source))][:5] == []
    # What is checked also occurs.
    seen = Counter(neighbours for pair in pairs for neighbours in pairwise(pair.source))
    for expected in ("i am", "i sing", "she sings", "he is", "we do", "cats sleep", "knee hurts", "an apple"):
        assert seen[tuple(expected.split())], expected


def test_text_and_tokens_are_the_same(pairs):
    for pair in pairs:
        for text, tokens in ((pair.source_text, pair.source), (pair.target_text, pair.target)):
            assert tuple(tokenize(text)) == tokens
            assert detokenize(tokens) == text.lower()
            assert text[0].isupper() and text.endswith(".")


def test_a_sentence_has_one_translation_in_either_direction(pairs):
    assert len(pairs) >= 20_000
    assert len({p.source for p in pairs}) == len({p.target for p in pairs}) == len(pairs)


def test_lengths_are_spread(data):
    for split in (data.train, data.test):
        lengths = [len(pair.source) for pair in split]
        assert min(lengths) == 3 and 22 <= max(lengths) <= 25
        assert sum(length > 14 for length in lengths) >= 0.15 * len(lengths)
        assert sum(length <= 8 for length in lengths) >= 0.10 * len(lengths)


# Alignment


@pytest.mark.parametrize(
    ("english", "french", "links"),
    [
        ("My feet hurt.", "J'ai mal aux pieds.", "j'-my ai-hurt mal-hurt aux-feet aux-hurt pieds-feet .-."),
        ("You listen to them.", "Tu les écoutes.", "tu-you les-them écoutes-listen écoutes-to .-."),
        ("Paul did not dance.", "Paul n'a pas dansé.", "paul-paul n'-not a-did pas-not dansé-dance .-."),
        (
            "The king misses the rich kings.",
            "Les rois riches manquent au roi.",
            "les-the rois-kings riches-rich manquent-misses au-misses au-the roi-king .-.",
        ),
        (
            "Anna's orange is white.",
            "L'orange d'Anna est blanche.",
            "l'-'s orange-orange d'-'s anna-anna est-is blanche-white .-.",
        ),
        (
            "We slept behind the kitchen yesterday.",
            "Hier, nous avons dormi derrière la cuisine.",
            "hier-yesterday nous-we avons-slept dormi-slept derrière-behind la-the cuisine-kitchen .-.",
        ),
        (
            "Last week, the white horse slept.",
            "Le cheval blanc a dormi la semaine dernière.",
            "le-the cheval-horse blanc-white a-slept dormi-slept la-week semaine-week dernière-last .-.",
        ),
        (
            "A woman does not have a car.",
            "Une femme n'a pas de voiture.",
            "une-a femme-woman n'-not a-have pas-not de-a voiture-car .-.",
        ),
    ],
)
def test_gold_alignment_by_hand(pairs, english, french, links):
    pair = next(pair for pair in pairs if pair.source_text == english)
    assert pair.target_text == french
    named = [f"{pair.target[i]}-{pair.source[j]}" for i, j in pair.alignment]
    assert sorted(named) == sorted(links.split())


def test_links_join_words_that_translate_each_other(pairs):
    translations = """cat chat; horses chevaux; apple pomme; eyes yeux; house maison; anna anna; leo léo;
        queen reine; when quand; but mais; often souvent; museum musée; book livre; yesterday hier;
        behind derrière; winter hiver; afraid peur; danced dansé a ai as avons ont"""
    dictionary = {word: set(allowed) for word, *allowed in map(str.split, translations.split(";"))}
    seen = Counter()
    for pair in pairs:
        for i, j in pair.alignment:
            assert 0 <= i < len(pair.target) and 0 <= j < len(pair.source)
            if (word := pair.source[j]) in dictionary:
                # An article that only French has goes with its noun.
                assert pair.target[i] in dictionary[word] | ({"aux"} if word == "eyes" else set()), pair
                seen[word] += 1
    assert set(seen) == set(dictionary)


def test_only_the_words_named_in_the_policy_have_no_link(pairs):
    french, english = set(), set()
    for pair in pairs:
        linked_french, linked_english = map(set, zip(*pair.alignment, strict=True))
        french |= {word for i, word in enumerate(pair.target) if i not in linked_french}
        english |= {word for j, word in enumerate(pair.source) if j not in linked_english}
    assert french == {","}
    assert english == {",", "do", "does", "'s", "at", "on"}


def test_alignment_is_not_the_diagonal(pairs):
    crossing = sum(any(i < k and j > m for i, j in p.alignment for k, m in p.alignment) for p in pairs[:3000])
    assert crossing > 1000


# The split


def words_of(pairs, side):
    return {word for pair in pairs for word in getattr(pair, side)}


def test_split_sizes_and_words(data):
    assert len(data.train) >= 18_000 and len(data.validation) == 1_000 and 1_000 <= len(data.test) <= 2_000
    for side in ("source", "target"):
        assert words_of(data.test + data.validation, side) <= words_of(data.train, side)
    counts = Counter(word for pair in data.train for word in pair.target)
    assert min(counts.values()) >= 10


def test_what_is_tested_was_never_trained():
    splits = grammar.generate()
    trained = set().union(*(sentence.combinations for sentence in splits["train"]))
    validated = set().union(*(sentence.combinations for sentence in splits["validation"]))
    for sentence in splits["test"]:
        new = {c for c in sentence.combinations if grammar.split_of(c) == "test"}
        assert new and not new & trained and not new & validated, sentence
    for sentence in splits["validation"]:
        assert sentence.combinations - trained, sentence
    kinds = {c[0] for s in splits["test"] for c in s.combinations if grammar.split_of(c) == "test"}
    assert kinds == {"adjective", "object", "subject", "ache", "miss"}


def test_combinations_are_those_of_the_words():
    """An adjective beside its noun is withheld as it stands in the sentence, not only by its label."""
    splits = grammar.generate()
    adjectives = {word for s in splits["train"] for kind, _, word in s.combinations if kind == "adjective"}
    singular = {word for s in splits["train"] for kind, word, _ in s.combinations if kind == "adjective"}

    def neighbours(sentences):
        return {
            (noun, adjective)
            for s in sentences
            for adjective, noun in pairwise(s.english)
            if adjective in adjectives and noun in singular
        }

    only_tested = neighbours(splits["test"]) - neighbours(splits["train"])
    assert len(only_tested) >= 10
    assert all(grammar.split_of(("adjective", *pair)) != "train" for pair in only_tested)


def test_my_feet_are_new_to_the_model_and_others_are_not(data):
    def with_words(pairs, words):
        return [p for p in pairs if words in " ".join(p.source) and "hurt" in p.source]

    assert with_words(data.test, "my feet") and not with_words(data.train + data.validation, "my feet")
    assert with_words(data.train, "your feet") and with_words(data.train, "my knees")


def test_generation_is_deterministic_and_follows_the_seed(monkeypatch):
    monkeypatch.setattr(grammar, "SIZES", {"train": 60, "validation": 3, "test": 5})
    first, again, other = (grammar.generate.__wrapped__(seed) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("LONGEST", 2, ["up to 2 words", "0 of 60 for train", "0 of 5 for test"]),
        ("LONGEST", 3, ["up to 3 words", "of 60 for train", "3 of 3 for validation"]),
        ("split_of", lambda combination: "train", ["60 of 60 for train, 0 of 3 for validation"]),
    ],
)
def test_sizes_that_cannot_be_filled_are_told(monkeypatch, setting, value, words):
    monkeypatch.setattr(grammar, "SIZES", {"train": 60, "validation": 3, "test": 5})
    monkeypatch.setattr(grammar, setting, value)
    with pytest.raises(ValueError, match="no more new sentences") as raised:
        grammar.generate.__wrapped__(0)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize("seed", [None, 1.5, "one"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(TypeError, match=re.escape(f"got {seed!r}")):
        grammar.generate(seed)


def test_another_run_of_python_gives_the_same_sentences():
    code = """
from course_lib.data import grammar
grammar.SIZES.update(train=60, validation=3, test=5)
print([s.french_text for split in grammar.generate().values() for s in split])
"""
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
