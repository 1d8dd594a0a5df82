"""Template generator of synthetic reading-comprehension data about invented entities.

A domain is a block of text in a small notation, parsed once at import:

* ``intro:`` first sentences, ``multi:`` sentences that state several attributes, ``fill:``
  sentences that state nothing asked, ``desc:`` ways to mention the entity without its name.
* ``* name`` opens an attribute: its sentence templates, then its questions (``? ...``).
* ``{}`` is the attribute's own value, ``{other}`` another one's, ``{t}`` the entity's name;
  ``{R}``, ``{P}``, ``{o}`` refer to the entity (subject, possessive, object) and ``{p}`` is
  always the possessive pronoun. ``[a|b]`` is a choice, ``a(n)`` the right article.
* Date values carry their preposition in sentences ("on 14 March 1972") but not as answers.

A full-sentence answer is one of the attribute's own sentences with the name put in.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

MIN_WORDS, MAX_WORDS, MAX_SENTENCES = 25, 80, 6

# ---------------------------------------------------------------- word tables


def table(text: str) -> list[str]:
    """The blank-separated words of a table."""
    return text.split()


def listed(text: str) -> list[str]:
    """The comma-separated entries of a table."""
    return text.replace("\n", "").split(",")


FEMALE = table("""Ada Agnes Aiko Alba Alice Alma Amara Amelia Ana Anita Astrid Aisha Beatriz Bianca
Brigid Camila Carla Celeste Chiara Clara Daria Delphine Dina Edith Elena Elif Elsa Emma Esther
Eva Farida Fatima Fiona Flora Freya Gloria Greta Hana Harriet Helga Ida Imani Ines Ingrid Irene
Isla Ivana Jana Josefina Judith Kaia Karin Keiko Lara Leila Lena Linnea Lucia Mabel Magda Maite
Marina Matilda Mei Mina Miriam Nadia Naomi Nina Noor Odette Olga Paloma Petra Priya Renata Rosa
Ruth Sabine Saoirse Selma Simone Sofia Sunita Tamar Tessa Thandiwe Ursula Valeria Vera Wilma
Yasmin Ximena Yuki Zahra Zofia""")

MALE = table("""Aaron Abel Adrian Ahmed Akira Alan Albert Aldo Amir Anders Andre Anton Arjun Arthur
Axel Basil Benedict Boris Bruno Carlos Cedric Chen Conrad Cyril Dario David Declan Diego Dmitri
Edgar Edmund Emil Enzo Erik Esteban Felix Fergus Frank Gabriel Gareth Georg Gustav Hamid Hans
Harold Hassan Hector Henrik Hiroshi Hugo Ian Igor Isaac Ivan Jakob Javier Jonas Jorge Julian
Kamal Karl Kenji Kofi Lars Leon Leo Luca Lukas Magnus Malik Marcel Marco Martin Mateo Milan Nico
Nils Oleg Omar Oscar Otto Pablo Pavel Pedro Philip Rafael Rashid Ravi Rolf Samuel Sergei Silas
Stefan Tariq Theo Tomas Umar Victor Viktor Walter Wei Yusuf Zoran""")

SURNAMES = table("""Abara Achebe Adeyemi Aguilar Ahlberg Akhtar Alvarez Amado Andersson Aoki Arden
Arnaud Ashworth Aziz Bakker Banerjee Baptiste Barlow Barros Bauer Becker Bellini Benitez Berg
Bergstrom Bianchi Blackwood Blanc Boateng Bogdan Borges Bose Bouchard Brandt Brennan Briggs
Brodsky Bruun Burke Cabral Calder Calloway Campos Carrow Castellano Chandra Chaudhry Cheng
Chevalier Choi Christensen Cisse Clarke Coelho Colombo Cortez Costa Coyle Crane Dahl Dalgaard
Damas Danso Darwish Das Dekker Delacroix Delgado Desai Diallo Dias Dimitrov Dlamini Donnelly
Dorsey Draper Drummond Duarte Dubois Dunne Durand Dvorak Easton Eber Edwards Egede Eklund Ellison
Engel Erdem Escobar Evans Fairley Farkas Faure Fenwick Ferrari Fischer Flores Fontaine Forsberg
Fournier Fraser Friedman Fujita Galvan Garner Gerber Ghosh Gill Giordano Golding Gomes Graves
Gregor Grimaldi Guerra Gunnarsson Gupta Haas Haddad Hale Halloran Hamada Hansen Hargreaves Hartley
Hayashi Hedlund Heller Herrera Hidalgo Hoang Hoffmann Holm Horvath Hossain Huang Hughes Ibanez
Ibrahim Ikeda Iversen Ivanov Jansen Jarvis Jensen Jimenez Johansson Joshi Juarez Kaminski Kapoor
Karlsson Kato Kaur Keane Keller Kerr Khan Kimura Kowalski Krause Kruger Kumar Kuznetsov Lachance
Lambert Larsen Laurent Leclerc Lemaire Lind Lindqvist Lombardi Lovell Lund Macleod Madsen Mahler
Maier Malone Mancini Marchetti Marlowe Marsh Mbeki Medina Mehta Melnik Mendes Mercer Meyer
Mikkelsen Molina Montoya Morales Moreau Moretti Mori Mwangi Nagy Nakamura Navarro Ndiaye Nguyen
Nielsen Nkosi Novak Nunez Nyberg Obi Ochoa Odhiambo Okafor Okoye Olsen Ortega Osei Ozturk Pace
Pacheco Palmer Park Pascal Patel Pellegrini Perrin Petrov Pham Pinto Popescu Prescott Quigley Rahman
Ramos Rao Redgrave Reyes Ricci Rinaldi Rojas Romano Rossi Roux Ruiz Sakamoto Salazar Sandoval
Santos Sato Sauer Schmidt Schreiber Sen Serrano Shah Sharma Silva Singh Sokolov Solberg Sorensen
Soto Stark Steiner Strand Suzuki Svensson Szabo Takeda Tanaka Tavares Thorne Toivonen Torres Tran
Tremblay Ueda Ulrich Vance Varga Vasquez Vega Vidal Virtanen Vogel Volkov Wagner Walsh Watanabe
Weber Whitlock Winslow Wolff Yamada Yilmaz Zamora Zeman Zhang Zielinski""")

CITIES = listed("""Accra,Adelaide,Aleppo,Algiers,Amsterdam,Antwerp,Athens,Auckland,Baku,Baltimore,
Bangalore,Barcelona,Basel,Beirut,Belfast,Belgrade,Bergen,Berlin,Bilbao,Bogota,Bologna,Bombay,
Bordeaux,Boston,Bratislava,Bremen,Brisbane,Bristol,Brussels,Bucharest,Budapest,Buenos Aires,Cairo,
Calgary,Cape Town,Caracas,Cardiff,Casablanca,Chicago,Cologne,Copenhagen,Cork,Dakar,Damascus,Delhi,
Denver,Dresden,Dublin,Durban,Edinburgh,Florence,Frankfurt,Geneva,Genoa,Ghent,Glasgow,Gothenburg,
Halifax,Hamburg,Hanoi,Havana,Helsinki,Istanbul,Jakarta,Kyoto,Krakow,Lagos,Lahore,Leeds,Leipzig,
Lima,Lisbon,Liverpool,Ljubljana,London,Lyon,Madrid,Manchester,Manila,Marseille,Melbourne,Milan,
Minsk,Montreal,Mumbai,Munich,Nairobi,Nantes,Naples,Nicosia,Osaka,Oslo,Ottawa,Palermo,Paris,Perth,
Philadelphia,Porto,Prague,Quito,Reykjavik,Riga,Rome,Rotterdam,Salzburg,Santiago,Seattle,Seville,
Shanghai,Sofia,Stockholm,Sydney,Tallinn,Tbilisi,Tehran,Tokyo,Toronto,Tunis,Turin,Valencia,
Vancouver,Venice,Vienna,Vilnius,Warsaw,Wellington,Zagreb,Zurich""")

COUNTRIES = listed("""Albania,Algeria,Argentina,Armenia,Australia,Austria,Belgium,Bolivia,Brazil,
Bulgaria,Cambodia,Canada,Chile,China,Colombia,Croatia,Cuba,Cyprus,Denmark,Ecuador,Egypt,Estonia,
Ethiopia,Finland,France,Georgia,Germany,Ghana,Greece,Hungary,Iceland,India,Indonesia,Iran,Ireland,
Italy,Jamaica,Japan,Jordan,Kenya,Latvia,Lebanon,Lithuania,Malaysia,Malta,Mexico,Mongolia,Morocco,
Mozambique,Nepal,New Zealand,Nigeria,Norway,Pakistan,Paraguay,Peru,Poland,Portugal,Romania,Senegal,
Serbia,Slovakia,Slovenia,South Africa,South Korea,Spain,Sri Lanka,Sweden,Switzerland,Tanzania,
Thailand,Tunisia,Turkey,Uganda,Ukraine,Uruguay,Vietnam,Zambia""")

HEADS = table("""Al Ar Bal Bar Bel Bran Cal Car Cor Dal Dor Dun El Es Fal Fen Gar Gil Har Hel Il Is Jar
Kal Kel Kor Lan Lor Mar Mel Mor Nar Nor Ol Or Pel Per Quin Ral Ros Sal Sel Sor Tal Tar Tor Ul Val
Var Vel Ver Vor Wen Wil Yar Zal Zor""")
MIDDLES = table("a e i o u an en in on ar er or al el il am em ev iv ov ad ed id eth oth ist and")
TAILS = table("""bury dale den dor fell ford gard ham holm ia ka lund mar mere mont mouth na nor ra rath
sk stad stead ton va vale via vik wick worth zan""")

ADJECTIVES = table("""Amber Ancient Bitter Blue Borrowed Broken Burning Copper Crimson Crooked Distant
Empty Endless Faded Fallen Final Forgotten Frozen Gentle Golden Hidden Hollow Iron Last Little
Lonely Lost Midnight Narrow Northern Open Pale Paper Quiet Restless Sacred Scarlet Second Secret
Silent Silver Sleeping Southern Stolen Strange Sudden Summer Tender Velvet Wandering White Wild
Winter Wooden""")
NOUNS = table("""Anchor Arrow Autumn Bell Bird Bridge Candle Carnival Castle Clock Compass Corridor
Cradle Crossing Crown Dancer Door Dream Echo Ember Empire Feather Fire Forest Fountain Garden Gate
Ghost Harbor Harvest Heart Horizon Hour House Island Journey Key Kingdom Lantern Letter Lighthouse
Machine Map Meadow Mirror Moon Mountain Ocean Orchard Palace Passage Piano Promise Rain River Road
Rose Season Shadow Shore Signal Sky Song Sparrow Staircase Star Station Storm Stranger Thief Tide
Tower Train Valley Voice Window Witness Wolf""")
JOBS = listed("""lighthouse keeper,violin maker,retired boxer,night nurse,river pilot,beekeeper,
train driver,young chess player,clockmaker,schoolteacher,deep-sea diver,tailor,country doctor,
photographer,exiled poet,locksmith,fisherman,piano tuner,mapmaker,astronomer,baker,prison guard,
orphan,widowed farmer,circus acrobat,translator,bank clerk,opera singer,gardener,private detective,
engineer,shepherd,judge,mountain guide,forger,postman,sailor,puppeteer,librarian,smuggler
""")
DEEDS = listed("""adopts a wounded fox,inherits a haunted hotel,searches for a missing brother,
loses the family fortune,hides a stolen painting,falls in love with a rival,returns home after a war,
witnesses a murder,builds a flying machine,discovers a buried city,is blamed for a fire,
plans one final robbery,crosses a desert on foot,pretends to be a prince,runs for mayor,
uncovers a political conspiracy,befriends a ghost,is stranded on an island,opens a small restaurant,
receives letters from the future,raises three nieces,must cure a strange illness
""")
GENRES_A = table("dark surreal historical romantic satirical experimental low-budget political")
FILM_B = listed("drama,comedy,thriller,western,musical,mystery,horror,adventure,war,crime")
MUSIC_A = table("melodic acoustic electronic progressive psychedelic Latin Celtic ambient urban")
MUSIC_B = listed("folk,pop,rock,jazz,soul,blues,disco,funk,punk,country")
MATERIALS = listed("""granite,sandstone,limestone,red brick,steel,reinforced concrete,oak,white marble,
cast iron,timber,basalt,slate,glass and aluminium,weathered copper,yellow stone,pine,glazed tile
""")
STYLES_A = table("early late high provincial northern eclectic simplified")
STYLES_B = listed("Gothic,Baroque,Art Deco,Neoclassical,Romanesque,Brutalist,Art Nouveau")
ANIMALS = listed("""otter,heron,salmon,lynx,ibex,kingfisher,badger,swan,turtle,eagle,fox,owl,seal,puffin,
stork,hare,crane,bat,toad,beetle""")
HABITATS_A = table("lowland coastal upland flooded shaded dry humid cool remote")
HABITATS_B = listed("forests,wetlands,grasslands,cliffs,caves,swamps,meadows,dunes,riverbanks")
FOODS = listed("""beetles,fallen figs,small crabs,freshwater snails,moss,pine seeds,earthworms,moths,
wild berries,tadpoles,river shrimp,grass roots,lichen,nectar,ants""")
COLORS = table("orange yellow pale-blue white crimson violet green black silver bronze")
BODY = listed("throat,tail,belly,crest,wing tips,collar,forehead,back stripe,eye ring")
GOODS = listed("""copper,wool,olive oil,tin,timber,coffee,salt,cocoa,machine tools,silk,glass,dried fish,
tea,porcelain,cotton,paper,leather,wine,cement,phosphate,barley,honey""")
PRODUCTS_A = table("industrial marine portable electric precision medical agricultural low-cost")
PRODUCTS_B = listed("""pumps,bicycles,cameras,engines,scales,radios,lamps,sewing machines,turbines,
batteries,microscopes,refrigerators,instruments,valves""")
FEATURES_A = table("folding waterproof detachable built-in solar-powered curved ceramic magnetic")
FEATURES_B = listed("screen,keyboard,handle,lens,antenna,cooling fan,battery case,speaker")
STUDY = listed("""sea currents,coral growth,volcanic gases,bird migration,plant viruses,soil bacteria,
distant galaxies,muscle fibres,polar ice,crystal structure,bee navigation,human sleep,river deltas,
rare metals,blood proteins,fossil pollen,tree rings,deep earthquakes,fungal spores,cloud formation
""")
THINGS = listed("""a broken umbrella,two sleeping dogs,an empty rowing boat,a girl reading a letter,
a blind musician,a market at dawn,three fishermen,a burning windmill,a woman at a window,
a bowl of pears,an old soldier,a frozen canal,a wedding procession,a horse in the rain,
a child with a kite,a ruined abbey,a crowded ferry,a monk copying a book""")
CAUSES = listed("""clean drinking water,prison reform,rural schools,the protection of wetlands,
the rights of seamen,public libraries,the care of war orphans,road safety,wildlife rescue,
free legal advice,adult literacy,the preservation of old mills,the housing of refugees,
vaccination,fair wages,the blind and partially sighted,forest restoration,disaster relief
""")
TREATS = listed("""severe migraine,chronic asthma,high blood pressure,rheumatoid arthritis,
bacterial pneumonia,epilepsy,river fever,kidney stones,gout,psoriasis,heart failure,insomnia,
whooping cough,sleeping sickness,anaemia,glaucoma,sea sickness,intestinal worms,malaria
""")
EFFECTS = listed("""dry mouth,blurred vision,mild nausea,skin rash,joint pain,loss of appetite,drowsiness,
night sweats,hair loss,dizziness,stomach cramps,a metallic taste,ringing in the ears,headache,
swollen ankles,weight gain""")
SOURCES_A = table("bark leaves roots seeds flowers sap")
SOURCES_B = listed("marsh willow,mountain poppy,wild ginger,black alder,dwarf lily,sea holly")
MEATS = listed("""smoked eel,minced lamb,salted cod,chicken thighs,pork belly,red lentils,white beans,
goat meat,duck breast,river trout,beef shin,mushrooms,chickpeas,pumpkin,mussels,wild boar
""")
SIDES = listed("""flatbread,steamed rice,pickled cabbage,boiled potatoes,sour cream,green salad,
corn porridge,fried plantain,barley,noodles,black bread,roasted peppers,yoghurt,apple sauce
""")
SPICES = listed("""saffron,cumin,juniper berries,smoked paprika,fennel seeds,dried mint,tamarind,mustard,
black garlic,caraway,star anise,lemon peel,dill,coriander,sumac""")
SPORTS = listed("football,handball,rugby,hockey,basketball,volleyball,cricket,water polo")
KIT_A = table("red blue green black orange white maroon purple sky-blue gold")
CUSTOMS = listed("""throw flowers into the river,light paper lanterns,race wooden boats,paint their doors,
exchange small loaves of bread,burn a straw figure,ring cowbells,wear masks of birch bark,
release white pigeons,plant a young tree,carry torches up the hill,share a pot of soup,
dance around a tall pole,tell ghost stories,fly red kites,wash the temple steps,bake honey cakes
""")
HONOURS = listed("""the end of a plague,a medieval flood,the first rice harvest,the return of the swallows,
a victory over pirates,the founding of the city,a local saint,the longest night of the year,
the arrival of the first settlers,the opening of the canal,the sea goddess,the grape harvest
""")
LAW_TOPICS = listed("""working hours in mines,the sale of firearms,the import of cattle,public health,
the tax on land,child labour,the licensing of doctors,freedom of the press,river pollution,
voting by post,the price of bread,railway safety,foreign ownership of banks,divorce,
night work in bakeries,the export of grain,inheritance by daughters,insurance of sailors
""")
RESULTS = listed("""a ban on fishing nets,the loss of the northern ports,a payment in silver,
free passage for merchant ships,an exchange of prisoners,the return of three fortresses,
a joint customs union,the partition of the valley,a ten-year truce,the withdrawal of all garrisons,
shared control of the canal,the marriage of the two heirs""")
MISSION_GOALS = listed("""map the lunar poles,study solar wind,measure ocean salinity,photograph comets,
test an ion engine,search for water ice,collect asteroid dust,relay radio signals,
monitor polar ice sheets,observe gamma-ray bursts,study the rings of Saturn,track space debris,
analyse the clouds of Venus,grow plants in orbit""")
INSTRUMENTS = listed("""infrared camera,magnetometer,laser altimeter,dust analyser,radar antenna,
X-ray telescope,neutron detector,ultraviolet spectrometer,plasma probe,star tracker
""")
REASONS = listed("""heavy debts,a boiler explosion,falling ticket sales,a landslide,competition from buses,
structural cracks,a long strike,severe flooding,a shortage of coal,a change of government,
a fire in the main depot,storm damage""")
TACTICS = listed("""a surprise attack at dawn,a false retreat,heavy fog,the late arrival of cavalry,
a hidden ford,a shortage of gunpowder,a flooded causeway,the desertion of hired troops,
better artillery,a night march,a burning bridge,sudden snowfall""")
DEATHS = listed("""pneumonia,a riding accident,a heart attack,a car crash,tuberculosis,typhoid fever,
a stroke,a fall in the mountains,malaria,a boating accident,cancer,kidney failure
""")
JOBS_REAL = listed("""architect,journalist,painter,composer,lawyer,actor,diplomat,botanist,sculptor,
economist,playwright,explorer,surgeon,photographer,banker,priest,chess master,athlete,linguist
""")
PRIZES_A = listed("""Golden Heron,Silver Leaf,Northern Star,Crystal Bell,Blue Laurel,Saint Martin,
Grand Meridian,Royal Compass,Amber Crown,Iron Quill,White Falcon,Lantern""")
PRIZES_B = listed("Award,Prize,Medal")
MONTHS = table("""January February March April May June July August September October November
December""")
SEASONS = table("spring summer autumn winter")
SMALL = table("""zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty""")
ROMAN = table("I II III IV V VI VII")
FIELDS = listed("""chemist,physicist,botanist,geologist,astronomer,zoologist,physician,
oceanographer,mathematician,engineer""")

# ---------------------------------------------------------------- value makers

Value = tuple[str, str]  # the answer, and its form inside a sentence
Maker = Callable[[random.Random, int], "str | Value"]


def pick(rng: random.Random, items: list[str] | tuple) -> str:
    """A random item (faster than rng.choice)."""
    return items[int(rng.random() * len(items))]


def between(rng: random.Random, low: int, high: int) -> int:
    """A random integer in low..high (faster than rng.randint)."""
    return low + int(rng.random() * (high - low + 1))


def person(rng: random.Random, base: int = 0) -> str:
    """A full name, now and then with an initial or a double surname."""
    first = pick(rng, FEMALE if rng.random() < 0.5 else MALE)
    chance = rng.random()
    if chance < 0.08:
        return f"{first} {pick(rng, 'ABCDEFGHJKLMNPRSTVW')}. {pick(rng, SURNAMES)}"
    if chance < 0.14:
        return f"{first} {pick(rng, SURNAMES)}-{pick(rng, SURNAMES)}"
    return f"{first} {pick(rng, SURNAMES)}"


def plain_person(rng: random.Random, base: int = 0) -> str:
    """A first name and a surname."""
    return f"{pick(rng, FEMALE if rng.random() < 0.5 else MALE)} {pick(rng, SURNAMES)}"


def invented(rng: random.Random, base: int = 0) -> str:
    """An invented place name such as "Korevik"."""
    middle = pick(rng, MIDDLES) if rng.random() < 0.75 else ""
    return pick(rng, HEADS) + middle + pick(rng, TAILS)


def city(rng: random.Random, base: int = 0) -> str:
    """A real or an invented city."""
    return pick(rng, CITIES) if rng.random() < 0.6 else invented(rng)


def country(rng: random.Random, base: int = 0) -> str:
    """A real country."""
    return pick(rng, COUNTRIES)


def place(rng: random.Random, base: int = 0) -> str:
    """A city, at times with a country after it."""
    return f"{invented(rng)}, {country(rng)}" if rng.random() < 0.25 else city(rng)


def date(low: int, high: int) -> Maker:
    """A date `low` to `high` years after the entity's base year, in one of several formats."""

    def make(rng: random.Random, base: int) -> Value:
        year = base + between(rng, low, high)
        month, day = pick(rng, MONTHS), between(rng, 1, 28)
        style = int(rng.random() * 10)
        if style < 3:
            return f"{day} {month} {year}", f"on {day} {month} {year}"
        if style < 5:
            return f"{month} {day}, {year}", f"on {month} {day}, {year}"
        if style < 8:
            return str(year), f"in {year}"
        if style < 9:
            return f"{month} {year}", f"in {month} {year}"
        text = f"the {pick(rng, SEASONS)} of {year}"
        return (text if rng.random() < 0.5 else text[4:]), f"in {text}"

    return make


def quantity(low: int, high: int, unit: str = "", step: int = 1) -> Maker:
    """A number with thousands commas and a unit; `unit` may offer choices ("km|kilometres")."""
    units = [f" {part}" if part else "" for part in unit.split("|")]

    def make(rng: random.Random, base: int) -> str:
        return f"{between(rng, low, high) * step:,}{pick(rng, units)}"

    return make


def decimal(low: float, high: float, unit: str) -> Maker:
    """A number with one decimal and a unit."""
    units = unit.split("|")
    return lambda rng, base: f"{low + rng.random() * (high - low):.1f} {pick(rng, units)}"


def count(low: int, high: int) -> Maker:
    """A small number, as a word or as digits."""

    def make(rng: random.Random, base: int) -> str:
        number = between(rng, low, high)
        return SMALL[number] if number <= 20 and rng.random() < 0.6 else str(number)

    return make


def money(low: int, high: int) -> Maker:
    """A sum of money in millions."""

    def make(rng: random.Random, base: int) -> str:
        whole = between(rng, low, high)
        tenth = f".{between(rng, 1, 9)}" if rng.random() < 0.4 else ""
        return f"{pick(rng, '$$$£€')}{whole}{tenth} million"

    return make


def mix(pattern: str, *pools: list[str]) -> Maker:
    """A phrase whose {} slots are filled from the pools, in order."""

    def make(rng: random.Random, base: int) -> str:
        return articles(pattern.format(*[pick(rng, pool) for pool in pools]))

    return make


def pair(pool: list[str], glue: str = " and ") -> Maker:
    """Two different items of a pool."""

    def make(rng: random.Random, base: int) -> str:
        first = pick(rng, pool)
        second = pick(rng, pool)
        while second == first:
            second = pick(rng, pool)
        return first + glue + second

    return make


def named(*patterns: str) -> Maker:
    """A proper name: {p} an invented place, {s} a surname, {c} a city, {j} an adjective, {n} a noun."""

    def make(rng: random.Random, base: int) -> str:
        return pick(rng, patterns).format_map(
            {
                "p": invented(rng),
                "q": invented(rng),
                "s": pick(rng, SURNAMES),
                "u": pick(rng, SURNAMES),
                "f": plain_person(rng),
                "c": pick(rng, CITIES),
                "j": pick(rng, ADJECTIVES),
                "n": pick(rng, NOUNS),
                "m": pick(rng, NOUNS),
                "y": base,
                "r": pick(rng, ROMAN[1:]),
                "k": between(rng, 2, 99),
            }
        )

    return make


WORK_TITLES = (
    "The {j} {n}",
    "{j} {n}",
    "The {n} of {p}",
    "The {n} and the {m}",
    "A(n) {n} in {c}",
    "The {s} {n}",
    "{c} {n}",
    "Under the {j} {n}",
    "The {j} {n} of {f}",
    "Leaving {p}",
    "The Last {n} in {c}",
    "{n} and {m}",
    "Letters to {f}",
    "No {n} for {f}",
)
SONG_TITLES = (
    "{j} {n}",
    "{c} {n}",
    "Back to {c}",
    "Hold the {n}",
    "My {j} {n}",
    "{n} of {p}",
    "Waiting for the {n}",
    "Goodbye, {j} {n}",
    "Dance with the {n}",
    "Meet Me in {p}",
)
RULER_TITLES = (
    ("King", MALE),
    ("Queen", FEMALE),
    ("Emperor", MALE),
    ("Empress", FEMALE),
    ("Prince", MALE),
    ("Duchess", FEMALE),
)


def ruler(rng: random.Random, base: int = 0) -> str:
    """A ruler such as "Queen Amara II of Velmark"."""
    rank, names = pick(rng, RULER_TITLES)
    number = f" {pick(rng, ROMAN)}" if rng.random() < 0.7 else ""
    return f"{rank} {pick(rng, names)}{number} of {invented(rng)}"


def score(rng: random.Random, base: int) -> str:
    """A match score, the winner's goals first."""
    low = between(rng, 0, 31)
    return f"{low + between(rng, 1, 12)}-{low}"


def binomial(rng: random.Random, base: int) -> str:
    """A Latin-looking species name."""
    genus = pick(rng, HEADS) + pick(rng, ("aria", "opus", "ina", "ella", "odon", "ura", "ops"))
    return f"{genus} {pick(rng, SURNAMES).lower()}{pick(rng, ('i', 'ae', 'ensis'))}"


def drug(rng: random.Random, base: int) -> str:
    """A drug name such as "Velatrinol"."""
    stem = pick(rng, HEADS) + pick(rng, ("a", "o", "i", "e"))
    middle = pick(rng, ("tri", "pro", "xa", "mi", "dro", "fen", "zo", "ve", "lu", "cor", "ba"))
    return stem + middle + pick(rng, ("nol", "dine", "mab", "tin", "zole", "cillin", "pram", "vir"))


# ---------------------------------------------------------------- text helpers

SLOT = re.compile(r"\{(\w+)\}")
CHOICE = re.compile(r"\[([^\[\]]*)\]")
ARTICLE = re.compile(r"\b([Aa])\(n\) (\w+)")
REFERENCES = frozenset("tRPop")


def article(match: re.Match[str]) -> str:
    """Resolve one "a(n) word"."""
    letter, word = match.groups()
    low = word.lower()
    soft = low.startswith(("uni", "use", "eu", "one"))
    vowel = low[0] in "aeiou" and not soft
    vowel = vowel or low.startswith(("hour", "honest", "8")) or low in ("11", "18")
    return f"{letter}{'n' if vowel else ''} {word}"


def articles(text: str) -> str:
    """Resolve every "a(n)" in a text."""
    return ARTICLE.sub(article, text) if "(n)" in text else text


def capital(text: str) -> str:
    """The text with its first letter upper-case."""
    return text[0].upper() + text[1:]


def possessive(name: str) -> str:
    """The possessive of a name."""
    return name + ("'" if name.endswith("s") else "'s")


def expand(text: str) -> list[str]:
    """Every reading of a text with [a|b] choices."""
    match = CHOICE.search(text)
    if not match:
        return [" ".join(text.split())]
    head, tail = text[: match.start()], text[match.end() :]
    return [full for part in match[1].split("|") for full in expand(head + part + tail)]


# ---------------------------------------------------------------- domains


@dataclass(frozen=True)
class Spec:
    """What a domain is made of: names, references, base years, value makers and templates."""

    name: str
    title: Maker
    nouns: str  # how later sentences call it: "the film|the picture"; "" means a person
    years: tuple[int, int]
    makers: dict[str, Maker]
    text: str


SPECS = (
    Spec(
        "person",
        plain_person,
        "",
        (1840, 1920),
        {
            "born": date(0, 0),
            "birthplace": place,
            "died": date(48, 90),
            "job": mix("{}", JOBS_REAL),
            "spouse": person,
            "teacher": person,
            "school": named("{p} Academy", "{s} College", "the {c} Institute", "the University of {p}"),
            "cause": mix("{}", DEATHS),
            "prize": mix("the {} {}", PRIZES_A, PRIZES_B),
        },
        """
intro:
{t} was a(n) {job} from {birthplace}.
{t}, born {born}, was a well-known {job}.
{t} was a(n) {job} who studied at {school}.
{t} is remembered as a tireless traveller and a generous friend.
{t} was born in {birthplace} {born}.
multi:
{R} married {spouse} and later received {prize}.
{R} died {died} of {cause}.
Taught by {teacher}, {R} went on to win {prize}.
At {school}, {R} was a pupil of {teacher}.
fill:
A portrait by {person} hangs in the town hall of {city}.
A short biography by {person} appeared in {after}.
{P} letters were later collected by {person}.
{R} travelled widely and spoke several languages.
{R} lived for a few years in {city}.
desc:
the {job} from {birthplace}
the {job} who won {prize}
* born
{R} was born {}.
The birth of {o} was registered {}.
{R} came into the world {}, the youngest of several children.
? [when was {t} born|{t} date of birth|{t} birthday|what is the birth date of {t}]
? what year did {t} come into the world
* birthplace
{R} was born in {}.
{R} grew up in {}, where {p} family had lived for generations.
{P} [birthplace|home town] was {}.
? [where was {t} born|{t} place of birth|what is the birthplace of {t}|where does {t} come from]
? where did {t} grow up
* died
{R} died {}.
{P} death came {}.
{R} passed away {} after a short illness.
? [when did {t} die|{t} date of death|what year did {t} pass away|{t} death date]
* job
{R} worked [all {p} life|mainly] as a(n) {}.
{R} made a living as a(n) {}.
{R} trained as a(n) {} and never changed profession.
? [what did {t} do for a living|profession of {t}|what was {t} 's job|{t} occupation]
* spouse
{R} married {}.
{R} was married to {} for many years.
{P} marriage to {} lasted until {p} death.
? [who was {t} married to|who did {t} marry|{t} spouse|name of the person {t} married]
* teacher
{R} [studied under|was a pupil of] {}.
{R} was taught by {}.
{P} most important teacher was {}.
? [who taught {t}|who was the teacher of {t}|{t} was a student of|under whom did {t} study]
* school
{R} [was educated at|studied at|attended] {}.
{R} graduated from {}.
{} gave {o} a scholarship and a thorough education.
? [where did {t} study|what school did {t} go to|{t} education|where did {t} graduate from]
* cause
{R} died of {}.
{P} death was caused by {}.
In the end it was {} that killed {o}.
? [how did {t} die|{t} cause of death|what did {t} die of|what killed {t}]
* prize
{R} [won|received] {}.
{R} was awarded {}.
{} was given to {o} late in life.
? [what award did {t} win|which prize was {t} given|{t} awards|what honour did {t} receive]
""",
    ),
    Spec(
        "scientist",
        plain_person,
        "",
        (1840, 1950),
        {
            "field": mix("{}", FIELDS),
            "discovery": mix("a method for {} {}", ["measuring", "dating", "predicting", "modelling"], STUDY),
            "when": date(28, 45),
            "workplace": named(
                "the {c} Observatory",
                "the {s} Institute",
                "the University of {c}",
                "{p} University",
                "the {p} Research Station",
            ),
            "partner": person,
            "rival": person,
            "book": named("{j} {n}", "The {j} {n}", "Notes from {p}"),
            "thing": named("the {s} crater", "the {s} asteroid", "Mount {s}"),
            "country": country,
        },
        """
intro:
{t} was a(n) {field} [best known for|famous for|remembered for] {discovery}.
{t} was a(n) {field} who [worked|spent most of a long career] at {workplace}.
{t} was a scientist born in {country}.
{t} was a(n) {field} from {country}.
multi:
Together with {partner}, {R} announced {discovery} {when}.
{R} published {book} and moved to {workplace}.
Although {rival} claimed priority, {R} presented {discovery} {when}.
fill:
An early paper written with {person} was rejected in {before}.
{P} notebooks are kept in a museum in {city}.
A lecture hall in {city} was renovated in {after}.
{R} never learned to drive and walked to work every day.
desc:
the {field} from {country}
the {field} who worked at {workplace}
* field
{R} was trained as a(n) {}.
{R} is usually described as a(n) {}.
{R} began {p} career as a(n) {}.
? [what kind of scientist was {t}|{t} profession|what was the occupation of {t}]
? what type of work did {t} do
* discovery
{R} [developed|devised|invented] {}.
{R} is credited with {}.
{P} greatest achievement was {}.
? [what did {t} invent|what is {t} known for|what was developed by {t}]
? [why is {t} famous|{t} main contribution to science]
* when
{R} announced the breakthrough {}.
{P} main result was made public {}.
It was {} that {R} reported the discovery.
? when did {t} [make the discovery|announce the breakthrough|report the main result]
? what year did {t} publish the discovery
* workplace
{R} worked at {} for most of {p} life.
{R} held a post at {}.
{} employed {o} until retirement.
? [where did {t} work|which institution employed {t}|{t} worked at|where was {t} employed]
* partner
{R} worked closely with {}.
{P} closest collaborator was {}.
{} assisted {o} in the laboratory.
? [who worked with {t}|who did {t} collaborate with|{t} collaborator]
? who helped {t} in the lab
* rival
{P} findings were disputed by {}.
{} publicly attacked {o} for years.
{R} had a bitter quarrel with {}.
? [who disagreed with {t}|who was the rival of {t}|who criticized {t}|{t} scientific rival]
* book
{R} wrote {}, a book for general readers.
{R} summed up {p} ideas in the book {}.
{P} memoir, {}, sold well.
? [what book did {t} write|title of the book by {t}|name of {t} 's book|book written by {t}]
* thing
{R} is honoured in the name of {}.
{} was named after {o}.
{P} admirers named {} in {p} memory.
? [what is named after {t}|what was named in honor of {t}|which thing carries the name of {t}]
? thing named for {t}
* country
{R} was born in {}.
{P} native country was {}.
{R} was a native of {}.
? [what country was {t} from|where was {t} born|{t} nationality|in which country was {t} born]
""",
    ),
    Spec(
        "film",
        named(*WORK_TITLES),
        "the film|the picture|the movie",
        (1930, 2005),
        {
            "genre": mix("{} {}", GENRES_A, FILM_B),
            "director": person,
            "writer": person,
            "star": person,
            "composer": person,
            "released": date(0, 0),
            "location": place,
            "plot": mix("a(n) {} who {}", JOBS, DEEDS),
            "gross": money(2, 400),
            "length": quantity(74, 190, "minutes"),
        },
        """
intro:
{t} is a(n) {genre} film directed by {director}.
{t} is a(n) {genre} film about {plot}.
{t} is a film [starring|with] {star} [in the lead role|in the title role].
{t} is a(n) {genre} film released {released}.
{t} tells the story of {plot}.
multi:
{R} was directed by {director} from a screenplay by {writer}.
{R} stars {star} and features music by {composer}.
Shot in {location}, {R} opened in cinemas {released}.
{star} plays {plot}, while {composer} wrote the score.
fill:
{person} was first offered the main part but declined.
A remake produced by {person} was announced in {after}.
Critics praised the photography by {person}.
An early draft of the story had been rejected in {before}.
{R} received mixed reviews.
A restored version was shown at a festival in {city} in {after}.
desc:
the film about {plot}
the {genre} film with {star}
{director}'s film about {plot}
the {genre} film by {director}
* genre
{R} is usually classed as a(n) {}.
{R} was marketed as a(n) {}.
Reviewers described {o} as a(n) {}.
? [what genre is {t}|what kind of movie is {t}|{t} film genre|what type of film is {t}]
* director
{R} was directed by {}.
{} directed {o}.
{R} was the first feature made by director {}.
? [who directed {t}|who was the director of {t}|director of {t}|{t} was directed by]
? who is the filmmaker behind {t}
* writer
The screenplay of {o} was written by {}.
{} wrote the script for {o}.
{R} is based on a screenplay by {}.
? who wrote [the screenplay for|the script of] {t}
? [who is the screenwriter of {t}|{t} screenplay by]
* star
{} plays the leading role in {o}.
{R} stars {}.
The main part in {o} went to {}.
? who [stars|played the lead|plays the main character|is the lead actor] in {t}
? main actor in {t}
* composer
The music for {o} was composed by {}.
{} composed the score of {o}.
{R} has a score by {}.
? who [composed the music for|did the score for|wrote the soundtrack of] {t}
? {t} composer
* released
{R} was released {}.
{R} reached cinemas {}.
{R} had its premiere {}.
? when [did {t} come out|was {t} released|did {t} premiere]
? [what year did {t} come out|{t} release date]
* location
{R} was filmed [mostly|largely|entirely] in {}.
{} served as the main location for {o}.
Shooting of {o} took place in {}.
? where [was {t} filmed|was {t} shot|did they film {t}]
? [{t} filming location|where did the filming of {t} take place]
* plot
{R} follows {}.
At the centre of {o} is {}.
{R} is about {}.
? [what is {t} about|who is the main character of {t} about|{t} plot|what is the story of {t}]
* gross
{R} [earned|took in|grossed] {} worldwide.
{R} made {} at the box office.
Ticket sales for {o} came to {}.
? how much [money did {t} make|did {t} earn at the box office|did {t} gross]
? {t} box office
* length
{R} runs for {}.
{R} has a running time of {}.
The final cut of {o} lasts {}.
? [how long is {t}|{t} running time|what is the length of {t}|how many minutes is {t}]
""",
    ),
    Spec(
        "tv series",
        named(*WORK_TITLES),
        "the series|the show|the programme",
        (1962, 2008),
        {
            "creator": person,
            "lead": person,
            "channel": named("Channel {k}", "{p} Television", "Radio {c}", "{s} Network", "{j} TV"),
            "began": date(0, 0),
            "ended": date(2, 9),
            "seasons": count(2, 14),
            "episodes": quantity(16, 240, "episodes"),
            "setting": place,
            "song": named("{j} {n}", "Back to {c}", "My {n}"),
            "role": mix("a(n) {}", JOBS),
        },
        """
intro:
{t} is a television series created by {creator}.
{t} is a television drama set in {setting}.
{t} was a television series [shown|broadcast] on {channel}.
{t} is a television series [with|starring] {lead} as {role}.
multi:
{R} began on {channel} {began}.
{lead} plays {role} who moves to {setting}.
{R} ran for {seasons} seasons and {episodes} in all.
First shown {began}, {R} ended {ended}.
fill:
The pilot was rewritten by {person} after a poor test screening.
A spin-off starring {person} was cancelled in {after}.
{person} left the cast after the first season.
{R} was later dubbed into several languages.
The costumes were designed by {person}.
desc:
the {channel} series set in {setting}
the television show with {lead} as {role}
* creator
{R} was created by {}.
{} [created|devised] {o}.
The idea for {o} came from {}.
? who [created|came up with the idea for|is the creator of|made] {t}
? creator of {t}
* lead
{} has the leading role in {o}.
{R} stars {}.
The main character in {o} is played by {}.
? who [plays the main character in|stars in|is the lead actor in] {t}
? {t} main actor
* channel
{R} was broadcast on {}.
{} carried {o} from the first episode to the last.
{R} was made for {}.
? what [channel was {t} on|network aired {t}|channel did {t} come on]
? [where was {t} broadcast|{t} tv network]
* began
{R} first aired {}.
{R} was first broadcast {}.
The first episode of {o} was shown {}.
? when did {t} [start|first air|begin|premiere]
? {t} first episode date
* ended
{R} ended {}.
The last episode of {o} went out {}.
{R} was taken off the air {}.
? when did {t} [end|finish|go off the air]
? [{t} final episode date|when was {t} cancelled]
* seasons
{R} ran for {} seasons.
{} seasons of {o} were made.
{R} lasted {} seasons.
? how many [seasons of {t} are there|seasons does {t} have|seasons did {t} run]
? {t} number of seasons
* episodes
{R} consists of {}.
{} of {o} were produced.
In total, {R} has {}.
? how many episodes [of {t} are there|does {t} have|were made of {t}]
? {t} episode count
* setting
{R} is set in {}.
{R} takes place in {}.
The action of {o} is set in {}.
? where [is {t} set|does {t} take place|is {t} supposed to be]
? {t} setting
* song
The theme song of {o} is {}.
{R} opens with the song {}.
{} is the theme tune of {o}.
? what is [the theme song of|the opening song in|the theme tune to] {t}
? {t} theme song
* role
The hero of {o} is {}.
{R} is about {}.
{R} follows {}.
? [who is the hero of {t}|what is {t} about|what does the main character in {t} do]
? {t} main character
""",
    ),
    Spec(
        "song",
        named(*SONG_TITLES),
        "the song|the track|the single",
        (1950, 2010),
        {
            "singer": person,
            "writer": person,
            "producer": person,
            "released": date(0, 0),
            "album": named("{j} {n}", "{n} and {m}", "The {j} {n}"),
            "peak": mix("number {}", SMALL[1:]),
            "style": mix("{} {}", MUSIC_A, MUSIC_B),
            "length": decimal(2.1, 7.9, "minutes"),
            "cover": person,
            "theme": mix("a(n) {}", JOBS),
        },
        """
intro:
{t} is a(n) {style} song [recorded|sung] by {singer}.
{t} is a song written by {writer}.
{t} is a single from the album {album}.
{t} is a(n) {style} song about {theme}.
multi:
{R} was written by {writer} and produced by {producer}.
{singer} recorded {o} for the album {album}.
Released {released}, {R} reached {peak} on the charts.
{R} was later covered by {cover}, who had admired the version by {singer}.
fill:
The video was made by {person} in {city}.
{person} plays the guitar solo.
A live version was recorded in {city} in {after}.
{R} is still played at weddings and football matches.
desc:
the {style} song about {theme}
the {singer} song from the album {album}
* singer
{R} was recorded by {}.
{} sang {o} first.
{R} became the signature tune of singer {}.
? who [sings|sang|originally sang|recorded] {t}
? {t} singer
* writer
{R} was written by {}.
{} wrote the words and melody of {o}.
The author of {o} is {}.
? who [wrote|composed|is the songwriter of] {t}
? {t} songwriter
* producer
{R} was produced by {}.
{} produced {o}.
The recording of {o} was overseen by producer {}.
? who [produced|was the producer of] {t}
? [producer of {t}|{t} produced by]
* released
{R} was released {}.
{R} came out {}.
{R} appeared in shops {}.
? when [did {t} come out|was {t} released]
? [what year was {t} released|{t} release date]
* album
{R} appears on the album {}.
{R} was taken from the album {}.
{} is the album that contains {o}.
? what album [is {t} on|was {t} from|has {t}|does {t} appear on]
* peak
{R} [reached|climbed to|peaked at] {} on the national chart.
The best chart position of {o} was {}.
On the charts, {R} got as high as {}.
? [how high did {t} get on the charts|{t} chart position]
? what [was the peak position of {t}|number did {t} reach in the charts]
* style
{R} is usually described as {}.
{R} is an example of {}.
In style, {R} is {}.
? what [genre is|style of music is|kind of music is|type of song is] {t}
* length
{R} lasts {}.
The album version of {o} is {} long.
{R} has a length of {}.
? [how long is {t}|{t} length|how many minutes does {t} last|what is the duration of {t}]
* cover
{} recorded a cover of {o}.
{R} was later covered by {}.
A slower version of {o} was made by {}.
? who [covered|did a cover of|made another version of|did a slower version of] {t}
* theme
{R} tells of {}.
{R} is about {}.
The words of {o} describe {}.
? [what is {t} about|who is {t} about|{t} lyrics meaning|who do the lyrics of {t} describe]
""",
    ),
    Spec(
        "band",
        named("The {j} {n}s", "{n} {s}", "{j} {s}", "{n} of {c}", "{s} and the {n}s", "The {p} {n}s", "{p}"),
        "the band|the group",
        (1955, 2005),
        {
            "formed": date(0, 0),
            "origin": place,
            "style": mix("{} {}", MUSIC_A, MUSIC_B),
            "singer": person,
            "drummer": person,
            "guitarist": person,
            "album": named("{j} {n}", "{c} {n}", "The {n} and the {m}"),
            "label": named("{j} Records", "{s} Music", "{n} Discs"),
            "split": date(5, 16),
            "copies": quantity(12, 900, "copies", 1000),
        },
        """
intro:
{t} is a(n) {style} band from {origin}.
{t} was a band [formed|founded] {formed}.
{t} was a(n) {style} group led by singer {singer}.
{t} is a band from {origin} with {guitarist} on guitar.
multi:
{R} consisted of {singer} on vocals, {guitarist} on guitar and {drummer} on drums.
The debut album of {o}, {album}, was released by {label}.
Formed {formed}, {R} broke up {split}.
The album {album} sold {copies}.
fill:
Their bus broke down near {city} during the first tour.
The cover of the debut was drawn by {person}.
{person} played violin on several later recordings.
A concert in {city} was filmed in {after}.
desc:
the {style} band from {origin}
the band with {singer} as singer
* formed
{R} was formed {}.
The musicians of {o} began playing together {}.
{R} came together {}.
? when [was {t} formed|did {t} form|did {t} get together|did {t} start]
* origin
{R} comes from {}.
{R} was started in {}.
The home town of {o} is {}.
? where [is {t} from|did {t} come from|was {t} started]
? {t} hometown
* style
{R} is known for playing {}.
{R} plays a kind of {}.
The music of {o} is mostly {}.
? what [kind of music does {t} play|genre is {t}|type of music is {t}]
? {t} music genre
* singer
The lead singer of {o} is {}.
{R} is fronted by {}.
{} sings in {o}.
? who [is the lead singer of|is the vocalist for|sings in|fronts] {t}
* drummer
{} plays drums in {o}.
The drummer of {o} is {}.
{R} has {} on drums.
? who [is the drummer for|plays drums in|was on drums in]  {t}
? {t} drummer
* guitarist
{} plays guitar in {o}.
The guitarist of {o} is {}.
{R} has {} on guitar.
? who [plays guitar in|is the guitarist of|is on guitar in] {t}
? guitarist for {t}
* album
The first album of {o} was {}.
{R} made its debut with the album {}.
{} was the debut album of {o}.
? what [was the first album by|is the debut album of|was the name of the first record of] {t}
? {t} debut album
* label
{R} signed with {}.
{} released most records of {o}.
{R} recorded for {}.
? what [record label was {t} on|label signed {t}|label did {t} record for]
? {t} record label
* split
{R} broke up {}.
{R} split {} after a quarrel over money.
The last concert of {o} was given {}.
? when did {t} [break up|split up|disband|give the last concert]
* copies
The best-selling record of {o} sold {}.
{R} sold {} of its most popular record.
{} of the biggest hit by {o} were sold.
? how many copies did {t} sell
? [how many records did {t} sell|{t} sales|how well did the biggest hit of {t} sell]
""",
    ),
    Spec(
        "novel",
        named(*WORK_TITLES),
        "the novel|the book",
        (1820, 1995),
        {
            "author": person,
            "published": date(0, 0),
            "publisher": named("{s} and {u}", "{s} Press", "{j} {n} Books"),
            "setting": place,
            "hero": plain_person,
            "plot": mix("a(n) {} who {}", JOBS, DEEDS),
            "pages": quantity(120, 980, "pages"),
            "translator": person,
            "prize": mix("the {} {}", PRIZES_A, PRIZES_B),
            "villain": plain_person,
        },
        """
intro:
{t} is a novel by {author}.
{t} is a novel about {plot}.
{t} is a novel published {published}.
{t} is a novel set in {setting}.
{t} is a novel whose main character is {hero}.
multi:
{R} follows {hero}, {plot}.
Published by {publisher} {published}, {R} won {prize}.
In {setting}, {hero} is hunted by the cruel {villain}.
{translator} translated {o} into English, two years after {author} finished the last chapter.
fill:
A stage version by {person} failed in {city}.
The cover was painted by {person}.
An unfinished manuscript from {before} was later found in an attic.
{R} sold slowly at first but found readers later.
A radio adaptation was made in {after}.
desc:
the novel about {plot}
the novel by {author} set in {setting}
* author
{R} was written by {}.
{} wrote {o}.
The author of {o} is {}.
? who [wrote|is the author of|was the writer of] {t}
? [author of {t}|{t} was written by]
* published
{R} was published {}.
{R} first appeared in bookshops {}.
The first edition of {o} came out {}.
? when was {t} [published|first published]
? [what year did {t} come out|{t} publication date]
* publisher
{R} was published by {}.
{} brought out the first edition of {o}.
{R} was printed and sold by {}.
? who [published|was the publisher of|brought out] {t}
? {t} publisher
* setting
{R} is set in {}.
Most of {o} takes place in {}.
The events of {o} unfold in {}.
? where [is {t} set|does {t} take place|does the story of {t} happen]
? setting of {t}
* hero
The main character of {o} is {}.
{R} tells the life of {}.
{} is the narrator of {o}.
? who is the [main character in|protagonist of|hero of|central figure in] {t}
* plot
{R} tells the story of {}.
{R} is about {}.
The central figure of {o} is {}.
? what [is {t} about|is the plot of {t}|happens in {t}|is the story of {t}]
* pages
{R} has {}.
The first edition of {o} ran to {}.
{R} is {} long.
? how [many pages are in {t}|many pages does {t} have|long is {t}]
? {t} page count
* translator
{R} was translated into English by {}.
{} made the English translation of {o}.
The English version of {o} is by {}.
? who [translated {t}|translated {t} into english|made the english version of {t}]
? {t} translator
* prize
{R} won {}.
{R} was awarded {}.
{} went to {o}.
? what [prize did {t} win|award was given to {t}|award did {t} get]
? {t} literary prize
* villain
The villain of {o} is {}.
{} is the cruel opponent in {o}.
{R} has a villain called {}.
? who is the [villain in|bad guy in|antagonist of|cruel opponent in] {t}
""",
    ),
    Spec(
        "painting",
        named(
            "{j} {n}",
            "The {n} at {p}",
            "Portrait of {f}",
            "{c} in the {n}",
            "The {j} {n}",
            "View of {p}",
            "Still Life with {n}",
        ),
        "the painting|the work|the picture",
        (1480, 1930),
        {
            "artist": person,
            "date": date(0, 0),
            "museum": named("the {p} Museum", "the {s} Collection", "the {c} Gallery", "the National Museum in {c}"),
            "medium": mix(
                "{} on {}",
                ["oil", "tempera", "watercolour", "pastel"],
                ["canvas", "panel", "paper", "copper", "silk", "cardboard"],
            ),
            "subject": mix("{}", THINGS),
            "patron": person,
            "price": money(1, 180),
            "height": quantity(20, 310, "centimetres|cm"),
            "model": plain_person,
        },
        """
intro:
{t} is a painting by {artist}.
{t} is a painting that shows {subject}.
{t} is a work in {medium} by {artist}.
{t} is a painting kept in {museum}.
{t} is a(n) painting finished {date}.
multi:
{artist} painted {o} for {patron}.
Finished {date}, {R} shows {subject}.
{R} was sold for {price} and now hangs in {museum}.
{model} sat for the main figure, and {patron} paid for the work.
fill:
A copy made by {person} hangs in a church in {city}.
The frame was carved by {person}.
Restorers removed a layer of varnish in {late}.
{R} was once believed to be a forgery.
desc:
the painting of {subject}
the painting of {subject} by {artist}
* artist
{R} was painted by {}.
{} painted {o}.
The artist who made {o} was {}.
? who [painted|is the artist of|was the painter of|made the painting] {t}
? {t} artist
* date
{R} was completed {}.
{R} was painted {}.
Work on {o} ended {}.
? when was {t} [painted|completed|made|finished]
* museum
{R} [hangs in|belongs to|is on display in] {}.
{} owns {o}.
Visitors can see {o} in {}.
? where [is {t} kept|can you see {t}|is {t} now|is {t} displayed]
? what museum has {t}
* medium
{R} is made in {}.
The technique of {o} is {}.
{R} is a fine example of {}.
? what [is {t} painted on|medium is {t}|technique was used for {t}|materials were used for {t}]
* subject
{R} shows {}.
{R} depicts {}.
The viewer of {o} sees {}.
? what [does {t} show|is in {t}|does {t} depict|is the subject of {t}]
* patron
{R} was commissioned by {}.
{} ordered {o} for a private chapel.
The person who paid for {o} was {}.
? who [commissioned|paid for|ordered|was the patron of] {t}
* price
{R} was sold at auction for {}.
A collector paid {} for {o}.
At auction, {R} fetched {}.
? how much [did {t} sell for|was paid for {t}|is {t} worth]
? {t} auction price
* height
{R} is {} high.
The height of {o} is {}.
{R} stands {} tall without its frame.
? how [tall is {t}|high is {t}|big is {t}]
? what is the height of {t}
* model
The model for {o} was {}.
{} posed for {o}.
{R} uses the features of {}.
? who [was the model for|posed for|sat for|is the person in] {t}
""",
    ),
    Spec(
        "building",
        named(
            "{p} Hall",
            "the {s} Tower",
            "{p} Castle",
            "the {c} Exchange",
            "{s} House",
            "the {p} Library",
            "{p} Abbey",
            "the {j} Palace",
            "{s} Court",
            "the {c} Opera House",
        ),
        "the building",
        (1700, 1990),
        {
            "architect": person,
            "begun": date(-9, -3),
            "opened": date(0, 0),
            "city": city,
            "style": mix("{} {}", STYLES_A, STYLES_B),
            "height": quantity(18, 260, "metres|m|feet"),
            "material": pair(MATERIALS),
            "owner": named("the {s} family", "{p} Bank", "the {c} Trust", "the {s} Foundation"),
            "cost": money(1, 300),
            "floors": count(2, 60),
        },
        """
intro:
{t} is a(n) {style} building in {city}.
{t} is a building designed by {architect}.
{t} is a landmark in {city} that opened {opened}.
{t} is a(n) {style} building built of {material}.
multi:
Designed by {architect}, {R} rises to {height}.
Work began {begun} and ended when {R} opened {opened}.
{R} has {floors} floors and is owned by {owner}.
Built of {material}, {R} cost {cost}.
fill:
The gardens were laid out by {person}.
A fire destroyed the original roof in {after}.
An earlier house on the site was pulled down in {before}.
{R} is open to visitors at weekends.
The stained glass was made by {person} in {city2}.
desc:
the {style} building in {city}
the building in {city} made of {material}
* architect
{R} was designed by {}.
{} was the architect of {o}.
The plans for {o} were drawn by {}.
? who [designed|was the architect of|drew the plans for] {t}
? [{t} architect|architect of {t}]
* begun
Construction of {o} began {}.
The foundation stone of {o} was laid {}.
Work on {o} started {}.
? when [did construction of {t} begin|did they start building {t}|was {t} started]
? {t} start of construction
* opened
{R} was opened {}.
{R} opened its doors {}.
The opening of {o} took place {}.
? when [did {t} open|was {t} opened|was the opening of {t}]
? {t} opening date
* city
{R} stands in {}.
{R} is located in {}.
{} is home to {o}.
? [where is {t}|what city is {t} in|{t} location|where is {t} located]
* style
{R} is built in the {} style.
The style of {o} is {}.
Experts describe {o} as {}.
? what [style is {t}|architectural style is {t}|style of architecture is {t}]
? {t} architecture style
* height
{R} is {} high.
The height of {o} is {}.
{R} rises {} above the street.
? how [tall|high] is {t}
? [what is the height of {t}|{t} height]
* material
{R} is built of {}.
The walls of {o} are made of {}.
{} were used to build {o}.
? what is {t} [made of|built of|made out of]
? [{t} building material|what materials were used for {t}]
* owner
{R} belongs to {}.
{} owns {o}.
The present owner of {o} is {}.
? [who owns {t}|who is the owner of {t}|owner of {t}|who does {t} belong to]
* cost
{R} cost {} to build.
The total cost of {o} was {}.
{} was spent on {o}.
? how much [did {t} cost|did it cost to build {t}|was spent on {t}]
? {t} cost
* floors
{R} has {} floors.
There are {} floors in {o}.
Visitors to {o} can climb {} floors.
? how many [floors does {t} have|floors are in {t}|stories is {t}]
? {t} number of floors
""",
    ),
    Spec(
        "bridge",
        named("the {p} Bridge", "the {s} Bridge", "the {j} Bridge", "the {c} Viaduct", "the {p} Viaduct"),
        "the bridge|the structure",
        (1820, 1995),
        {
            "river": named("the {p}", "the River {p}"),
            "engineer": person,
            "opened": date(0, 0),
            "length": quantity(80, 4200, "metres|feet"),
            "kind": mix(
                "{} bridge", ["suspension", "stone arch", "cantilever", "swing", "truss", "cable-stayed", "bascule"]
            ),
            "material": mix("{}", MATERIALS),
            "spans": count(2, 30),
            "toll": mix("{} {}", SMALL[2:], ["cents", "pence", "crowns", "pesos"]),
            "opener": ruler,
        },
        """
intro:
{t} is a(n) {kind} over {river}.
{t} is a(n) {kind} designed by {engineer}.
{t} crosses {river} and was opened {opened}.
{t} is a(n) {kind} built of {material}.
multi:
{R} is {length} long and has {spans} spans.
Designed by {engineer}, {R} was opened by {opener}.
{R} carries road traffic across {river} for a toll of {toll}.
fill:
A wooden ferry used to run here until {before}.
A competing design by {person} was rejected.
The lamps were repaired in {after}.
{R} is popular with photographers.
desc:
the {kind} over {river}
the {kind} by {engineer}
* river
{R} crosses {}.
{R} spans {}.
{} flows under {o}.
? what river [does {t} cross|is under {t}|does {t} go over|does {t} span]
* engineer
{R} was designed by {}.
{} designed {o}.
The chief engineer of {o} was {}.
? who [designed|was the engineer of|built|was the designer of] {t}
* opened
{R} was opened to traffic {}.
{R} opened {}.
The first carts crossed {o} {}.
? when [did {t} open|was {t} opened|was {t} opened to traffic]
? {t} opening date
* length
{R} is {} long.
The total length of {o} is {}.
From end to end, {R} measures {}.
? [how long is {t}|length of {t}|what is the length of {t}|{t} total length]
* kind
{R} is a(n) {}.
In its construction, {R} is a(n) {}.
Engineers class {o} as a(n) {}.
? what [type of bridge is {t}|kind of bridge is {t}|sort of bridge is {t}]
? {t} bridge type
* material
{R} is built of {}.
The piers of {o} are made of {}.
{} was used to build {o}.
? what is {t} [made of|built of|made from]
? {t} material
* spans
{R} has {} spans.
There are {} spans in {o}.
{R} consists of {} spans.
? how many spans [does {t} have|are in {t}|are there in {t}|has {t}]
* toll
Drivers pay {} to cross {o}.
The toll for {o} is {}.
{R} charges a toll of {}.
? how much [does it cost to cross {t}|is the toll for {t}|do you pay on {t}]
? {t} toll
* opener
{R} was inaugurated by {}.
{} cut the ribbon of {o}.
{R} was declared open by {}.
? who [inaugurated|opened|cut the ribbon of|declared open] {t}
""",
    ),
    Spec(
        "river",
        named("the {p}", "the River {p}", "the {p} River", "the Rio {p}"),
        "the river",
        (1780, 1940),
        {
            "source": named("Lake {p}", "Mount {p}", "the {p} Hills", "the {p} Glacier"),
            "mouth": named("the Gulf of {p}", "the {q} Sea", "Lake {q}", "the Bay of {p}"),
            "length": quantity(60, 3400, "kilometres|km|miles"),
            "explorer": person,
            "country": country,
            "tributary": named("the {p}", "the Little {p}"),
            "city": city,
            "fish": mix("the {} {}", COLORS, ["trout", "perch", "eel", "carp", "pike"]),
            "dam": named("the {s} Dam", "the {p} Dam"),
            "when": date(0, 0),
        },
        """
intro:
{t} is a river in {country}.
{t} is a river that rises at {source}.
{t} is a river about {length} long.
{t} is a river that flows into {mouth}.
multi:
From {source}, {R} flows to {mouth}.
The largest city on {P} banks is {city}, just below {dam}.
{explorer} charted {P} upper course {when}.
In {country}, {R} is joined by {tributary}.
fill:
A flood in {after} destroyed many farms.
{person} wrote a travel book about a boat trip to {city2}.
The banks are lined with willows and reeds.
Gold was washed here before {before}.
desc:
the river from {source} to {mouth}
the river charted by {explorer}
* source
{R} rises at {}.
The source of {o} is {}.
{} feeds the upper course of {o}.
? where does {t} [start|begin|rise]
? [what is the source of {t}|source of {t}]
* mouth
{R} flows into {}.
{R} empties into {}.
{P} waters finally reach {}.
? where does {t} [end|flow into|empty]
? [what body of water does {t} flow into|mouth of {t}]
* length
{R} is {} long.
The total length of {o} is {}.
{R} runs for {}.
? [how long is {t}|what is the length of {t}|{t} length|length of {t}]
* explorer
{} was the first to chart {o}.
{R} was first mapped by {}.
The first map of {o} was drawn by {}.
? who [first mapped|discovered the course of|explored|drew the first map of] {t}
* country
{R} lies [wholly|entirely] in {}.
{R} flows through {}.
All of {o} belongs to {}.
? [what country is {t} in|where is {t} located|where is {t}|which country does {t} flow through]
* tributary
The main tributary of {o} is {}.
{R} is joined from the left by {}.
{} flows into {o}.
? what [is the main tributary of|river joins|is the largest tributary of|river flows into] {t}
* city
The largest city on {o} is {}.
{} lies on the banks of {o}.
{R} passes through {}.
? what [city is on|is the largest city on|city does the water of|city lies on the banks of] {t}
* fish
{R} is known for {}.
Anglers come to {o} for {}.
{} lives in {o}.
? what fish [lives in|is found in|can you catch in|is known from] {t}
* dam
{R} is held back by {}.
{} was built across {o}.
The only dam on {o} is {}.
? what dam [is on|was built across|holds back] {t}
? {t} dam name
* when
{R} was first surveyed {}.
{R} was charted {}.
The first survey of {o} was made {}.
? when was {t} [first surveyed|charted|mapped|first explored]
""",
    ),
    Spec(
        "mountain",
        named("Mount {p}", "Mount {s}", "{p} Peak", "the {j} Horn", "Pico {p}"),
        "the mountain|the peak",
        (1830, 1970),
        {
            "height": quantity(1200, 7900, "metres|m"),
            "range": named("the {p} Mountains", "the {p} Range", "the {s} Alps"),
            "country": country,
            "climber": person,
            "climbed": date(0, 0),
            "glacier": named("the {s} Glacier", "the {p} Glacier"),
            "rock": mix(
                "{}",
                [
                    "granite",
                    "basalt",
                    "limestone",
                    "gneiss",
                    "sandstone",
                    "quartzite",
                    "dolomite",
                    "schist",
                    "marble",
                    "slate",
                    "andesite",
                ],
            ),
            "base": named("{p}"),
            "hut": date(3, 40),
            "legend": mix("a(n) {} {}", COLORS, ["dragon", "giant", "serpent", "eagle", "goat", "queen"]),
        },
        """
intro:
{t} is a mountain in {country}.
{t} is the highest point of {range}.
{t} is a(n) {height} peak in {country}.
{t} is a mountain first climbed by {climber}.
multi:
{R} rises to {height} in {range}.
The first ascent was made by {climber} {climbed}.
Climbers start from {base} and cross {glacier}.
fill:
An attempt led by {person} failed in {before}.
A cross was put on a lower ridge in {after}.
A weather station near the top is run by scientists from {city}.
Snow covers the upper slopes for most of the year.
desc:
the mountain in {country} climbed by {climber}
the highest point of {range}
* height
{R} is {} high.
The summit of {o} lies at {}.
{R} reaches a height of {}.
? how [tall|high] is {t}
? [{t} elevation|what is the height of {t}]
* range
{R} belongs to {}.
{R} is part of {}.
{} includes {o}.
? what mountain range [is {t} in|does {t} belong to|is {t} part of]
? {t} mountain range
* country
{R} is located in {}.
{R} lies in {}.
All sides of {o} are in {}.
? [where is {t}|what country is {t} in|{t} location|where is {t} located]
* climber
{R} was first climbed by {}.
{} was the first person to climb {o}.
The first to reach the top of {o} was {}.
? who [first climbed|was the first to climb|made the first ascent of]  {t}
? first person to reach the top of {t}
* climbed
{R} was first climbed {}.
The first ascent of {o} was made {}.
The summit of {o} was reached {}.
? when was {t} [first climbed|climbed for the first time]
? [when was the first ascent of {t}|{t} first ascent date]
* glacier
{} covers the north side of {o}.
The largest glacier on {o} is {}.
{R} is crossed by {}.
? what glacier [is on|covers|crosses]  {t}
? [{t} glacier|name of the glacier on {t}]
* rock
{R} is made of {}.
The rock of {o} is mostly {}.
Geologists say that {R} consists of {}.
? what [is {t} made of|rock is {t} made of|kind of rock forms {t}]
? {t} rock type
* base
The usual starting point for {o} is {}.
Climbers reach {o} from the village of {}.
{} is the village nearest to {o}.
? what [village is closest to|is the starting point for climbing|is the nearest village to] {t}
? where do you start the climb of {t}
* hut
The stone hut on {o} was opened {}.
A hut for hikers was built on {o} {}.
{R} got its first climbers' hut {}.
? when was the hut [on {t} opened|on {t} built|at {t} opened]
? {t} hut opening date
* legend
In local legend, {R} is the home of {}.
{} is said to live on {o}.
Old tales say that {R} is guarded by {}.
? what [is said to live on|guards|creature lives on]  {t}
? legend of {t}
""",
    ),
    Spec(
        "town",
        named("{p}", "Port {p}", "Saint {p}", "Upper {p}", "New {p}"),
        "the town",
        (1240, 1880),
        {
            "country": country,
            "population": quantity(1200, 98000),
            "founder": plain_person,
            "founded": date(0, 0),
            "river": named("the {p}", "the River {p}"),
            "trade": mix("{}", GOODS),
            "saint": mix("Saint {}", FEMALE + MALE),
            "mayor": person,
            "twin": city,
        },
        """
intro:
{t} is a town in {country}.
{t} is a town on the banks of {river}.
{t} is a town known for its trade in {trade}.
{t} is a town founded by {founder}.
multi:
{R} was founded {founded} by the merchant {founder}.
Under mayor {mayor}, {R} became a twin town of {twin}.
With a population of {population}, {R} still lives from {trade}.
fill:
A bronze statue of {person} stands in front of the station.
The old market hall was rebuilt in {after}.
Trains to {city2} leave every hour.
The narrow streets of the centre are closed to cars.
desc:
the town in {country} on {river}
the town in {country} known for {trade}
* country
{R} is located in {}.
{R} lies in the west of {}.
{R} belongs to {}.
? [where is {t}|what country is {t} in|where is {t} located|{t} country]
* population
{R} has a population of {}.
{R} has {} inhabitants.
The last census counted {} people in {o}.
? [what is the population of {t}|how many people live in {t}|population of {t}]
? number of inhabitants in {t}
* founder
{R} was founded by {}.
{} founded {o}.
The founder of {o} was {}.
? who [founded|was the founder of|started the settlement of]  {t}
? founder of {t}
* founded
{R} was founded {}.
{R} received its town charter {}.
The first houses of {o} were built {}.
? when was {t} [founded|established|first settled]
? {t} founding date
* river
{R} lies on {}.
{R} stands on the banks of {}.
{} runs through {o}.
? what river [runs through|is near|is]  {t} [|on]
? river that flows past {t}
* trade
{R} is known for its {}.
{R} grew rich on {}.
The main product of {o} is {}.
? what is {t} [known for|famous for]
? what [does {t} produce|is the main product of {t}]
* saint
The patron saint of {o} is {}.
{R} is under the protection of {}.
The main church of {o} is dedicated to {}.
? who is the patron saint of {t}
? [{t} patron saint|which saint protects {t}|what saint is the church in {t} dedicated to]
* mayor
The mayor of {o} is {}.
{R} is governed by mayor {}.
{} was elected mayor of {o}.
? who [is the mayor of|was elected mayor of|governs] {t}
? {t} mayor
* twin
{R} is twinned with {}.
The twin town of {o} is {}.
{R} has a partnership with {}.
? what is the twin town of {t}
? [{t} sister city|what city is twinned with {t}|what is {t} twinned with]
""",
    ),
    Spec(
        "island",
        named("{p} Island", "the Isle of {p}", "{s} Island", "{p} Key"),
        "the island",
        (1520, 1860),
        {
            "sea": named("the {p} Sea", "the Gulf of {p}", "the {p} Strait"),
            "area": quantity(4, 8200, "square kilometres|square miles"),
            "population": quantity(40, 64000),
            "country": country,
            "discoverer": person,
            "discovered": date(0, 0),
            "peak": named("Mount {p}", "{s} Hill"),
            "bird": mix("the {}-headed {}", COLORS, ["gull", "petrel", "finch", "parrot", "owl", "tern", "rail"]),
            "export": mix("{}", GOODS),
        },
        """
intro:
{t} is an island in {sea}.
{t} is an island that belongs to {country}.
{t} is an island with an area of {area}.
{t} is an island sighted by {discoverer} {discovered}.
multi:
{R} covers {area} and has {population} inhabitants.
The explorer {discoverer} reached {o} {discovered}.
{R} is governed by {country} and exports {export}.
fill:
A ship commanded by {person} was wrecked here in {after}.
A ferry from {city2} calls twice a week.
The southern beaches are popular with visitors.
A survey by {person} in {late} found no fresh water in the north.
desc:
the island in {sea}
the {country} island in {sea}
* sea
{R} lies in {}.
{R} is surrounded by the waters of {}.
{} surrounds {o}.
? what [sea is {t} in|body of water surrounds {t}|sea surrounds {t}]
? in which waters is {t}
* area
{R} has an area of {}.
{R} covers {}.
The surface of {o} measures {}.
? how [big|large] is {t}
? [what is the area of {t}|{t} size]
* population
{R} has a population of {}.
{} people live on {o}.
{R} is home to {} people.
? [how many people live on {t}|population of {t}|what is the population of {t}]
? number of people on {t}
* country
{R} belongs to {}.
{R} is part of {}.
{} governs {o}.
? [what country owns {t}|who owns {t}|which country does {t} belong to|{t} belongs to]
* discoverer
{R} was discovered by {}.
{} discovered {o}.
The first sailor to sight {o} was {}.
? who [discovered|first sighted|found|was the discoverer of] {t}
* discovered
{R} was discovered {}.
{R} was first sighted {}.
Sailors first landed on {o} {}.
? when was {t} [discovered|found|first sighted|first visited]
* peak
The highest point of {o} is {}.
{} is the highest hill on {o}.
{R} is dominated by {}.
? what is the [highest point of|tallest hill on|highest place on]  {t}
? {t} highest point
* bird
{R} is the only home of {}.
{} breeds only on {o}.
{R} is famous among bird watchers for {}.
? what bird [lives only on|is found on|breeds on|is special to] {t}
* export
{R} exports {}.
The chief export of {o} is {}.
The people of {o} live from selling {}.
? what [does {t} export|is the main export of {t}|does {t} sell]
? {t} exports
""",
    ),
    Spec(
        "country",
        named("the Republic of {p}", "the Kingdom of {p}", "{p}ia", "{p}land", "the Duchy of {p}"),
        "the country|the state",
        (1780, 1960),
        {
            "capital": invented,
            "currency": mix("the {}", [f"{n.lower()}{e}" for n in HEADS[:50] for e in ("ar", "in", "ot", "ek")]),
            "language": named("{p}ic", "{p}ese", "{p}ish"),
            "population": decimal(1.1, 48, "million"),
            "independence": date(0, 0),
            "leader": person,
            "export": mix("{}", GOODS),
            "flower": mix("the {} {}", COLORS, ["lily", "orchid", "poppy", "iris", "rose", "tulip"]),
            "anthem": named("{j} {n}", "Rise, {p}", "The {n} of {p}"),
        },
        """
intro:
{t} is a country whose capital is {capital}.
{t} is a small state with a population of {population}.
{t} is a country that became independent {independence}.
{t} is a country where most people speak {language}.
multi:
{R} has {population} inhabitants and its capital is {capital}.
Led by {leader}, {R} became independent {independence}.
{R} uses {currency} and exports mainly {export}.
fill:
{city2} was the seat of government until {before}.
A treaty of friendship was signed in {after}.
The foreign minister, {person}, resigned after a scandal.
Football is the most popular sport.
desc:
the country with the capital {capital}
the country where people speak {language}
* capital
The capital of {o} is {}.
{R} is governed from its capital, {}.
{} is the capital of {o}.
? what is the capital [of|city of]  {t}
? [{t} capital|capital of {t}]
* currency
The currency of {o} is {}.
{R} uses {} as its currency.
People in {o} pay with {}.
? what [is the currency of|money do they use in|money is used in] {t}
? {t} currency
* language
The official language of {o} is {}.
{R} has {} as its official language.
Most people in {o} speak {}.
? what language [do they speak in {t}|is spoken in {t}|do people speak in {t}]
? {t} official language
* population
{R} has a population of {}.
The population of {o} is {}.
{R} has {} inhabitants.
? [what is the population of {t}|how many people live in {t}|population of {t}|{t} population]
* independence
{R} became independent {}.
{R} declared its independence {}.
The flag of {o} was raised for the first time {}.
? when did {t} [become independent|gain independence|get its independence]
? {t} independence date
* leader
The first president of {o} was {}.
{} was the first president of {o}.
{R} chose {} as its first president.
? who was the first [president|head of state] of {t}
? [first president of {t}|{t} first leader]
* export
The main export of {o} is {}.
{R} exports mostly {}.
{R} earns most of its money from {}.
? what [does {t} export|is the main export of {t}|is {t} 's biggest export]
? {t} main export
* flower
The national flower of {o} is {}.
{R} has {} as its national flower.
{} is the floral emblem of {o}.
? what is the [national flower|floral emblem|flower symbol] of {t}
? {t} national flower
* anthem
The national anthem of {o} is {}.
{R} has {} as its national anthem.
{} is sung as the anthem of {o}.
? what is the [national anthem of|name of the anthem of|anthem of]  {t}
? {t} national anthem
""",
    ),
    Spec(
        "company",
        named(
            "{s} Industries",
            "{s} and {u}",
            "{p} Motors",
            "{j} {n} Company",
            "{p} Electric",
            "{s} Brothers",
            "{n}works",
            "{p} Foods",
            "{s} Group",
        ),
        "the company|the firm",
        (1860, 1995),
        {
            "founder": person,
            "founded": date(0, 0),
            "city": city,
            "product": mix("{} {}", PRODUCTS_A, PRODUCTS_B),
            "chief": person,
            "staff": quantity(40, 92000),
            "revenue": money(3, 900),
            "owner": named("{s} Holdings", "{p} Capital", "the {s} family"),
            "former": named("{s} Works", "{p} Trading"),
        },
        """
intro:
{t} is a company that makes {product}.
{t} is a company [based in|with headquarters in] {city}.
{t} is a manufacturer founded by {founder}.
{t} is a company owned by {owner}.
multi:
{R} was founded {founded} by {founder}.
From its headquarters in {city}, {R} sells {product}.
Under chief executive {chief}, {R} grew to {staff} employees.
{founder}, who started {o}, was succeeded as chief executive by {chief}.
fill:
A plan to open a second factory in {city2} was dropped in {after}.
The logo was drawn by {person}.
The finance director, {person}, left after a dispute.
Its canteen once won a cooking competition.
desc:
the {city} company that makes {product}
the company founded by {founder}
* founder
{R} was founded by {}.
{} [founded|started] {o}.
The founder of {o} was {}.
? who [founded|started|was the founder of|created] {t}
* founded
{R} was founded {}.
{R} began business {}.
The story of {o} began {}.
? when [was {t} founded|did {t} start|was {t} established|did {t} begin business]
* city
{R} is based in {}.
{R} has its headquarters in {}.
The head office of {o} is in {}.
? where [is {t} based|are the headquarters of {t}|is {t} located]
? {t} headquarters
* product
{R} makes {}.
{R} is known for its {}.
The main products of {o} are {}.
? what does {t} [make|produce|manufacture|sell]
* chief
The chief executive of {o} is {}.
{R} is headed by {}.
{} runs {o}.
? who is the [ceo|chief executive|head] of {t}
? who runs {t}
* staff
{R} employs {} people.
{R} has {} employees.
The workforce of {o} numbers {}.
? how many [people work for {t}|employees does {t} have|people does {t} employ]
? {t} number of employees
* revenue
{R} reported annual sales of {}.
The yearly revenue of {o} is {}.
{R} turns over {} a year.
? how much [money does {t} make|revenue does {t} have|are the annual sales of {t}]
? {t} revenue
* owner
{R} is owned by {}.
{} owns {o}.
{R} was bought by {}.
? who [owns|is the owner of|bought] {t}
? parent company of {t}
* former
{R} was formerly called {}.
{R} used to trade as {}.
The original name of {o} was {}.
? what was {t} [called before|formerly known as|originally called]
? [old name of {t}|former name of {t}]
""",
    ),
    Spec(
        "product",
        named("the {s} {k}", "the {n} {k}", "{p} {n}", "the {j} {n}", "{s}Pad {k}", "{n}OS {k}"),
        "the device|the product",
        (1950, 2005),
        {
            "maker": named("{s} Electronics", "{p} Systems", "{s} and {u}", "{p} Labs"),
            "designer": person,
            "launched": date(0, 0),
            "price": mix("${}", [str(n) for n in range(19, 1900, 10)]),
            "feature": mix("a(n) {} {}", FEATURES_A, FEATURES_B),
            "sold": decimal(1.1, 60, "million"),
            "weight": quantity(90, 9000, "grams"),
            "ended": date(3, 14),
            "successor": named("the {s} {k}", "the {n} {k}"),
            "city": city,
        },
        """
intro:
{t} is an electronic device made by {maker}.
{t} is a device with {feature}.
{t} is a device designed by {designer}.
{t} is a product launched {launched} by {maker}.
multi:
{R} was designed by {designer} and had {feature}.
Launched {launched}, {R} was discontinued {ended}.
{R} cost {price} and weighed {weight}.
Before it was replaced by {successor}, {R} sold {sold} units.
fill:
A magazine test by {person} praised the display.
An earlier prototype from {before} was never sold.
The advertising campaign was filmed in {city2}.
Collectors now pay high prices for it.
desc:
the {maker} device with {feature}
the device designed by {designer}
* maker
{R} was made by {}.
{} manufactured {o}.
{R} was a product of {}.
? who [made|makes|was the manufacturer of|produced] {t}
* designer
{R} was designed by {}.
{} designed {o}.
The designer of {o} was {}.
? who [designed|was the designer of|came up with the design of]  {t}
? {t} designer
* launched
{R} went on sale {}.
{R} was launched {}.
Shops first offered {o} {}.
? when did {t} [come out|go on sale|get released]
? {t} launch date
* price
{R} cost {} at launch.
The original price of {o} was {}.
{R} was sold for {}.
? how much [did {t} cost|was {t}|was {t} sold for]
? {t} price
* feature
{R} had {}.
{R} was known for {}.
The most unusual part of {o} was {}.
? what [was special about {t}|feature was {t} known for|did {t} have]
? {t} special feature
* sold
{R} sold {} units.
{} units of {o} were sold.
The total sales of {o} reached {} units.
? how many [units of {t} were sold|of {t} were sold|units did {t} sell]
? {t} sales figures
* weight
{R} weighed {}.
The weight of {o} was {}.
On the scales, {R} came to {}.
? how [much does {t} weigh|heavy is {t}|much did {t} weigh]
? {t} weight
* ended
Production of {o} ended {}.
{R} was discontinued {}.
The last unit of {o} left the factory {}.
? when [was {t} discontinued|did they stop making {t}|did production of {t} end]
? {t} end of production
* successor
{R} was replaced by {}.
The successor of {o} was {}.
{} took the place of {o}.
? what [replaced {t}|came after {t}|was the successor to {t}|is the successor of {t}]
* city
{R} was assembled in {}.
The factory that built {o} stood in {}.
{R} was produced in {}.
? where was {t} [made|assembled|produced|manufactured]
""",
    ),
    Spec(
        "team",
        named(
            "{p} United", "{c} {n}s", "{p} Rovers", "{p} {n}s", "Real {p}", "Athletic {c}", "{p} City", "Sporting {p}"
        ),
        "the club|the team",
        (1870, 1990),
        {
            "sport": mix("{}", SPORTS),
            "city": invented,
            "founded": date(0, 0),
            "coach": person,
            "captain": person,
            "stadium": named("{s} Park", "{p} Stadium", "the {s} Arena"),
            "capacity": quantity(24, 900, "", 100),
            "colors": pair(KIT_A),
            "titles": count(2, 20),
            "scorer": person,
            "nickname": named("the {j} {n}s", "the {n}s"),
        },
        """
intro:
{t} is a(n) {sport} club from {city}.
{t} is a(n) {sport} team coached by {coach}.
{t} is a(n) {sport} club that plays at {stadium}.
{t} is a(n) {sport} club founded {founded}.
multi:
{R} plays in {colors} at {stadium}.
The coach of {o} is {coach}, and the captain is {captain}.
{R} was founded {founded} and has won {titles} national titles.
Known as {nickname}, {R} plays before up to {capacity} fans.
fill:
Former player {person} now runs the youth school.
A friendly match in {city2} was abandoned in {after}.
The supporters are known for their drums.
The club doctor is {person}.
desc:
the {sport} club from {city}
the {sport} team of coach {coach}
* sport
{R} plays {}.
{R} takes part in the national {} league.
The sport of {o} is {}.
? what [sport does {t} play|sport is {t}|game does {t} play]
? {t} sport
* city
{R} is based in {}.
The home of {o} is {}.
{R} comes from {}.
? where [is {t} from|is {t} based|does {t} come from]
? {t} home city
* founded
{R} was founded {}.
{R} was established {}.
The first meeting of {o} was held {}.
? when was {t} [founded|established|created]
? {t} year of foundation
* coach
{R} is coached by {}.
{} coaches {o}.
The coach of {o} is {}.
? who [coaches|is the coach of|is the manager of|is the head coach for] {t}
* captain
The captain of {o} is {}.
{R} is captained by {}.
{} leads {o} on the field.
? who [is the captain of|captains|leads]  {t} [|on the field]
? captain of {t}
* stadium
{R} plays at {}.
The home ground of {o} is {}.
{R} has its home games at {}.
? where does {t} play
? [what stadium does {t} play in|{t} home stadium|name of the ground of {t}]
* capacity
The ground of {o} has {} seats.
{R} plays in front of up to {} fans.
The arena of {o} holds {} people.
? how many [people does the ground of {t} hold|seats are in the stadium of {t}]
? [{t} stadium capacity|how many fans can watch {t}]
* colors
{R} plays in {}.
The colours of {o} are {}.
{R} wears {}.
? what [colors does {t} wear|are the colors of {t}|color are the shirts of {t}]
? {t} team colors
* titles
{R} has won {} national titles.
The trophy room of {o} holds {} league cups.
{R} has been champion {} times.
? how many [titles has {t} won|championships does {t} have|times has {t} been champion]
? {t} number of titles
* scorer
The record goalscorer of {o} is {}.
{} has scored the most goals for {o}.
{R} owes most of its goals to {}.
? who [is the top scorer of {t}|scored the most goals for {t}|holds the goal record for {t}]
? {t} record goalscorer
* nickname
{R} is nicknamed {}.
Fans call {o} {}.
The nickname of {o} is {}.
? what is [the nickname of {t}|{t} 's nickname|{t} also called]
? {t} nickname
""",
    ),
    Spec(
        "match",
        named("the {y} {p} Cup final", "the {y} {s} Trophy", "the {y} {p} Open", "the {y} {j} Shield final"),
        "the match|the game",
        (1900, 2010),
        {
            "winner": named("{p} United", "{p} Rovers", "Sporting {p}"),
            "loser": named("{p} City", "Athletic {p}", "{p} Wanderers"),
            "score": score,
            "venue": named("{s} Park", "the {p} Stadium"),
            "city": city,
            "crowd": quantity(2100, 88000),
            "referee": person,
            "player": person,
            "scorer": person,
            "broadcaster": named("{p} Television", "Channel {k}"),
        },
        """
intro:
{t} was a match between {winner} and {loser}.
{t} was played at {venue}.
{t} was a match held in {city}.
{t} was a game watched by {crowd} spectators.
multi:
{winner} beat {loser} with a score of {score}.
A crowd of {crowd} watched {o} at {venue}.
{scorer} scored first, but {player} was named best player.
Under referee {referee}, {R} ended {score}.
fill:
The singer {person} performed before the start.
The trophy had been made by a silversmith in {city2}.
The start was delayed by heavy rain.
{person} missed the day because of an injury.
desc:
the match between {winner} and {loser}
* winner
{R} was won by {}.
{} won {o}.
The winner of {o} was {}.
? who [won|was the winner of]  {t}
? [{t} winner|which team won {t}]
* loser
{R} ended in defeat for {}.
{} lost {o}.
The beaten side in {o} was {}.
? who [lost|was the loser of|finished second in|was defeated in] {t}
* score
{R} ended {}.
The final score of {o} was {}.
{R} finished with a score of {}.
? what was the [score|final score|result] of {t}
? {t} score
* venue
{R} was played at {}.
{R} took place at {}.
{} hosted {o}.
? [where was {t} played|what stadium was {t} in|what was the venue of {t}|{t} venue]
* city
{R} was held in {}.
The city of {} hosted {o}.
{R} brought thousands of visitors to {}.
? what city [hosted {t}|was {t} in|was {t} held in]
? {t} host city
* crowd
{R} was watched by {} people.
The attendance at {o} was {}.
{} tickets were sold for {o}.
? how many people [watched|were at|attended] {t}
? {t} attendance
* referee
The referee of {o} was {}.
{} refereed {o}.
{R} was controlled by referee {}.
? who [refereed|was the referee of|was the official in]  {t}
? {t} referee
* player
{} was named the best player of {o}.
The prize for the best player of {o} went to {}.
{R} made a hero of {}, who was voted player of the day.
? who [was the best player in|was mvp of|was man of the match in|was player of the day in] {t}
* scorer
The first goal of {o} was scored by {}.
{} scored first in {o}.
{R} began with an early goal by {}.
? who scored [first|the first goal|the opening goal] in {t}
? {t} first goalscorer
* broadcaster
{R} was shown live on {}.
{} broadcast {o}.
The television rights for {o} belonged to {}.
? what channel [was {t} on|showed {t}|broadcast {t}]
? {t} tv channel
""",
    ),
    Spec(
        "battle",
        named("the Battle of {p}", "the Siege of {p}", "the Battle of {s} Hill"),
        "the battle|the fighting",
        (1240, 1870),
        {
            "date": date(0, 0),
            "victor": plain_person,
            "defeated": plain_person,
            "war": named("the War of the {j} {n}", "the {p} War", "the {n} Wars"),
            "country": country,
            "losses": quantity(300, 24000, "men"),
            "tactic": mix("{}", TACTICS),
            "ally": named("the Duke of {p}", "the Count of {p}", "the Bishop of {p}"),
            "memorial": named("a stone column in {p}", "a chapel in {p}", "a museum in {p}"),
        },
        """
intro:
{t} was fought {date} during {war}.
{t} was part of {war}.
{t} was a victory for the army of {victor}.
{t} took place in what is now {country}.
multi:
The army of {victor} defeated the forces of {defeated}.
Fought {date}, {R} was decided by {tactic}.
{defeated} lost {losses}, although {ally} sent help.
fill:
An earlier clash in {before} had ended without result.
The chronicler {person} described the weather in great detail.
Peace talks in {city2} had failed the year before.
The field is farmland today.
desc:
the clash in which {victor} beat {defeated}
* date
{R} was fought {}.
{R} took place {}.
The armies met in {o} {}.
? when [was {t}|was {t} fought|did {t} take place]
? {t} date
* victor
{R} was won by {}.
{} was victorious in {o}.
The winning commander in {o} was {}.
? who [won|was the winner of|was the winning general in|was victorious in] {t}
* defeated
{R} ended in defeat for {}.
{} was the losing commander in {o}.
{R} ruined the plans of {}, who fled.
? who [lost|was defeated in|was the losing commander in|was beaten at] {t}
* war
{R} was part of {}.
{R} belongs to the history of {}.
{R} was the bloodiest day of {}.
? what war [was {t} part of|was {t} in|did {t} belong to]
? {t} war
* country
{R} was fought in {}.
The site of {o} lies in {}.
{R} took place on the soil of {}.
? where [was {t}|was {t} fought|did {t} take place]
? what country was {t} in
* losses
The defeated side in {o} lost {}.
{R} cost the losing army {}.
{} of the beaten army died in {o}.
? how many [died in|people died at|soldiers were killed in|men were lost in] {t}
* tactic
{R} was decided by {}.
The outcome of {o} was due to {}.
The turning point of {o} was {}.
? what [decided|was the turning point of|was the reason for the outcome of]  {t}
? how was {t} won
* ally
{} sent help to the losing side in {o}.
{R} also involved {}, an ally of the defeated.
The beaten side in {o} was supported by {}.
? who [helped the losing side in|was an ally of the defeated in|supported the losers of]  {t}
? who sent help to the losing side at {t}
* memorial
{R} is remembered by {}.
The dead of {o} are honoured by {}.
The memorial of {o} is {}.
? what [is the memorial of|reminds people of|honors the dead of]  {t}
? {t} memorial
""",
    ),
    Spec(
        "treaty",
        named("the Treaty of {p}", "the Peace of {p}", "the {p} Convention", "the {s} Agreement", "the {c} Accord"),
        "the treaty|the agreement",
        (1640, 1930),
        {
            "signed": date(0, 0),
            "parties": pair(COUNTRIES),
            "place": city,
            "result": mix("{}", RESULTS),
            "mediator": person,
            "drafter": person,
            "ended": named("the {p} War", "the War of the {n}"),
            "articles": count(4, 60),
            "broken": date(3, 30),
        },
        """
intro:
{t} was an agreement between {parties}.
{t} was signed {signed} by {parties}.
{t} was a treaty that ended {ended}.
{t} was an agreement negotiated in {place}.
multi:
Signed in {place} {signed}, {R} led to {result}.
The text, with its {articles} articles, was drafted by {drafter}.
{mediator} acted as mediator, while {drafter} drafted the text.
{R} was signed {signed} and broken {broken}.
fill:
The first talks had collapsed in {before}.
A translation was prepared by {person}.
The seal was made by a goldsmith from {city2}.
A later copy is kept in a national archive.
desc:
the agreement between {parties}
the agreement that ended {ended}
* signed
{R} was signed {}.
{R} was concluded {}.
The signatures were put under {o} {}.
? when was {t} [signed|concluded|agreed]
? {t} date of signing
* parties
{R} was signed by {}.
{R} bound {}.
The parties to {o} were {}.
? who [signed|were the parties to|was bound by]  {t}
? which countries signed {t}
* place
{R} was signed in {}.
The talks for {o} were held in {}.
{} was the place where {o} was signed.
? where [was {t} signed|was {t} negotiated|were the talks for {t}]
? {t} place of signing
* result
{R} led to {}.
The main result of {o} was {}.
{R} brought {}.
? what [did {t} do|was the result of {t}|did {t} lead to|did {t} bring about]
* mediator
The mediator of {o} was {}.
{R} was arranged by the mediator {}.
{} brought the two sides of {o} together.
? who [mediated|was the mediator of|arranged|brought the sides together for] {t}
* drafter
{R} was drafted by {}.
{} wrote the text of {o}.
The words of {o} are the work of {}.
? who [drafted|wrote the text of|wrote]  {t}
? author of the text of {t}
* ended
{R} ended {}.
{} was brought to an end by {o}.
{R} put an end to {}.
? what war [did {t} end|was ended by {t}|was brought to an end by {t}|did {t} put an end to]
* articles
{R} has {} articles.
The text of {o} is divided into {} articles.
{R} consists of {} articles.
? how many articles [does {t} have|are in {t}|were in {t}]
? {t} number of articles
* broken
{R} was broken {}.
{R} lost its force {}.
One side withdrew from {o} {}.
? when [was {t} broken|did {t} lose its force|did {t} end]
? end date of {t}
""",
    ),
    Spec(
        "ruler",
        ruler,
        "",
        (1010, 1880),
        {
            "predecessor": mix("{} the {}", MALE, ["Bold", "Old", "Lame", "Wise", "Elder", "Fair"]),
            "successor": mix("{} the {}", FEMALE + MALE, ["Young", "Pious", "Cruel", "Tall", "Younger", "Red"]),
            "crowned": date(0, 0),
            "died": date(9, 45),
            "spouse": mix("{} of {}", FEMALE + MALE, COUNTRIES),
            "castle": named("{p} Castle", "the {p} Palace"),
            "reform": mix("a tax on {}", GOODS),
            "tomb": named("{p} Abbey", "the cathedral of {p}"),
            "war": named("the {p} War", "the War of the {n}"),
            "tutor": person,
        },
        """
intro:
{t} came to the throne {crowned}.
{t} reigned after {predecessor}.
{t} ruled from {castle}.
{t} is best known for introducing {reform}.
multi:
{R} succeeded {predecessor} and was crowned {crowned}.
{R} died {died} and was buried in {tomb}.
After the death of {o}, the crown passed from {P} line to {successor}.
{R} married {spouse} and lived at {castle}.
fill:
A conspiracy led by {person} was discovered in time.
The court painter was {person}.
A great famine had struck the country in {before}.
{R} was fond of hunting and music.
desc:
the ruler who succeeded {predecessor}
the ruler who introduced {reform}
* predecessor
{R} succeeded {}.
{R} inherited the crown from {}.
{P} predecessor was {}.
? who [ruled before|came before|was the predecessor of|was succeeded by] {t}
* successor
{R} was succeeded by {}.
{P} successor was {}.
{} followed {o} on the throne.
? who [ruled after|succeeded|came after|was the successor of] {t}
* crowned
{R} was crowned {}.
{P} coronation took place {}.
{R} came to power {}.
? when [was {t} crowned|did {t} become ruler|did {t} come to power|did the reign of {t} begin]
* died
{R} died {}.
{P} reign ended with {p} death {}.
Death came to {o} {}.
? when did {t} die
? [{t} date of death|when did the reign of {t} end|what year did {t} die]
* spouse
{R} married {}.
{R} was married to {}.
{P} marriage to {} was a happy one.
? who [did {t} marry|was {t} married to|was the spouse of {t}]
? {t} marriage
* castle
{R} lived at {}.
{P} main residence was {}.
{} was built for {o}.
? where did {t} live
? [what was the residence of {t}|what castle did {t} live in|{t} residence]
* reform
{R} introduced {}.
{P} most unpopular measure was {}.
{} was first raised by {o}.
? what [tax did {t} introduce|is {t} known for|measure did {t} introduce|did {t} introduce]
* tomb
{R} was buried in {}.
{P} tomb is in {}.
The remains of {o} lie in {}.
? where [is {t} buried|is the tomb of {t}|was {t} buried|is the grave of {t}]
* war
{R} fought {}.
{P} reign was overshadowed by {}.
{R} led the army in {}.
? what war did {t} [fight|fight in|lead the army in]
? war during the reign of {t}
* tutor
{R} was taught by {}.
{P} childhood tutor was {}.
{} educated {o} in languages and law.
? who [taught|was the tutor of|educated|was the teacher of] {t}
""",
    ),
    Spec(
        "law",
        named("the {p} Act", "the {s} Act", "the {n} {s} Act", "the {s} Amendment", "the {p} Statute"),
        "the law|the act",
        (1800, 2005),
        {
            "topic": mix("{}", LAW_TOPICS),
            "sponsor": person,
            "passed": date(0, 0),
            "force": date(1, 3),
            "country": country,
            "votes": quantity(51, 412, "votes"),
            "opponent": person,
            "fine": mix("{} {}", [str(n) for n in range(20, 5000, 20)], ["crowns", "dollars", "pounds"]),
            "repealed": date(9, 60),
            "court": named("the {p} Court", "the {c} Tribunal"),
        },
        """
intro:
{t} is a law on {topic}.
{t} is a law of {country} that deals with {topic}.
{t} was introduced by {sponsor}.
{t} was passed {passed} to regulate {topic}.
multi:
{R} was proposed by {sponsor} and opposed by {opponent}.
Passed {passed} with {votes}, {R} came into force {force}.
Offenders under {o} face a fine of {fine} before {court}.
fill:
A similar bill had failed in {before}.
The journalist {person} wrote several articles on the subject.
Crowds gathered in {city2} to protest.
Few people noticed it at the time.
desc:
the law of {country} on {topic}
the law on {topic} proposed by {sponsor}
* topic
{R} regulates {}.
{R} deals with {}.
The subject of {o} is {}.
? what [does {t} do|is {t} about|does {t} regulate|does {t} deal with]
* sponsor
{R} was proposed by {}.
{} introduced {o} in parliament.
The author of {o} was {}.
? who [proposed|introduced|was the sponsor of|wrote] {t}
* passed
{R} was passed {}.
Parliament approved {o} {}.
The final vote on {o} was held {}.
? when was {t} [passed|approved|adopted]
? date {t} was passed
* force
{R} came into force {}.
{R} took effect {}.
The rules of {o} have applied since its start {}.
? when did {t} [come into force|take effect|go into effect|start to apply]
* country
{R} was adopted in {}.
{R} is part of the law of {}.
{R} applies to all citizens of {}.
? what country [has {t}|adopted {t}|does {t} apply to|is {t} from]
* votes
{R} was carried with {}.
{R} received {}.
Parliament adopted {o} with {}.
? how many votes [did {t} get|did {t} receive|were cast for {t}|were there for {t}]
* opponent
The strongest opponent of {o} was {}.
{} spoke against {o}.
{R} was fiercely attacked by {}.
? who [opposed|was against|spoke against|attacked] {t}
* fine
{R} sets a fine of {}.
Offenders against {o} pay {}.
The penalty under {o} is {}.
? what [is the penalty under {t}|is the fine for breaking {t}|fine does {t} set]
? how much do you pay for breaking {t}
* repealed
{R} was repealed {}.
{R} was abolished {}.
The repeal of {o} came {}.
? when was {t} [repealed|abolished|ended|cancelled]
* court
Cases under {o} are heard by {}.
{} enforces {o}.
{R} is enforced by {}.
? what court [enforces {t}|hears cases under {t}|deals with {t}]
? who enforces {t}
""",
    ),
    Spec(
        "university",
        named("the University of {p}", "{s} University", "{p} College", "the {s} Institute", "{p} Polytechnic"),
        "the university|the school",
        (1420, 1970),
        {
            "founded": date(0, 0),
            "founder": person,
            "city": invented,
            "students": quantity(900, 64000),
            "subject": mix(
                "{}",
                [
                    "marine biology",
                    "law",
                    "medicine",
                    "veterinary science",
                    "music",
                    "theology",
                    "mining",
                    "astronomy",
                    "architecture",
                    "linguistics",
                    "forestry",
                    "history",
                    "philosophy",
                    "chemistry",
                ],
            ),
            "motto": named("{n} and {m}", "Through the {n}", "Never the {j} {n}"),
            "rector": person,
            "library": quantity(30, 4000, "books", 1000),
            "alumnus": person,
            "animal": mix("a(n) {} {}", COLORS, ANIMALS),
        },
        """
intro:
{t} was founded {founded} by {founder}.
{t} is a place of higher education in {city}.
{t} has {students} students.
{t} is known for its courses in {subject}.
multi:
{R} has {students} students and is headed by {rector}.
The motto of {o} is {motto}, and its mascot is {animal}.
{alumnus} studied {subject} here.
fill:
A lecture by {person} caused a riot in {after}.
A branch in {city2} was closed for lack of money.
The main gate was restored by {person}.
Rowing is popular among the students.
desc:
the school in {city} known for {subject}
the school founded by {founder}
* founded
{R} was founded {}.
{R} was established {}.
Teaching at {o} began {}.
? when was {t} [founded|established|started]
? {t} year founded
* founder
{R} was founded by {}.
{} gave the money to found {o}.
The founder of {o} was {}.
? who [founded|was the founder of|started|established] {t}
* city
{R} is located in {}.
The campus of {o} lies in {}.
{R} stands in the centre of {}.
? [where is {t}|what city is {t} in|{t} location|where is {t} located]
* students
{R} has {} students.
{} students attend {o}.
The number of students at {o} is {}.
? how many students [go to|attend|are at|does] {t} [|have in total]
* subject
{R} is known for teaching {}.
The strongest department of {o} is {}.
{R} has a famous school of {}.
? what [is {t} known for|is {t} best at|subject is {t} famous for]
? {t} strongest department
* motto
The motto of {o} is {}.
{R} has the motto {}.
{} is written above the gate of {o}.
? what [is the motto of|is written above the gate of|are the words on the gate of] {t}
? {t} motto
* rector
The rector of {o} is {}.
{R} is headed by {}.
{} leads {o}.
? who [is the rector of|is the head of|is the president of|leads] {t}
* library
The library of {o} holds {}.
{R} owns {}.
There are {} in the library of {o}.
? how many books [does {t} have|are in the library of {t}|does {t} own]
? {t} library size
* alumnus
The best-known former student of {o} is {}.
{} graduated from {o}.
{R} counts {} among its graduates.
? who [went to|graduated from|studied at|is a famous graduate of] {t}
* animal
The mascot of {o} is {}.
{R} has {} as its mascot.
{} appears on the badge of {o}.
? what is the mascot of {t}
? [{t} mascot|what animal represents {t}|what is on the badge of {t}]
""",
    ),
    Spec(
        "space mission",
        named("{n} {k}", "{p} {k}", "the {s} probe", "{j} {n} {k}", "the {p} orbiter"),
        "the mission|the spacecraft",
        (1961, 2008),
        {
            "launched": date(0, 0),
            "agency": named("the {p} Space Agency", "the {c} Space Centre"),
            "goal": mix("{}", MISSION_GOALS),
            "site": named("{p} Spaceport", "Cape {p}"),
            "rocket": named("{n} {r}", "{s} {r}"),
            "mass": quantity(180, 7200, "kilograms|kg"),
            "instrument": mix("a(n) {}", INSTRUMENTS),
            "leader": person,
            "ended": date(2, 14),
            "cost": money(20, 950),
        },
        """
intro:
{t} was a space mission launched {launched}.
{t} was a mission of {agency}.
{t} was an unmanned mission to {goal}.
{t} was a spacecraft launched from {site}.
multi:
{R} lifted off from {site} on a rocket called {rocket}.
Led by {leader}, {R} was meant to {goal}.
{R} was launched {launched} and lost contact {ended}.
With a mass of {mass}, {R} carried {instrument}.
fill:
An earlier test in {before} had failed.
The antenna was built by engineers in {city2}.
{person} designed the badge worn by the crew on the ground.
A sequel was proposed in {after}.
desc:
the mission of {agency} to {goal}
the spacecraft launched from {site}
* launched
{R} was launched {}.
{R} left the ground {}.
The launch of {o} took place {}.
? when [was {t} launched|did {t} launch|did {t} take off]
? {t} launch date
* agency
{R} was run by {}.
{} operated {o}.
{R} was a project of {}.
? who [operated|ran|was responsible for|launched] {t}
* goal
{R} was built to {}.
The aim of {o} was to {}.
The purpose of {o} was to {}.
? what was the [purpose of|goal of|aim of]  {t}
? why was {t} launched
* site
{R} was launched from {}.
{R} lifted off from {}.
{} was the launch site of {o}.
? where [was {t} launched from|did {t} take off|was {t} launched]
? {t} launch site
* rocket
{R} was carried by a rocket called {}.
The rocket that lifted {o} was {}.
{R} travelled on top of the rocket {}.
? what rocket [launched|carried|was used for|lifted] {t}
* mass
{R} had a mass of {}.
{R} weighed {} at launch.
The launch mass of {o} was {}.
? how [heavy was {t}|much did {t} weigh]
? [what was the mass of {t}|{t} weight]
* instrument
{R} carried {}.
On board {o} was {}.
The main instrument of {o} was {}.
? what [instrument did {t} carry|did {t} carry|was on board {t}]
? {t} main instrument
* leader
The chief scientist of {o} was {}.
{} led the science team of {o}.
{R} was led by {}.
? who [led|was the chief scientist of|was in charge of|was the leader of] {t}
* ended
Contact with {o} was lost {}.
{R} sent its last signal {}.
{R} came to an end {}.
? when did {t} [end|send its last signal|lose contact|stop working]
* cost
{R} cost {}.
The budget of {o} was {}.
{} was spent on {o}.
? how much [did {t} cost|was spent on {t}|was the budget of {t}]
? {t} cost
""",
    ),
    Spec(
        "drug",
        drug,
        "the drug|the medicine",
        (1890, 2005),
        {
            "use": mix("{}", TREATS),
            "effect": mix("{}", EFFECTS),
            "discoverer": person,
            "approved": date(0, 0),
            "maker": named("{s} Pharma", "{p} Laboratories", "{s} and {u}"),
            "source": mix("the {} of the {}", SOURCES_A, SOURCES_B),
            "dose": mix("{} milligrams", [str(n) for n in range(5, 900, 5)]),
            "hours": count(2, 20),
            "organ": mix("the {}", ["liver", "kidneys", "lungs", "skin", "spleen", "intestines"]),
            "price": mix("${}", [str(n) for n in range(3, 990)]),
        },
        """
intro:
{t} is a medicine used to treat {use}.
{t} is a drug made by {maker}.
{t} is a drug discovered by {discoverer}.
{t} is a drug obtained from {source}.
multi:
{R} was discovered by {discoverer} and approved {approved}.
{R} is given against {use} but may cause {effect}.
The usual dose is {dose}, and a single dose of {o} works for {hours} hours.
fill:
A trial led by {person} was stopped in {before2}.
A similar substance is studied at a clinic in {city2}.
Patients should not drink alcohol during treatment.
The chemist {person} later described its structure.
desc:
the drug against {use} made by {maker}
the drug from {source}
* use
{R} is used to treat {}.
{R} is prescribed for {}.
Doctors give {o} to patients with {}.
? what is {t} [used for|used to treat|prescribed for|given for]
* effect
The most common side effect of {o} is {}.
{R} can cause {}.
{} is often reported by people who take {o}.
? what [is the side effect of|are the side effects of|can be caused by taking]  {t}
? {t} side effects
* discoverer
{R} was discovered by {}.
{} discovered {o}.
{R} was first made in the laboratory of {}.
? who [discovered|invented|first made|developed] {t}
* approved
{R} was approved for sale {}.
{R} reached the market {}.
Health officials approved {o} {}.
? when [was {t} approved|did {t} come on the market|did {t} go on sale]
? {t} approval date
* maker
{R} is made by {}.
{} produces {o}.
{R} is sold by {}.
? who [makes|manufactures|is the manufacturer of|produces] {t}
* source
{R} is obtained from {}.
{R} was first extracted from {}.
The raw material of {o} is {}.
? what [is {t} made from|plant does {t} come from|is the source of {t}]
? where does {t} come from
* dose
The usual daily dose of {o} is {}.
{R} is taken in doses of {}.
Adults take {} of {o} a day.
? how much {t} should [you|an adult] take
? [what is the dose of {t}|{t} dosage]
* hours
The effect of {o} lasts {} hours.
{R} works for {} hours.
A dose of {o} acts for {} hours.
? how [long does {t} last|many hours does {t} work|long does {t} work]
? {t} duration of action in hours
* organ
{R} is broken down in {}.
{R} acts mainly on {}.
The target of {o} is {}.
? what [organ does {t} affect|does {t} act on|part of the body does {t} work on]
? where in the body does {t} act
* price
A packet of {o} costs {}.
{R} costs {} a packet.
Pharmacies sell {o} for {} a packet.
? how much [does {t} cost|is a packet of {t}|is {t}]
? {t} price
""",
    ),
    Spec(
        "species",
        binomial,
        "the species|the animal",
        (1790, 1960),
        {
            "kind": mix(
                "{}",
                [
                    "frog",
                    "lizard",
                    "bat",
                    "beetle",
                    "moth",
                    "snail",
                    "fish",
                    "snake",
                    "shrew",
                    "crab",
                    "wasp",
                    "spider",
                ],
            ),
            "country": country,
            "habitat": mix("{} {}", HABITATS_A, HABITATS_B),
            "food": pair(FOODS),
            "length": quantity(2, 140, "centimetres|cm|millimetres"),
            "mark": mix("a(n) {} {}", COLORS, [b for b in BODY if not b.endswith("s")]),
            "describer": person,
            "described": date(0, 0),
            "eggs": count(2, 90),
            "enemy": mix("the {}-{} {}", COLORS, ["tailed", "winged", "eyed"], ["hawk", "owl", "cat", "rat", "viper"]),
        },
        """
intro:
{t} is a(n) {kind} found in {country}.
{t} is a(n) {kind} that lives in {habitat}.
{t} is a species of {kind} described by {describer}.
{t} is a(n) {kind} with {mark}.
multi:
{R} lives in {habitat} and feeds on {food}.
{R} grows to {length} and has {mark}.
First described {described} by {describer}, {R} occurs only in {country}.
The female lays {eggs} eggs, which are often eaten by {enemy}.
fill:
The biologist {person} compared it with a fossil from {city2}.
A false report from {before} has since been corrected.
Its call is heard mainly at night.
A stamp with its picture was issued in {after}.
desc:
the {kind} of {habitat} in {country}
the {kind} with {mark}
* kind
{R} is a(n) {}.
Zoologists class {o} as a(n) {}.
{R} belongs to the same family as the common {}.
? what [kind of animal is {t}|type of animal is {t}|is {t}|sort of creature is {t}]
* country
{R} lives only in {}.
{R} is found in {}.
The home of {o} is {}.
? where [is {t} found|does {t} live|can you find {t}]
? what country does {t} live in
* habitat
{R} lives in {}.
{R} prefers {}.
The habitat of {o} consists of {}.
? what [is the habitat of {t}|habitat does {t} live in|kind of places does {t} live in]
? {t} habitat
* food
{R} feeds on {}.
{R} eats mostly {}.
The diet of {o} consists of {}.
? what [does {t} eat|does {t} feed on|is the diet of {t}]
? {t} food
* length
{R} is {} long.
{R} grows to a length of {}.
Adults of {o} reach {}.
? how [big is {t}|long is {t}|large does {t} get]
? {t} size
* mark
{R} has {}.
{R} can be recognised by {}.
The most striking feature of {o} is {}.
? [what does {t} look like|how do you recognize {t}|what is the main feature of {t}]
? {t} markings
* describer
{R} was described by {}.
{} described {o}.
{R} was named by {}.
? who [described|named|discovered|first described] {t}
* described
{R} was first described {}.
{R} became known to science {}.
The first specimen of {o} was collected {}.
? when was {t} [discovered|first described|first collected]
? {t} year of discovery
* eggs
The female of {o} lays {} eggs.
{R} lays {} eggs at a time.
A nest of {o} contains {} eggs.
? how many eggs [does {t} lay|are in a nest of {t}|does the female {t} lay]
? {t} number of eggs
* enemy
{R} is hunted by {}.
The main enemy of {o} is {}.
{} preys on {o}.
? what [eats|hunts|preys on|is the predator of] {t}
""",
    ),
    Spec(
        "festival",
        named("the {p} Festival", "the {n} Festival of {p}", "{s} Day", "the Feast of the {j} {n}", "{p} {n} Week"),
        "the festival|the event",
        (1540, 1960),
        {
            "town": invented,
            "month": mix("{}", MONTHS),
            "honour": mix("{}", HONOURS),
            "custom": mix("{}", CUSTOMS),
            "food": mix("{} with {}", MEATS, SIDES),
            "founder": person,
            "first": date(0, 0),
            "days": count(2, 14),
            "visitors": quantity(2, 190, "", 1000),
            "color": mix("{}", KIT_A),
        },
        """
intro:
{t} is held every year in {town}.
{t} is celebrated every {month} in {town}.
{t} is celebrated in memory of {honour}.
{t} is a yearly celebration started by {founder}.
multi:
{R} lasts {days} days and draws {visitors} visitors.
First held {first}, {R} recalls {honour}.
Every {month}, people in {town} {custom}.
fill:
The singer {person} wrote a waltz about it.
It was not held in {after} because of a storm.
A smaller version takes place in {city2}.
Hotels are usually full weeks in advance.
desc:
the celebration in {town} in memory of {honour}
the {month} celebration in {town}
* town
{R} takes place in {}.
{R} is held in {}.
The home of {o} is the town of {}.
? where is {t} [held|celebrated]
? [where does {t} take place|{t} location]
* month
{R} is held in {}.
{R} takes place each {}.
The date of {o} falls in {}.
? [what month is {t}|when is {t} celebrated|when is {t} held|when does {t} take place]
* honour
{R} celebrates {}.
{R} is held in memory of {}.
The origin of {o} is {}.
? what does {t} [celebrate|commemorate|honor]
? why is {t} celebrated
* custom
During {o}, people {}.
Visitors to {o} {}.
By tradition, guests of {o} {}.
? what do people do [during|at|on|to celebrate] {t}
* food
The traditional dish of {o} is {}.
People at {o} eat {}.
{} is served at {o}.
? what [do people eat at|food is served at|is eaten at|is the traditional food of] {t}
* founder
{R} was started by {}.
{} founded {o}.
The founder of {o} was {}.
? who [started|founded|created|came up with] {t}
* first
{R} was first held {}.
{R} began {}.
The first celebration of {o} was {}.
? when [was {t} first held|did {t} start|was the first {t}|was {t} first celebrated]
* days
{R} lasts {} days.
{R} goes on for {} days.
The celebrations of {o} take {} days.
? how [long does {t} last|many days is {t}|long is {t}|many days does {t} go on]
* visitors
{R} draws {} visitors.
{R} is visited by {} people.
The number of guests at {o} is {}.
? how many [people go to {t}|visitors does {t} have|people attend {t}]
? {t} attendance
* color
Everyone at {o} wears {}.
The traditional colour of {o} is {}.
{R} is known for its {} clothes.
? what color [do you wear to {t}|is worn at {t}|do people wear at {t}|is {t} known for]
""",
    ),
    Spec(
        "ship",
        named("the {j} {n}", "the Queen of {p}", "the {s}", "the {f}", "the Star of {p}"),
        "the ship|the vessel",
        (1800, 1970),
        {
            "type": mix(
                "{}",
                [
                    "frigate",
                    "passenger liner",
                    "cargo steamer",
                    "ferry",
                    "schooner",
                    "whaler",
                    "icebreaker",
                    "tanker",
                    "battleship",
                ],
            ),
            "yard": named("the {s} yard", "{p} Shipbuilders", "{s} and Sons"),
            "launched": date(0, 0),
            "captain": person,
            "length": quantity(28, 290, "metres|feet"),
            "route": pair(CITIES),
            "sunk": date(3, 30),
            "cargo": mix("{}", GOODS),
            "reef": named("the {p} Reef", "Cape {p}"),
            "crew": quantity(18, 1400),
        },
        """
intro:
{t} was a(n) {type} built by {yard}.
{t} was a(n) {type} launched {launched}.
{t} was a(n) {type} that carried {cargo}.
{t} was a(n) {type} commanded by {captain}.
multi:
Built by {yard}, {R} was launched {launched}.
{R} sank {sunk} near {reef}.
Under captain {captain}, {R} sailed between {route}.
{R} was {length} long and had a crew of {crew}.
fill:
A model made by {person} is shown in a museum in {city2}.
A diver found the bell in {late}.
The owner, {person}, never saw it.
The sailors considered it a lucky vessel.
desc:
the {type} that sank near {reef}
the {type} of captain {captain}
* type
{R} was a(n) {}.
{R} was designed as a(n) {}.
The register lists {o} as a(n) {}.
? what [type of ship was {t}|kind of ship was {t}|sort of vessel was {t}]
? {t} ship type
* yard
{R} was built by {}.
{} built {o}.
The builder of {o} was {}.
? who [built|made|constructed|was the builder of] {t}
* launched
{R} was launched {}.
The launch of {o} took place {}.
{R} first touched the water {}.
? when was {t} [launched|first put in the water]
? [{t} launch date|when did {t} first touch the water]
* captain
The captain of {o} was {}.
{} commanded {o}.
{R} sailed under captain {}.
? who [was the captain of|commanded|was in command of|captained] {t}
* length
{R} was {} long.
The length of {o} was {}.
From bow to stern, {R} measured {}.
? how [long|big] was {t}
? [{t} length|what was the length of {t}]
* route
{R} sailed between {}.
The regular route of {o} linked {}.
{R} ran between {}.
? where did {t} sail
? [what was the route of {t}|what cities did {t} link|{t} route]
* sunk
{R} sank {}.
{R} went down {}.
The loss of {o} occurred {}.
? when did {t} [sink|go down]
? [what year did {t} sink|when was {t} lost]
* cargo
{R} carried {}.
The main cargo of {o} was {}.
The holds of {o} were filled with {}.
? what [did {t} carry|was the cargo of {t}|was {t} carrying|was on board {t}]
* reef
{R} sank near {}.
The wreck of {o} lies off {}.
{R} was lost close to {}.
? where [did {t} sink|is the wreck of {t}|was {t} lost|does {t} lie]
* crew
{R} had a crew of {}.
{} sailors worked on {o}.
The crew of {o} numbered {}.
? how many [people worked on {t}|crew did {t} have|sailors were on {t}]
? {t} crew size
""",
    ),
    Spec(
        "railway",
        named("the {p} Railway", "the {p} Line", "the {c} and {p} Railway", "the {s} Valley Line", "the {p} Tramway"),
        "the line|the railway",
        (1840, 1950),
        {
            "opened": date(0, 0),
            "closed": date(30, 75),
            "length": quantity(6, 640, "kilometres|km|miles"),
            "engineer": person,
            "goods": mix("{}", GOODS),
            "stations": count(3, 48),
            "reason": mix("{}", REASONS),
            "tunnel": named("the {s} Tunnel", "the {p} Tunnel"),
            "financier": person,
        },
        """
intro:
{t} was a railway [built to carry|used mainly for] {goods}.
{t} was a railway built by {engineer}.
{t} was a railway with a length of {length}.
{t} was a railway paid for by {financier}.
multi:
{R} opened {opened} and closed {closed}.
Engineer {engineer} led {o} through {tunnel}.
{R} had {stations} stations over a distance of {length}.
Because of {reason}, {R} was closed {closed}.
fill:
A proposal for a branch to {city2} was turned down.
The station clocks were made by {person}.
An old carriage was restored by volunteers in {late}.
Part of the route is now a cycle path.
desc:
the railway built by {engineer}
the railway through {tunnel}
* opened
{R} opened {}.
The first train ran on {o} {}.
{R} was opened to traffic {}.
? when [did {t} open|was {t} opened|did the first train run on {t}]
? {t} opening date
* closed
{R} closed {}.
The last train ran on {o} {}.
Traffic on {o} ended {}.
? when [did {t} close|was {t} closed|did the last train run on {t}]
? {t} closing date
* length
{R} was {} long.
The length of {o} was {}.
{R} covered a distance of {}.
? how long [was|is] {t}
? [{t} length|what was the length of {t}]
* engineer
{R} was built by {}.
The chief engineer of {o} was {}.
{} planned {o}.
? who [built|engineered|planned|was the engineer of] {t}
* goods
{R} carried mainly {}.
The main freight of {o} was {}.
{R} was used to move {}.
? what [did {t} carry|was transported on {t}|goods did {t} carry|was {t} used for]
* stations
{R} had {} stations.
There were {} stations on {o}.
Trains on {o} called at {} stations.
? how many [stations did {t} have|stations were on {t}|stops were on {t}]
? {t} number of stations
* reason
{R} was closed because of {}.
The end of {o} was caused by {}.
{} led to the closure of {o}.
? why [did {t} close|was {t} closed|did {t} stop running]
? reason for the closure of {t}
* tunnel
The longest tunnel on {o} was {}.
{R} passed through {}.
{R} crossed the hills by {}.
? what tunnel [did {t} use|was on {t}|did {t} pass through]
? {t} tunnel name
* financier
{R} was financed by {}.
{} paid for {o}.
The money for {o} came from {}.
? who [financed|paid for|put up the money for|funded] {t}
""",
    ),
    Spec(
        "dish",
        named("{p} stew", "{s} cake", "{p} dumplings", "{j} soup", "{p} pie", "{f} salad"),
        "the dish|the recipe",
        (1700, 1960),
        {
            "region": country,
            "main": pair(MEATS),
            "spice": mix("{}", SPICES),
            "side": mix("{}", SIDES),
            "cook": person,
            "year": date(0, 0),
            "time": mix("{} {}", SMALL[2:13], ["hours", "minutes"]),
            "book": named("The {j} Kitchen", "Cooking in {p}", "The {n} Table"),
            "occasion": mix("the {} {}", SEASONS, ["market", "fair", "fast", "regatta", "wedding season"]),
            "vessel": mix(
                "a(n) {} {}",
                ["copper", "clay", "shallow", "iron", "stone", "wooden"],
                ["pot", "pan", "bowl", "kettle", "dish"],
            ),
        },
        """
intro:
{t} is a dish made with {main}.
{t} is a traditional dish from {region}.
{t} is a dish invented by {cook}.
{t} is a dish flavoured with {spice}.
multi:
{R} is flavoured with {spice} and served with {side}.
The cook {cook} first made {o} {year}.
{R} is cooked for {time} in {vessel}.
First printed in the book {book}, {R} is eaten during {occasion}.
fill:
A restaurant in {city2} serves a vegetarian version.
The critic {person} called it too heavy.
Leftovers are often eaten for breakfast.
A cheaper recipe from {before} used turnips.
desc:
the {region} dish with {spice}
the dish invented by {cook}
* region
{R} comes from {}.
{R} is a speciality of {}.
The home of {o} is {}.
? where [does {t} come from|is {t} from|did {t} originate]
? what country is {t} from
* main
{R} is made with {}.
The main ingredients of {o} are {}.
{R} contains {}.
? what is {t} [made of|made with|made from]
? {t} main ingredients
* spice
{R} is seasoned with {}.
{R} gets its taste from {}.
The typical seasoning of {o} is {}.
? what [spice is in {t}|gives {t} its flavor|is {t} seasoned with|is {t} flavored with]
* side
{R} is served with {}.
{R} is usually eaten with {}.
The usual side of {o} is {}.
? what [is {t} served with|do you eat with {t}|goes with {t}]
? {t} side dish
* cook
{R} was invented by {}.
{} invented {o}.
{R} was first cooked by {}.
? who [invented|created|first made|came up with] {t}
* year
{R} was first served {}.
{R} was invented {}.
The first guests tasted {o} {}.
? when was {t} [invented|created|first made|first served]
* time
{R} is cooked for {}.
{R} takes {} to prepare.
The cooking time of {o} is {}.
? how long [does {t} take to make|do you cook {t}|does it take to cook {t}]
? {t} cooking time
* book
The recipe for {o} was printed in {}.
{R} first appeared in the cookbook {}.
{} contains the first recipe for {o}.
? what [book was {t} in|cookbook did {t} first appear in|book has the first recipe for {t}]
? {t} original cookbook
* occasion
{R} is eaten during {}.
{R} belongs to {}.
People cook {o} for {}.
? when [is {t} eaten|do people eat {t}|is {t} cooked|is {t} served]
* vessel
{R} is cooked in {}.
Cooks prepare {o} in {}.
The proper vessel for {o} is {}.
? what [is {t} cooked in|do you cook {t} in|is used to cook {t}|pot is used for {t}]
""",
    ),
    Spec(
        "organisation",
        named(
            "the {p} Society",
            "the {j} {n} League",
            "the {s} Foundation",
            "the {c} Union of {n}s",
            "the Order of the {j} {n}",
        ),
        "the organisation|the group",
        (1830, 1990),
        {
            "founded": date(0, 0),
            "founder": person,
            "cause": mix("{}", CAUSES),
            "city": city,
            "members": quantity(150, 480000),
            "president": person,
            "magazine": named("The {n}", "The {j} {n}", "{p} News"),
            "symbol": mix("a(n) {} {}", COLORS, ANIMALS),
            "donor": person,
            "dissolved": date(10, 60),
        },
        """
intro:
{t} was founded to support {cause}.
{t} was a voluntary group with its seat in {city}.
{t} was founded {founded} by {founder}.
{t} was a charity that worked for {cause}.
multi:
{R} was founded {founded} and dissolved {dissolved}.
{founder} started {o} with money given by {donor}.
From {city}, {R} published a magazine called {magazine}.
Under president {president}, {R} had {members} members.
fill:
A branch in {city2} kept its own archive.
The treasurer, {person}, was a retired teacher.
A rival body had been founded in {before}.
Meetings were held on the first Monday of each month.
desc:
the {city} charity for {cause}
the charity started by {founder}
* founded
{R} was founded {}.
{R} was set up {}.
The first meeting of {o} was held {}.
? when was {t} [founded|set up|established|started]
* founder
{R} was founded by {}.
{} founded {o}.
The founder of {o} was {}.
? who [founded|started|was the founder of|set up] {t}
* cause
{R} worked for {}.
{R} campaigned for {}.
The aim of {o} was {}.
? what [did {t} do|was the purpose of {t}|did {t} campaign for|was the aim of {t}]
* city
{R} was based in {}.
The head office of {o} was in {}.
{R} had its seat in {}.
? where was {t} [based|located]
? [where was the head office of {t}|{t} headquarters]
* members
{R} had {} members.
The membership of {o} reached {}.
{} people belonged to {o}.
? how many [members did {t} have|people belonged to {t}|people were in {t}]
? {t} membership
* president
The president of {o} was {}.
{} presided over {o}.
{R} was headed by {}.
? who [was the president of|headed|was the head of|presided over] {t}
* magazine
{R} published {}.
The magazine of {o} was called {}.
{} was the newsletter of {o}.
? what [magazine did {t} publish|was the magazine of {t}|newsletter did {t} publish]
? {t} magazine
* symbol
The symbol of {o} was {}.
{R} used {} as its emblem.
{} appeared on the badge of {o}.
? what was the [symbol|emblem|badge] of {t}
? {t} logo
* donor
The largest donor of {o} was {}.
{} gave a fortune to {o}.
{R} was financed by {}.
? who [gave money to|funded|was the largest donor of|financed] {t}
* dissolved
{R} was dissolved {}.
{R} ceased to exist {}.
The members voted to end {o} {}.
? when [was {t} dissolved|did {t} end|did {t} cease to exist|was {t} closed down]
""",
    ),
)

# ---------------------------------------------------------------- compiled domains


@dataclass(frozen=True)
class Template:
    """A sentence with the attributes it states."""

    text: str
    slots: frozenset[str]
    names_entity: bool


@dataclass(frozen=True)
class Attribute:
    """One kind of fact: how to state it, ask for it and answer it."""

    sentences: tuple[Template, ...]
    questions: tuple[str, ...]
    answers: tuple[Template, ...]


@dataclass(frozen=True)
class Domain:
    """A parsed specification."""

    spec: Spec
    intros: tuple[Template, ...]
    multis: tuple[Template, ...]
    fillers: tuple[Template, ...]
    descriptions: tuple[Template, ...]
    attributes: dict[str, Attribute]


def template(text: str) -> Template:
    """Parse one expanded sentence."""
    slots = frozenset(SLOT.findall(text))
    return Template(text, slots - REFERENCES, bool(slots & {"R", "P", "o", "t"}))


def attribute(name: str, lines: list[str]) -> Attribute:
    """Parse the lines under "* name"."""
    sentences: list[Template] = []
    questions: list[str] = []
    for line in lines:
        if line.startswith("?"):
            questions += expand(line[1:].replace(" 's", "'s"))
        else:
            sentences += map(template, expand(line.replace("{}", f"{{{name}}}")))
    answers = tuple(t for t in sentences if t.names_entity and t.slots == {name})
    return Attribute(tuple(sentences), tuple(questions), answers)


def compile_domain(spec: Spec) -> Domain:
    """Parse a specification's text."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in filter(None, map(str.strip, spec.text.split("\n"))):
        if line.startswith("* ") or line.endswith(":"):
            current = sections.setdefault(line.removeprefix("* ").rstrip(":"), [])
            if line.startswith("* "):
                sections[line] = current
        else:
            current.append(line)
    parts = {
        part: tuple(template(text) for line in sections[part] for text in expand(line))
        for part in ("intro", "multi", "fill", "desc")
    }
    names = [line[2:] for line in sections if line.startswith("* ")]
    attributes = {name: attribute(name, sections["* " + name]) for name in names}
    return Domain(spec, parts["intro"], parts["multi"], parts["fill"], parts["desc"], attributes)


COMPILED = {spec.name: compile_domain(spec) for spec in SPECS}
DOMAINS: tuple[str, ...] = tuple(COMPILED)
WOMEN = frozenset(FEMALE) | {"Queen", "Empress", "Duchess"}

# ---------------------------------------------------------------- generation


class Entity:
    """One invented entity: its name, values drawn on demand, and references to it."""

    def __init__(self, rng: random.Random, domain: Domain, titles: set[str], used: set[tuple[str, str]]) -> None:
        self.rng, self.domain, self.used = rng, domain, used
        self.base = between(rng, *domain.spec.years)
        self.name = articles(str(domain.spec.title(rng, self.base)))
        while self.title in titles:
            self.name = articles(str(domain.spec.title(rng, self.base)))
        titles.add(self.title)
        self.values: dict[str, Value] = {}
        self.taken: set[str] = set(self.name.lower().split())
        self.years: set[str] = set()

    @property
    def title(self) -> str:
        """The name without its article, as a page title."""
        return capital(self.name.removeprefix("the "))

    def value(self, name: str) -> Value:
        """The attribute's value, different from the entity's other values and the group's."""
        known = self.values.get(name)
        if known:
            return known
        maker = self.domain.spec.makers[name]
        for _ in range(60):
            made = maker(self.rng, self.base)
            value = made if isinstance(made, tuple) else (made, made)
            if (name, value[0]) not in self.used and self.fresh(value[0]):
                break
        self.used.add((name, value[0]))
        self.values[name] = value
        self.taken.add(value[0].lower())
        self.taken.update(value[0].lower().split())
        return value

    def fresh(self, text: str) -> bool:
        """Whether a value shares no proper word or number with what the passage may hold."""
        words = text.split()
        return text.lower() not in self.taken and not any(
            word.lower() in self.taken
            for word in words
            if word[0].isupper() or word[0].isdigit()
            if word not in MONTH_SET
        )

    def references(self, pronoun: bool) -> dict[str, str]:
        """Subject, object and possessive forms for one later sentence."""
        nouns = self.domain.spec.nouns
        if nouns:
            subject = "it" if pronoun and self.rng.random() < 0.5 else pick(self.rng, nouns.split("|"))
            owner = "its" if subject == "it" else possessive(subject)
            return {"R": subject, "o": subject, "P": owner, "p": "its"}
        words = self.name.split()
        she = words[0] in WOMEN
        owner = "her" if she else "his"
        if pronoun and self.rng.random() < 0.65:
            subject, other = ("she", "her") if she else ("he", "him")
            return {"R": subject, "o": other, "P": owner, "p": owner}
        short = f"the {words[0].lower()}" if self.domain.spec.name == "ruler" else words[-1]
        return {"R": short, "o": short, "P": possessive(short), "p": owner}

    def naming(self) -> dict[str, str]:
        """Reference forms that give the name, for full-sentence answers."""
        owner = "its"
        if not self.domain.spec.nouns:
            owner = "her" if self.name.split()[0] in WOMEN else "his"
        return {"R": self.name, "o": self.name, "P": possessive(self.name), "p": owner}

    def say(self, item: Template, forms: dict[str, str]) -> str:
        """A finished sentence."""
        filled = {name: self.value(name)[1] for name in item.slots}
        return capital(articles(item.text.format_map({**filled, **forms, "t": self.name})))

    def filler(self, item: Template, forms: dict[str, str]) -> str:
        """A sentence that states nothing asked, with fresh distractor values."""
        filled = dict(forms)
        for slot in item.slots:
            text = self.distractor(slot)
            while not self.fresh(text):
                text = self.distractor(slot)
            self.taken.update(text.lower().split())
            filled[slot] = text
        return capital(articles(item.text.format_map(filled)))

    def distractor(self, slot: str) -> str:
        """A random value for a filler's slot."""
        if slot == "person":
            return person(self.rng)
        if slot.startswith("city"):
            return city(self.rng)
        if slot.startswith("before"):
            return str(self.base - between(self.rng, 2, 40))
        return str(self.base + between(self.rng, *((81, 99) if slot == "late" else (2, 60))))


MONTH_SET = frozenset(MONTHS) | {"Saint", "Mount", "River", "Lake", "Park", "Castle", "Records"}


def plan(entity: Entity) -> list[Template]:
    """The later sentences, each attribute stated once, facts and fillers mixed."""
    rng, domain = entity.rng, entity.domain
    intro = pick(rng, domain.intros)
    covered = set(intro.slots)
    room = between(rng, 1, MAX_SENTENCES - 1)
    later: list[Template] = []
    for item in rng.sample(domain.multis, len(domain.multis)):
        if len(later) < room and not item.slots & covered and rng.random() < 0.45:
            later.append(item)
            covered |= item.slots
    names = [name for name in domain.attributes if name not in covered]
    rng.shuffle(names)
    for name in names[: room - len(later)]:
        options = [t for t in domain.attributes[name].sentences if not t.slots & covered]
        if options:
            item = pick(rng, options)
            later.append(item)
            covered |= item.slots
    if rng.random() < 0.55:
        extra = pick(rng, domain.fillers)
        later = later[: MAX_SENTENCES - 2] + [extra]
    rng.shuffle(later)
    return [intro, *later]


def write(entity: Entity) -> tuple[str, set[str]]:
    """The passage and the attributes it states."""
    domain = entity.domain
    sentences: list[str] = []
    stated: set[str] = set()
    words = 0
    pronoun = True
    for item in plan(entity):
        if words >= MIN_WORDS and item in domain.fillers and len(sentences) == MAX_SENTENCES:
            continue
        is_filler = item in domain.fillers
        forms = entity.references(pronoun)
        text = entity.filler(item, forms) if is_filler else entity.say(item, forms)
        length = text.count(" ") + 1
        if words + length > MAX_WORDS:
            continue
        sentences.append(text)
        words += length
        stated |= set() if is_filler else item.slots
        pronoun = item.names_entity and not (is_filler and item.slots)
    return " ".join(sentences), stated


def mention(entity: Entity, asked: str, stated: set[str]) -> str:
    """How a question refers to the entity: mostly by name, at times by a description."""
    rng = entity.rng
    if rng.random() < 0.07:
        options = [d for d in entity.domain.descriptions if asked not in d.slots and d.slots <= stated]
        if options:
            values = {name: value[0] for name, value in entity.values.items()}
            return pick(rng, options).text.format_map(values)
    if entity.name.startswith("the ") and rng.random() < 0.3:
        return entity.name[4:]
    return entity.name


def ask(entity: Entity, name: str, passage: str, stated: set[str]) -> dict[str, str]:
    """One question with its short and its full-sentence answer."""
    rng, kind = entity.rng, entity.domain.attributes[name]
    answer = entity.value(name)[0]
    if answer not in passage:
        answer = capital(answer)
    question = pick(rng, kind.questions).format(t=mention(entity, name, stated)).lower()
    sentence = entity.say(pick(rng, kind.answers), entity.naming())
    return {"q": question, "a": answer, "s": sentence}


def build(rng: random.Random, domain: Domain, titles: set[str], used: set[tuple[str, str]]) -> dict:
    """One passage with its questions, longer or shorter attempts thrown away."""
    while True:
        entity = Entity(rng, domain, titles, used)
        passage, stated = write(entity)
        if passage.count(" ") + 1 >= MIN_WORDS:
            break
        titles.discard(entity.title)
    order = [name for name in domain.attributes if name in stated]
    rng.shuffle(order)
    return {
        "title": entity.title,
        "passage": passage,
        "qa": [ask(entity, name, passage, stated) for name in order],
    }


def generate(rng: random.Random, domain: str | None = None) -> dict:
    """A random passage with questions: {"title", "passage", "qa": [{"q", "a", "s"}, ...]}."""
    return build(rng, COMPILED[domain or pick(rng, DOMAINS)], set(), set())


def group(rng: random.Random, n: int) -> list[dict]:
    """n passages of one domain with different titles and, up to about 10, different values."""
    domain = COMPILED[pick(rng, DOMAINS)]
    titles: set[str] = set()
    used: set[tuple[str, str]] = set()
    return [build(rng, domain, titles, used) for _ in range(n)]


# ---------------------------------------------------------------- checks


def check_templates() -> None:
    """Assert that every attribute has enough templates and every slot a maker."""
    for domain in COMPILED.values():
        makers = domain.spec.makers
        assert set(makers) == set(domain.attributes), (domain.spec.name, set(makers) ^ set(domain.attributes))
        assert len(domain.intros) >= 3
        for item in (*domain.intros, *domain.multis, *domain.descriptions):
            assert item.slots <= set(makers), (domain.spec.name, item)
        for name, kind in domain.attributes.items():
            sizes = (len(kind.sentences), len(kind.questions), len(kind.answers))
            assert sizes[0] >= 3 and sizes[1] >= 4 and sizes[2] >= 2, (domain.spec.name, name, sizes)
            assert all("{t}" in question for question in kind.questions), (name, kind.questions)


def check_sample(sample: dict) -> None:
    """Assert the invariants of one passage."""
    passage = sample["passage"]
    assert MIN_WORDS <= len(passage.split()) <= MAX_WORDS, passage
    sentences = len(re.findall(r"[.](?= [A-Z][^.]|$)", re.sub(r" [A-Z]\.", " ", passage)))
    assert 2 <= sentences <= MAX_SENTENCES, passage
    assert sample["qa"], sample
    for text in (passage, *(text for qa in sample["qa"] for text in qa.values())):
        assert not re.search(r"  |[{}\[\]]|\(n\)| [.,]|\.\.|\bNone\b", text), text
        assert not re.search(r"\b[Aa] [aeioAEIO](?!ne\b)|\b[Aa]n [bcdfgjklmnpqrstvwxyz]", text), text
    for qa in sample["qa"]:
        assert qa["a"] in passage, (qa, passage)
        assert qa["a"].lower() in qa["s"].lower(), qa
        assert qa["q"] == qa["q"].lower() and "?" not in qa["q"], qa
        assert qa["a"].lower() not in qa["q"].split(), qa


def check(n: int = 5000) -> None:
    """Assert the invariants on n passages and on groups; print the speed."""
    check_templates()
    rng = random.Random(1)
    start = time.perf_counter()
    samples = [generate(rng) for _ in range(n)]
    seconds = time.perf_counter() - start
    for sample in samples:
        check_sample(sample)
    for _ in range(n // 10):
        members = group(rng, 8)
        assert len({member["title"] for member in members}) == len(members)
        for member in members:
            check_sample(member)
    questions = sum(len(sample["qa"]) for sample in samples)
    words = sum(len(sample["passage"].split()) for sample in samples)
    print(f"{len(DOMAINS)} domains, {sum(len(d.attributes) for d in COMPILED.values())} attributes")
    print(f"{n} passages, {words / n:.1f} words and {questions / n:.1f} questions each")
    print(f"{n / seconds:,.0f} passages/s, {questions / seconds:,.0f} questions/s")


def main() -> None:
    """Print samples, or check the invariants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domain", choices=DOMAINS)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        check()
        return
    rng = random.Random(options.seed)
    for _ in range(options.n):
        print(json.dumps(generate(rng, options.domain), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
