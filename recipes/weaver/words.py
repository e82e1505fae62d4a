"""Words and invented names: the raw material every generator of the Weaver corpus draws from."""

from __future__ import annotations

from random import Random


def _words(text: str) -> list[str]:
    return text.split()


FIRST_NAMES = _words("""
anna ben carla david elena frank grace henry irene jacob karin leo maria nina oscar paula quentin rosa samuel tessa umar
vera walter xenia yusuf zoe amir bianca cedric daphne emil fatima gerard hana ivan julia kofi lucia marcus nadia omar
priya rafael sofia thomas ursula victor wanda yara zane aisha bruno chloe dmitri esther felix gloria hugo ines jonas
""")

ADJECTIVES = _words("""
golden silver red blue green black white old new little big happy lucky royal wild quiet bright dark warm cold sweet
salty spicy fresh crispy gentle hungry lazy busy brave clever humble tall short long round narrow hidden secret open
broken painted wooden iron velvet copper crystal misty sunny rainy snowy windy northern southern eastern western ancient
modern simple grand tiny giant honest noble rusty smoky purple yellow orange pink grey early late local rapid slow soft
""")

NOUNS = _words("""
lantern river garden kitchen table house dragon tiger lion eagle falcon rabbit fox wolf bear whale dolphin turtle horse
rose lily oak maple cedar willow bamboo lotus olive lemon pepper ginger garlic onion tomato potato carrot apple cherry
peach plum berry grape melon mango coconut almond walnut butter honey sugar salt cup spoon plate bowl pot kettle oven
bridge tower castle harbor island mountain valley forest meadow desert ocean lake creek spring bay beach corner square
market station street road lane path gate door window roof wall stone brick anchor compass wheel feather candle mirror
crown shield arrow hammer needle thread button ribbon basket bottle barrel ladder engine bell drum flute guitar piano
violin moon sun star cloud storm thunder rain snow wind fire smoke ember shadow dream story letter book page pencil
""")

FOODS = _words("""
noodle noodles dumpling dumplings curry soup salad sandwich burger pizza pasta bread bagel pancake waffle taco burrito
sushi ramen rice beans cheese yogurt steak chicken duck fish shrimp crab lobster oyster seafood barbecue grill deli
bakery dessert cake pie cookie coffee tea juice vegetarian vegan breakfast brunch lunch dinner snack spice herb sauce
persian turkish greek spanish portuguese german polish russian korean vietnamese indonesian moroccan ethiopian egyptian
brazilian peruvian cuban jamaican hawaiian irish scottish swedish danish austrian hungarian lebanese nepalese tibetan
""")

PLACE_HEADS = _words("""
san santa saint new old north south east west port fort mount lake el la los las upper lower great little grand point
""")
PLACE_TAILS = _words("""
city town village island beach bay hills valley park heights falls springs grove harbor bridge field creek ridge point
county coast lake mills view center junction gardens woods landing cove rock
""")
PLACE_ENDINGS = _words("""
ton ville burg berg ford field dale wood land port mouth ham stead bury worth side shire view mont rose land more
""")
STREET_TAILS = _words("street avenue road lane boulevard drive way court alley parkway square place st ave rd blvd")

ONSETS = _words("b c d f g h j k l m n p r s t v w z br cr dr fr gr pr tr bl cl fl gl pl sl st sp sk ch sh th kn qu")
NUCLEI = _words("a e i o u a e i o u ai ea ee ie oo ou ia io au oa")
CODAS = ["", "", "", "", "", *_words("n r l s t m d k x nd rt st ng ck ll ss rn lm sh th nt")]

MONTHS = _words("january february march april may june july august september october november december")
WEEKDAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
COLORS = _words("red blue green yellow black white orange purple pink brown grey silver golden teal crimson ivory")
JOBS = _words("""
teacher doctor nurse baker farmer sailor pilot painter writer singer dancer lawyer judge driver cook waiter gardener
engineer plumber tailor weaver potter carpenter librarian chemist astronomer translator photographer mechanic captain
""")

TABLE_NOUNS = _words("""
ship captain harbor airport airline flight pilot train route museum artist painting gallery book author publisher
library student teacher school lesson classroom team player match stadium coach league song album singer band concert
movie actor director studio theater ticket festival hotel room guest booking doctor patient hospital clinic medicine
farm crop animal field harvest shop product customer invoice supplier warehouse order item employee department office
project task meeting city country river lake mountain road bridge station bus car driver garage engine planet star
telescope mission rocket recipe ingredient cook dish menu wine cheese brewery park garden tree flower bird insect
device sensor server network account payment loan bank branch contract lawyer court case newspaper article editor
game level tournament club member event venue sponsor building tower apartment owner tenant lecture seminar professor
""")

TEXT_COLUMNS = _words("""
name title city country region kind category color brand language state owner genre code level status size shape
material nickname capital style grade sector topic position nationality origin department district label county area
type family format street model role season mood climate surface license major instructor carrier sponsor
""")
NUMBER_COLUMNS = _words("""
price age year weight height length rating score capacity population distance duration speed salary budget area floors
pages seats wins losses points quantity stock credits rank depth income volume power tax hours visits votes goals
enrollment workload balance width
""")
DATE_COLUMNS = _words(
    "start_date end_date birthday opened closed created updated release_date due_date departure arrival"
)


def syllable(rng: Random) -> str:
    """One pronounceable syllable."""
    return rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice(CODAS)


def invented(rng: Random, low: int = 2, high: int = 3) -> str:
    """A made-up lower-case word of ``low`` to ``high`` syllables."""
    return "".join(syllable(rng) for _ in range(rng.randint(low, high)))


def word(rng: Random) -> str:
    """A lower-case word: known or invented, in about equal parts."""
    draw = rng.random()
    if draw < 0.45:
        return invented(rng, 1, 3)
    if draw < 0.65:
        return rng.choice(NOUNS)
    if draw < 0.75:
        return rng.choice(ADJECTIVES)
    if draw < 0.88:
        return rng.choice(FOODS)
    return mixed(rng)


def mixed(rng: Random) -> str:
    """A known word grown or shortened into one nobody has seen."""
    stem = rng.choice(rng.choice((NOUNS, FOODS, ADJECTIVES, FIRST_NAMES)))
    draw = rng.random()
    if draw < 0.35:
        return stem + rng.choice(PLACE_ENDINGS)
    if draw < 0.6:
        return stem[: max(2, len(stem) - rng.randint(1, 3))] + rng.choice(
            ("ino", "eria", "ella", "ish", "ian", "ani", "o")
        )
    if draw < 0.8:
        return syllable(rng) + stem
    return stem + rng.choice(("s", "er", "ers", "ia", "y", "man", "land", "house", "cup", "berry"))


def place(rng: Random) -> str:
    """A lower-case invented place of one to three words."""
    draw = rng.random()
    if draw < 0.3:
        return rng.choice(PLACE_HEADS) + " " + word(rng)
    if draw < 0.55:
        return word(rng) + " " + rng.choice(PLACE_TAILS)
    if draw < 0.8:
        return invented(rng, 1, 2) + rng.choice(PLACE_ENDINGS)
    if draw < 0.9:
        return rng.choice(PLACE_HEADS) + " " + word(rng) + " " + rng.choice(PLACE_TAILS)
    return invented(rng, 2, 4)


def person(rng: Random) -> str:
    """A lower-case person's name."""
    first = rng.choice(FIRST_NAMES) if rng.random() < 0.6 else invented(rng, 1, 3)
    return first if rng.random() < 0.25 else first + " " + invented(rng, 1, 3)


def venue(rng: Random) -> str:
    """A lower-case invented name as shops, bands, ships and houses have."""
    draw = rng.random()
    if draw < 0.25:
        return word(rng) + " " + word(rng)
    if draw < 0.4:
        return rng.choice(ADJECTIVES) + " " + rng.choice(NOUNS)
    if draw < 0.5:
        return "the " + word(rng) + (" " + word(rng) if rng.random() < 0.5 else "")
    if draw < 0.6:
        return word(rng) + " and " + word(rng)
    if draw < 0.7:
        return person(rng).split()[0] + "'s " + word(rng)
    if draw < 0.85:
        return word(rng)
    return word(rng) + " " + word(rng) + " " + word(rng)


def street(rng: Random) -> str:
    """A lower-case invented street."""
    return word(rng) + " " + rng.choice(STREET_TAILS) if rng.random() < 0.8 else str(rng.randint(1, 99)) + "th street"


def code(rng: Random) -> str:
    """A code such as EK-482, bio 210 or X7Q4."""
    letters = "".join(rng.choice("ABCDEFGHIJKLMNOPRSTUVWXZ") for _ in range(rng.randint(2, 5)))
    if rng.random() < 0.3:
        letters = letters.lower()
    draw = rng.random()
    if draw < 0.35:
        return letters
    return letters + rng.choice(("-", " ", "", "_")) + number(rng)


def number(rng: Random) -> str:
    """A whole number of one to five digits, short ones more often."""
    return str(rng.randint(0, 10 ** rng.choice((1, 2, 2, 3, 3, 3, 4, 5)) - 1))


def decimal(rng: Random) -> str:
    """A number with one or two digits behind the point."""
    return f"{rng.randint(0, 99)}.{rng.choice((str(rng.randint(0, 9)), f'{rng.randint(0, 99):02d}'))}"


def date(rng: Random) -> str:
    """A date in one of four notations."""
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1900, 2035)
    return rng.choice(
        (
            f"{year}-{month:02d}-{day:02d}",
            f"{day} {MONTHS[month - 1]} {year}",
            f"{MONTHS[month - 1]} {day}, {year}",
            f"{day:02d}/{month:02d}/{year}",
        )
    )


def entity(rng: Random) -> str:
    """Any lower-case name worth copying."""
    return rng.choice((place, person, venue, venue, place, word, street))(rng)


def anything(rng: Random) -> str:
    """An entity, a code, a number or a date, in a casing of its own."""
    draw = rng.random()
    if draw < 0.7:
        return cased(entity(rng), rng)
    return rng.choice((code, number, date, decimal))(rng)


def cased(text: str, rng: Random) -> str:
    """The text in lower case (mostly), Title Case or UPPER CASE."""
    draw = rng.random()
    if draw < 0.5:
        return text
    if draw < 0.9:
        return title(text)
    return text.upper()


def title(text: str) -> str:
    """Each word with a capital; unlike str.title, letters behind an apostrophe stay small."""
    return " ".join(part[:1].upper() + part[1:] for part in text.split(" "))


def plural(noun: str) -> str:
    """The regular English plural."""
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun + "s"


def joined(items: list[str]) -> str:
    """Items as a phrase: a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
