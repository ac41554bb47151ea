"""The words of the course's English-French grammar, as tables; the rules that use them are in
grammar_phrases.py and grammar_rules.py.

A digit after a word says which words of a fixed phrase translate each other: "last1 week2" against
"la2 semaine2 dernière1". A word without a digit has no counterpart.
"""

from dataclasses import dataclass

# The persons, in the order of every table of forms. Singular "you" only, so that it is always "tu"; there
# is no "it", whose French gender would depend on a noun that stands elsewhere.
FIRST, SECOND, THIRD, WE, THEY = range(5)


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun: (singular, plural) forms, French gender, what kind of thing it names, whose "his" or "her"."""

    english: tuple[str, str]
    french: tuple[str, str]
    gender: str
    kind: str
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Adjective:
    """An adjective: French forms (masculine, feminine, both in the plural) and its place in both languages.

    `liaison` is the masculine form before a vowel ("bel homme"); `before` says that it stands before the
    French noun; of two adjectives the one of lower `rank` comes first in English.
    """

    english: str
    french: tuple[str, str, str, str]
    liaison: str
    before: bool
    rank: int
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: English present by person, base form and past, French present by person and participle.

    `particle` is an English preposition that French has inside the verb ("look for", "chercher");
    `preposition` a pair of prepositions that both languages have; `objects` the kinds that it may act on.
    """

    english: tuple[str, ...]
    base: str
    past: str
    french: tuple[str, ...]
    participle: str
    objects: tuple[str, ...] = ()
    animals: bool = False
    particle: str | None = None
    preposition: tuple[str, str] | None = None


# English singular and plural, French singular and plural, gender, kind, and who owns ("-": cannot be told).
NOUNS = tuple(
    Noun((a, b), (c, d), gender, kind, None if owner == "-" else owner)
    for a, b, c, d, gender, kind, owner in map(
        str.split,
        """
        man      men       homme    hommes    m person  his
        woman    women     femme    femmes    f person  her
        boy      boys      garçon   garçons   m person  his
        girl     girls     fille    filles    f person  her
        king     kings     roi      rois      m person  his
        queen    queens    reine    reines    f person  her
        child    children  enfant   enfants   m person  -
        doctor   doctors   médecin  médecins  m person  -
        friend   friends   ami      amis      m person  -
        cat      cats      chat     chats     m animal  -
        dog      dogs      chien    chiens    m animal  -
        horse    horses    cheval   chevaux   m animal  -
        cow      cows      vache    vaches    f animal  -
        bird     birds     oiseau   oiseaux   m animal  -
        apple    apples    pomme    pommes    f food    -
        orange   oranges   orange   oranges   f food    -
        egg      eggs      œuf      œufs      m food    -
        cake     cakes     gâteau   gâteaux   m food    -
        car      cars      voiture  voitures  f thing   -
        house    houses    maison   maisons   f thing   -
        key      keys      clé      clés      f thing   -
        tree     trees     arbre    arbres    m thing   -
        flower   flowers   fleur    fleurs    f thing   -
        hat      hats      chapeau  chapeaux  m thing   -
        door     doors     porte    portes    f opening -
        window   windows   fenêtre  fenêtres  f opening -
        book     books     livre    livres    m text    -
        letter   letters   lettre   lettres   f text    -
        song     songs     chanson  chansons  f song    -
        """.strip().splitlines(),
    )
)

# "My girl" and "my woman" would be taken for a daughter and a wife.
UNOWNED = frozenset(("man", "woman", "boy", "girl"))

# "Une vieille fille" is a spinster.
UNSAID = frozenset((("old", "boy"), ("old", "girl"), ("old", "child")))

# Places are used in the singular, with "the".
PLACES = (
    ("park", "parc", "m"),
    ("garden", "jardin", "m"),
    ("museum", "musée", "m"),
    ("hospital", "hôpital", "m"),
    ("school", "école", "f"),
    ("church", "église", "f"),
    ("station", "gare", "f"),
    ("kitchen", "cuisine", "f"),
)
PLACE_PHRASES = (
    ("in1", "dans1"),
    ("near1", "près1 de1"),
    ("behind1", "derrière1"),
    ("in1 front1 of1", "devant1"),
)

NAMES = (("Anna", "Anna", "f"), ("Emma", "Emma", "f"), ("Paul", "Paul", "m"), ("Leo", "Léo", "m"))

# English singular and plural, French singular and plural, gender; "-" where nobody has two of them.
BODY_PARTS = tuple(
    Noun((a, b), (c, d), gender, "single" if d == "-" else "paired")
    for a, b, c, d, gender in map(
        str.split,
        """
        head     heads     tête     -         f
        back     backs     dos      -         m
        stomach  stomachs  ventre   -         m
        foot     feet      pied     pieds     m
        hand     hands     main     mains     f
        leg      legs      jambe    jambes    f
        arm      arms      bras     bras      m
        knee     knees     genou    genoux    m
        ear      ears      oreille  oreilles  f
        eye      eyes      œil      yeux      m
        """.strip().splitlines(),
    )
)


def _adjective(
    english: str, french: str, kinds: str, rank: int, before: bool = False, liaison: str = ""
) -> Adjective:
    """`french` is the masculine form, or all four where they are irregular."""
    forms = french.split()
    if len(forms) == 1:
        (one,) = forms
        feminine = one if one.endswith("e") else one + "e"
        forms = [one, feminine, one + "s", feminine + "s"]
    return Adjective(english, tuple(forms), liaison or forms[0], before, rank, frozenset(kinds.split()))


ADJECTIVES = (
    _adjective("beautiful", "beau belle beaux belles", "animal food thing opening text song", 0, True, "bel"),
    _adjective("happy", "heureux heureuse heureux heureuses", "person", 0),
    _adjective("sad", "triste", "person text song", 0),
    _adjective("rich", "riche", "person", 0),
    _adjective("famous", "célèbre", "person text song", 0),
    _adjective("sick", "malade", "person animal", 0),
    _adjective("tired", "fatigué", "person animal", 0),
    _adjective("big", "grand", "animal food thing opening text", 1, True),
    _adjective("small", "petit", "animal food thing opening text", 1, True),
    _adjective(
        "old", "vieux vieille vieux vieilles", "person animal thing opening text song", 1, True, "vieil"
    ),
    _adjective("new", "nouveau nouvelle nouveaux nouvelles", "thing opening text song", 1, True, "nouvel"),
    _adjective("young", "jeune", "person animal", 1, True),
    _adjective("red", "rouge", "food thing opening text", 2),
    _adjective("green", "vert", "food thing opening text", 2),
    _adjective("white", "blanc blanche blancs blanches", "animal food thing opening text", 2),
    _adjective("black", "noir", "animal thing opening text", 2),
)


def _verb(base: str, past: str, french: str, objects: str = "", present: str = "", **options) -> Verb:
    """`french` is the infinitive of a regular verb, or the five present forms and the participle."""
    forms = french.split()
    if len(forms) == 1:
        stem = french.removesuffix("er")
        we = stem + "eons" if stem.endswith("g") else stem + "ons"
        forms = [stem + "e", stem + "es", stem + "e", we, stem + "ent", stem + "é"]
    third = base + ("es" if base.endswith(("sh", "ss", "go")) else "s")
    english = present.split() or [base, base, third, base, base]
    return Verb(tuple(english), base, past, tuple(forms[:5]), forms[5], tuple(objects.split()), **options)


BE = _verb("be", "", "suis es est sommes sont été", present="am are is are are")
_AVOIR = "ai as a avons ont eu"
BE_WITH_AVOIR = _verb("be", "", _AVOIR, present="am are is are are")  # "to be hungry", "avoir faim"
HURT = _verb("hurt", "", _AVOIR)  # "avoir mal à"
HAVE = _verb("have", "", _AVOIR, "animal food thing text", present="have have has have have")
MISS = _verb("miss", "", "manquer", "person animal")
GIVE = _verb("give", "gave", "donner", "food thing text")
SHOW = _verb("show", "showed", "montrer", "animal thing text")
GO = _verb("go", "", "vais vas va allons vont allé", preposition=("to", "à"))
COME = _verb("come", "", "viens viens vient venons viennent venu", preposition=("from", "de"))
TALK = _verb("talk", "talked", "parler", "person animal text song", preposition=("about", "de"))

INTRANSITIVE = (
    _verb("sleep", "slept", "dors dors dort dormons dorment dormi", animals=True),
    _verb("play", "played", "jouer", animals=True),
    _verb("work", "worked", "travailler"),
    _verb("sing", "sang", "chanter"),
    _verb("dance", "danced", "danser"),
    _verb("laugh", "laughed", "ris ris rit rions rient ri"),
)
TRANSITIVE = (
    _verb("see", "saw", "vois vois voit voyons voient vu", "person animal food thing opening", animals=True),
    _verb("love", "loved", "aimer", "person animal song", animals=True),
    _verb("find", "found", "trouver", "person animal food thing text", animals=True),
    _verb("look", "looked", "chercher", "person animal thing text", animals=True, particle="for"),
    _verb("listen", "listened", "écouter", "person song", particle="to"),
    _verb("help", "helped", "aider", "person animal"),
    _verb("eat", "ate", "manger", "food", animals=True),
    _verb("buy", "bought", "achète achètes achète achetons achètent acheté", "animal food thing text"),
    _verb("wash", "washed", "laver", "animal food opening"),
    _verb("open", "opened", "ouvre ouvres ouvre ouvrons ouvrent ouvert", "opening"),
    _verb("write", "wrote", "écris écris écrit écrivons écrivent écrit", "text song"),
)
# Followed by "that". Only "know" is negated: "ne pas penser que" wants the subjunctive.
KNOW = _verb("know", "", "sais sais sait savons savent su")
REPORTING = (KNOW, _verb("think", "", "penser"), _verb("say", "", "dis dis dit disons disent dit"))

# Pronouns by person: English subject and object, French subject, object and indirect object. The third
# person singular comes twice, and has no indirect object: "lui" says neither "him" nor "her".
PRONOUNS = (
    ("I", "me", "je", "me", "me", FIRST, None),
    ("you", "you", "tu", "te", "te", SECOND, None),
    ("he", "him", "il", "le", None, THIRD, "m"),
    ("she", "her", "elle", "la", None, THIRD, "f"),
    ("we", "us", "nous", "nous", "nous", WE, None),
    ("they", "them", "ils", "les", "leur", THEY, "m"),
)
POSSESSIVES = {
    "my": ("mon", "ma", "mes"),
    "your": ("ton", "ta", "tes"),
    "his": ("son", "sa", "ses"),
    "her": ("son", "sa", "ses"),
    "our": ("notre", "notre", "nos"),
    "their": ("leur", "leur", "leurs"),
}
COUNTS = (("two", "deux"), ("three", "trois"))
AGES = (("seven", "sept"), ("nine", "neuf"), ("ten", "dix"))
STATES = (("hungry", "faim"), ("thirsty", "soif"), ("cold", "froid"))  # "to be" in English, "avoir" in French
NEGATIONS = (("not", "pas"), ("never", "jamais"))
ADVERBS = (("often", "souvent"), ("always", "toujours"))

# Times, by tense: English words, French words, and which language has them at the head of the sentence.
TIMES = {
    "present": (
        ("today1", "aujourd'hui1", "french"),
        ("at night1", "la1 nuit1", "french"),
        ("on Sundays1", "le1 dimanche1", "french"),
        ("in1 winter2", "en1 hiver2", "english"),
        ("every1 day2", "tous1 les1 jours2", "neither"),
    ),
    "past": (
        ("yesterday1", "hier1", "french"),
        ("last1 week2", "la2 semaine2 dernière1", "english"),
        ("this1 morning2", "ce1 matin2", "neither"),
    ),
}
COORDINATING = (("and1", "et1"), ("but1", "mais1"), ("because1", "parce1 que1"))
SUBORDINATING = (("when1", "quand1"), ("if1", "si1"))
WHILE = ("while1", "pendant1 que1")
