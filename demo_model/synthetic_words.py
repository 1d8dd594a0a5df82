"""Words and name patterns from which the invented entities of `synthetic.py` are made."""

from __future__ import annotations


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
