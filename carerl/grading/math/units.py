r"""Decides which words after a number are a unit, and gives each unit one name.

[ours] Physical units, money and percent are a list; different ones of these exclude each other. Any other plural noun
counts something ("18 eggs"). Such nouns are one unit, :data:`COUNTED`, as answers to one question name the same things
in many ways, and they exclude physical units. A word that is neither is no unit, and a text with it is no quantity.
"""

from __future__ import annotations

import re

from .words import MULTIPLIERS, changes_a_value, retracts

COUNTED = "#"

_NAMES = """
mm millimeter millimeters millimetre millimetres | cm cms centimeter centimeters centimetre centimetres
m meter meters metre metres | km kms kilometer kilometers kilometre kilometres | in inch inches | ft foot feet
yd yds yard yards | mi mile miles | dm decimeter decimeters | nm nanometer nanometers
mg milligram milligrams | g gm gms gram grams | kg kgs kilo kilos kilogram kilograms | lb lbs pound pounds
oz ounce ounces | ton tons tonne tonnes
ms millisecond milliseconds | s sec secs second seconds | min mins minute minutes | h hr hrs hour hours
day days | week weeks wk wks | month months | year years yr yrs | decade decades | century centuries
l L liter liters litre litres | ml milliliter milliliters millilitre millilitres mL | gal gallon gallons
qt quart quarts | pt pint pints | cup cups | tbsp tablespoon tablespoons | tsp teaspoon teaspoons
acre acres | hectare hectares ha
$ dollar dollars usd buck bucks | cent cents penny pennies | euro euros eur | gbp quid | yen | rupee rupees | peso pesos
% percent percents percentage pct | degree degrees deg | rad rads radian radians
K kelvin kelvins | N newton newtons | J joule joules | W watt watts | V volt volts
um micrometer micrometers micrometre micrometres micron microns | microgram micrograms | microsecond microseconds
microliter microliters microlitre microlitres | microampere microamperes | microvolt microvolts
microfarad microfarads | microcoulomb microcoulombs | microwatt microwatts
ohm ohms | kiloohm kiloohms kiloohm kilohm kilohms | amp amps ampere amperes | farad farads | coulomb coulombs
kj kilojoule kilojoules | kw kilowatt kilowatts | kwh | kn kilonewton kilonewtons | kv kilovolt kilovolts
kpa kilopascal kilopascals | hpa | khz kilohertz | mhz megahertz | ghz gigahertz | kcal kilocalorie kilocalories
ev | db decibel decibels | kb kilobyte kilobytes | mb megabyte megabytes | gb gigabyte gigabytes | tb terabyte terabytes
hz hertz | pa pascal pascals | mol mole moles | cal calorie calories | byte bytes | bit bits | knot knots
"""
_UNITS = {
    name: names.split()[0] for names in re.split(r"\||\n", _NAMES) for name in names.split()
}  # every spelling, and the first of its line's group
_COMPOUND = {"mph": "mi/h", "kph": "km/h", "kmh": "km/h", "kmph": "km/h", "mps": "m/s", "fps": "ft/s", "rpm": "#/min",
             "degrees celsius": "degree C", "degrees fahrenheit": "degree F",
             "degrees c": "degree C", "degrees f": "degree F",
             "C": "degree C", "celsius": "degree C", "F": "degree F", "fahrenheit": "degree F"}  # fmt: skip
_NOTHING = frozenset({"unit", "units", "u"})  # "5 square units": no unit that could exclude another
_MONEY = frozenset({"$", "cent", "euro", "gbp", "yen", "rupee", "peso"})
_IRREGULAR = "people children men women feet mice geese fish sheep deer dice teeth data oxen vertices"
_PLURALS = frozenset(_IRREGULAR.split())
_NO_PLURAL = re.compile(r"(?:ss|us|is)$")
_TAIL_WORDS = """
of in on at for from to into with per each every a an the that who which tall long wide high deep old away apart
thick total altogether left remaining overall together here there now today daily weekly monthly yearly
annually ahead behind faster slower longer shorter taller older younger later earlier
"""
_TAIL = frozenset(_TAIL_WORDS.split())
_VERBS = frozenset(
    {"remains", "leaves", "gives", "makes", "takes", "goes", "needs", "gets", "has", "does", "says", "comes", "costs"}
)
_RATE = re.compile(r"\s*(?:/|\bper\b|\b(?:a|an|each|every)\b)\s*")
_PREFIXES = (("square ", "2"), ("sq ", "2"), ("cubic ", "3"), ("cu ", "3"))
_SUFFIXES = ((" squared", "2"), (" cubed", "3"))


def unit_of(words: str, power: str = "", single: bool = False) -> str | None:
    """Returns the name of the unit that a phrase after a number is; "" for one that excludes no other ("units", "in
    total"); None for a phrase that is no unit. ``single``: the number is at most 1, so that a noun may be in the
    singular.

    >>> [unit_of(w) for w in ("centimeters", "miles per hour", "duck eggs", "square units", "until")]
    ['cm', 'mi/h', '#', '', None]
    """
    words = " ".join(re.sub(r"(?<=[a-zA-Z])\.", " ", words).replace("(", " ").replace(")", " ").split())
    for prefix, exponent in _PREFIXES:
        if words.startswith(prefix):
            words, power = words.removeprefix(prefix), exponent
    for suffix, exponent in _SUFFIXES:
        if words.endswith(suffix):
            words, power = words.removesuffix(suffix), exponent
    if not words or not re.fullmatch(r"[a-zA-Z$% /'^-]*[a-zA-Z$%](?:\^\{?\d\}?)?", words):
        return None
    raised = re.search(r"\^\{?([23])\}?$", words)
    if raised:
        words, power = words[: raised.start()], raised[1]
    above, *below = _RATE.split(words, maxsplit=1)
    name = _physical(above)
    if name is not None and not below:
        return f"{name}^{power}" if power and name else name
    if changes_a_value(words.replace("%", "")):
        return None
    head = _head(words)
    name = _physical(" ".join(head)) if name is None else name
    if not below or not below[0].strip():
        below = []
    if name is not None:
        rate = _physical(below[0].split()[0]) if below and name not in _MONEY | {"%"} else None
        if rate and (words.split()[1:2] == ["per"] or "/" in words or rate == "h"):
            return f"{name}/{rate}" + (f"^{power}" if power else "")
        return f"{name}^{power}" if power and name else name
    if not head:
        return "" if _TAIL & set(words.split()[:1]) and words not in ("in", "a", "an", "to", "at", "the") else None
    if head[0] in ("more", "additional", "extra", "other") and len(head) > 1:
        head = head[1:]
    noun = head[-1].removesuffix("'")
    if noun in _VERBS or len(head) > 4:
        return None
    plural = noun in _PLURALS or (noun.endswith("s") and len(noun) > 3 and not _NO_PLURAL.search(noun))
    if not plural and not (single and len(noun) > 2 and not noun.endswith("ly") and not retracts(noun)):
        return None
    return COUNTED if not power else None


def _physical(words: str) -> str | None:
    words = words.strip()
    if words in _NOTHING:
        return ""
    return _COMPOUND.get(words) or _UNITS.get(words)


def _head(words: str) -> list[str]:
    """Returns the words before the first that only says more about them ("eggs | per day")."""
    tokens = words.replace("/", " per ").split()
    end = next((k for k, token in enumerate(tokens) if token in _TAIL), len(tokens))
    return tokens[:end]


def excludes(one: str, other: str) -> bool:
    """Returns True if one answer cannot mean both units; "" excludes none."""
    return one != other and bool(one) and bool(other)


def multiplier(word: str) -> int | None:
    """Returns the value of "million", "dozens" and the like; None for other words."""
    return MULTIPLIERS.get(word.removesuffix("s") if word != "hundreds" else word)
