"""What the prompts are about: topics by split, each with words that an answer about it is likely to use.

A word counts in its inflected forms too (`bee` also for `bees`). The list runs through its subjects in order and the
splits take turns in it, so that training, validation and test have the same subjects but not one topic in common.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

_LINES = """
honey: bee hive sweet flower nectar comb sugar syrup
bread: flour bake yeast loaf dough oven wheat slice
cheese: milk cow cheddar curd dairy cream goat aged
chocolate: cocoa sweet bar sugar dark candy bean milk
coffee: bean brew cup caffeine roast drink morning espresso
tea: leaf cup brew drink hot green herbal kettle
rice: grain cook field bowl paddy boil asia white
soup: broth bowl hot vegetable spoon pot chicken noodle
apples: fruit tree orchard red crisp juice pie sweet
bananas: fruit yellow peel tropical potassium bunch sweet ripe
tomatoes: red fruit plant garden salad sauce ripe vegetable
salt: sea mineral season taste food sodium crystal cook
pizza: cheese crust dough tomato slice oven topping italy
pancakes: batter syrup breakfast flour flip pan butter stack
ice cream: cold frozen scoop cone vanilla sweet summer milk
eggs: chicken shell yolk breakfast hen boil protein fry
lemons: sour yellow fruit juice citrus tree peel drink
garlic: clove bulb smell cook flavor onion kitchen herb
mushrooms: fungus forest cap spore soil eat edible stem
olive oil: press greece salad cook tree fruit italy healthy
cats: pet purr whisker kitten fur mouse paw feline
dogs: pet bark loyal puppy tail bone walk fur
horses: ride gallop mane saddle stable hoof mare farm
cows: milk farm grass pasture cattle herd calf moo
elephants: trunk tusk large africa herd ear ivory gray
lions: mane pride africa roar hunt cub savanna king
penguins: ice bird antarctica swim cold colony fish waddle
dolphins: ocean swim sea mammal pod clever fish jump
whales: ocean sea mammal large blow swim blue krill
sharks: ocean sea teeth fish fin hunt predator water
owls: night bird hunt eye feather hoot wise mouse
eagles: bird wing soar prey nest claw sky beak
parrots: bird feather talk colorful tropical beak mimic pet
butterflies: wing flower caterpillar color insect cocoon flutter nectar
spiders: web eight leg insect silk spin bite fly
ants: colony insect small work nest queen carry tunnel
frogs: pond jump tadpole green water croak amphibian leg
turtles: shell slow sea egg reptile swim beach old
snakes: reptile scale venom slither bite long skin tongue
bears: forest fur honey hibernate cub winter large claw
wolves: pack howl forest hunt wild moon gray prey
foxes: red tail sly forest fur clever den hunt
rabbits: ear hop carrot burrow fur fluffy bunny grass
squirrels: nut tree tail acorn climb fur winter forest
bats: night cave wing fly mammal insect hang dark
kangaroos: australia hop pouch joey tail jump leg marsupial
giraffes: neck tall africa leaf spot tree long savanna
camels: desert hump water sand dry caravan hot ride
octopuses: arm eight ocean sea ink tentacle clever squid
crocodiles: river reptile teeth water jaw swamp scale prey
oak trees: acorn leaf wood forest branch tall trunk shade
roses: flower petal thorn red garden love scent bloom
sunflowers: yellow seed sun petal tall field bloom garden
cactus plants: desert spine water dry sand thorn green hot
grass: green lawn field cow mow garden blade soil
forests: tree leaf animal green wood wild shade bird
mountains: peak high climb snow rock summit tall valley
rivers: water flow stream bank fish sea lake bridge
lakes: water fish boat shore swim calm shallow fresh
oceans: sea water wave deep fish salt blue tide
deserts: sand dry hot camel dune cactus heat rain
islands: sea water beach palm ocean surround boat coast
volcanoes: lava erupt ash mountain magma hot rock smoke
waterfalls: river rock fall cliff stream pool mist flow
caves: dark rock bat underground deep stone explore tunnel
beaches: sand sea wave sun shell swim summer coast
rain: cloud water wet umbrella drop storm sky weather
snow: white cold winter flake ice melt freeze ski
wind: blow air breeze storm sail tree leaf strong
clouds: sky rain white water gray vapor float weather
thunder: storm lightning loud sound sky rain cloud rumble
rainbows: color rain sun sky red light arch violet
fog: mist water air morning cloud visibility thick low
the sun: light star warm heat sky energy bright planet
the moon: night sky light tide earth crater orbit full
stars: night sky light galaxy shine sun bright universe
planets: orbit sun earth mars space jupiter solar star
comets: ice tail sun space orbit dust sky rock
winter: cold snow ice coat december frost warm season
spring: flower bloom warm rain grow season bird green
summer: hot sun beach vacation warm swim holiday season
autumn: leaf fall orange harvest cool october tree season
bicycles: wheel ride pedal bike chain road cycle brake
cars: drive engine road wheel fuel fast vehicle seat
trains: rail station track travel engine passenger ticket carriage
airplanes: fly wing sky pilot airport passenger engine travel
ships: sea sail ocean captain cargo port boat water
buses: passenger road stop driver city ride ticket seat
submarines: underwater sea ocean dive navy deep water torpedo
rockets: space launch fuel moon engine orbit astronaut nasa
bridges: river cross road span steel arch water connect
tunnels: underground dig train road dark mountain pass light
castles: king wall stone tower knight moat medieval queen
lighthouses: light sea ship coast tower sailor rock beam
windmills: wind grain blade turn energy mill flour power
skyscrapers: tall building city floor steel window elevator tower
libraries: book read quiet shelf library borrow student learn
museums: art history exhibit paint visit collection dinosaur ancient
schools: student teacher learn class child education lesson study
hospitals: doctor nurse patient health sick medicine care emergency
airports: plane flight travel passenger runway luggage ticket gate
markets: buy sell food fruit shop vegetable price stall
farms: animal crop field farmer cow grow barn food
zoos: animal lion visit cage elephant child monkey wild
parks: tree walk play grass bench child green picnic
gardens: flower plant grow soil vegetable water green seed
kitchens: cook food stove oven sink meal recipe pan
bedrooms: bed sleep pillow rest blanket room night lamp
football: ball team goal player kick score field game
basketball: ball hoop team court player dribble score game
tennis: racket ball court net player serve match game
swimming: water pool swim stroke exercise dive sea breath
running: run shoe race exercise leg marathon fast health
skiing: snow mountain slope winter pole cold downhill resort
chess: king queen board piece pawn game player move
cycling: bike ride road wheel pedal helmet exercise race
climbing: rock mountain rope climb harness height wall grip
fishing: fish rod hook bait lake catch river boat
surfing: wave board ocean sea beach ride water balance
dancing: dance music move step rhythm partner body ballet
singing: song voice music sing choir melody note sound
yoga: stretch pose body breath mind calm exercise balance
camping: tent fire forest night sleep outdoors nature marshmallow
hiking: trail walk mountain nature boot path forest backpack
painting: color brush canvas paint art artist picture oil
drawing: pencil paper line sketch art picture artist shade
photography: camera photo picture light lens image capture moment
pottery: clay bowl wheel kiln vase shape hand glaze
knitting: yarn needle wool scarf stitch sweater warm pattern
sewing: needle thread fabric stitch clothes machine button cloth
cooking: food recipe kitchen meal taste ingredient pan heat
baking: oven cake bread flour sugar dough cookie sweet
gardening: plant flower soil seed grow water vegetable garden
reading: book story page read word learn novel library
writing: word pen story paper write letter author page
guitars: string music play chord wood strum song instrument
pianos: key music play note instrument song hammer keyboard
drums: beat rhythm stick music loud play band instrument
violins: string bow music play wood instrument orchestra sound
trumpets: brass blow horn music jazz loud valve instrument
opera: sing music stage voice theater italian drama song
jazz: music saxophone improvise band trumpet rhythm blues piano
movies: film actor cinema watch screen story director popcorn
theaters: stage actor play audience curtain drama seat show
circuses: clown tent acrobat juggle animal show elephant ring
puppets: string hand show doll child theater stage wood
poems: verse rhyme poet word line write feeling stanza
fairy tales: story princess magic child king dragon prince forest
dragons: fire wing myth fly scale legend knight breathe
pirates: ship sea treasure sail gold captain flag island
knights: armor sword horse castle king medieval shield battle
robots: machine metal work human program factory computer arm
computers: screen keyboard program data machine software internet mouse
telephones: call phone talk number voice ring mobile wire
televisions: screen watch show channel picture remote news program
cameras: photo picture lens light image film shoot take
clocks: time hour hand minute tick wall alarm watch
mirrors: reflect glass image face light wall reflection look
umbrellas: rain wet dry handle open sun storm carry
hats: head wear sun cap brim wool style straw
shoes: foot feet wear walk leather lace sole pair
gloves: hand finger warm wear winter cold leather protect
blankets: warm bed wool soft sleep cold cover cozy
candles: wax light flame burn wick scent birthday dark
soap: wash clean hand water bubble dirt bath skin
glass: window transparent sand break clear bottle drink melt
paper: write tree book wood page sheet pulp print
pencils: write draw wood lead graphite eraser paper sharpen
wood: tree furniture forest burn carve fire house timber
gold: metal yellow jewelry ring shiny precious coin mine
silver: metal shiny jewelry coin spoon precious gray ring
iron: metal steel strong rust heat ore hammer magnet
diamonds: gem ring hard carbon jewelry sparkle precious stone
plastic: bottle bag recycle material waste ocean oil pollution
rubber: tire tree stretch elastic ball latex eraser bounce
magnets: metal iron pole attract north field pull magnetic
electricity: power light energy wire current lamp battery home
batteries: power energy charge electric phone cell device store
lamps: light bulb bright dark room electric desk shade
fire: flame heat burn smoke hot wood warm light
ice: cold water freeze frozen winter melt skate cube
water: drink river liquid life ocean clean thirst rain
air: breathe oxygen wind atmosphere gas sky lung clean
soil: plant earth grow dirt garden worm root nutrient
sand: beach desert grain castle sea dune dry glass
dreams: sleep night mind imagine brain dream story wake
sleep: rest night bed dream body tired brain hour
laughter: laugh smile joke happy fun funny friend joy
friendship: friend trust share care love support together kind
kindness: help kind care friend smile give people love
courage: brave fear face strong hero bold risk danger
patience: wait calm time patient slow virtue hope learn
honesty: truth trust honest lie tell sincere friend integrity
curiosity: learn question explore curious discover mind wonder new
music: song sound listen melody rhythm play instrument note
colors: red blue green yellow light paint rainbow bright
numbers: count math one two digit add zero calculate
maps: road city country find travel location navigate paper
money: buy coin bank pay cash spend price save
holidays: vacation travel family rest celebrate fun beach gift
birthdays: cake candle gift party friend celebrate year balloon
weddings: bride love ring dress marry groom couple ceremony
families: parent child mother father love home together sister
babies: child small cry milk parent mother born sleep
grandparents: story family love old wise child grandmother grandfather
doctors: patient hospital sick health medicine heal care treat
teachers: student school learn class lesson teach education child
farmers: crop field farm grow animal food tractor harvest
firefighters: fire hose rescue truck smoke brave flame save
astronauts: space rocket moon station earth suit nasa orbit
bakers: bread oven cake flour dough pastry bake morning
fishermen: fish boat sea net catch ocean lake rod
postmen: letter mail deliver package house mailbox post street
pilots: plane fly airplane sky cockpit airport passenger flight
sailors: sea ship boat ocean sail wave navy captain
carpenters: wood hammer build furniture saw nail tool table
clowns: circus laugh funny nose makeup child red trick
detectives: crime clue solve mystery case evidence police find
magicians: trick magic hat rabbit wand card illusion audience
teeth: brush mouth chew tooth smile dentist bite white
eyes: see vision look light blue color sight blink
hands: finger hold touch write thumb wave palm work
hair: head long curl brush cut color brown shampoo
the heart: blood pump beat body love organ chest muscle
the brain: think mind memory nerve body head thought learn
exercise: body health muscle run fit strong walk sport
breakfast: morning egg toast cereal meal coffee food day
lunch: meal sandwich noon eat food midday salad break
picnics: basket park food sandwich blanket outdoors grass sun
parties: friend music dance celebrate fun cake guest game
fireworks: sky explode color night bright celebrate loud spark
kites: wind string fly sky tail paper child color
balloons: air float party helium color pop birthday sky
bubbles: soap float air blow pop round water shiny
toys: child play doll game fun car ball wood
puzzles: piece solve picture brain jigsaw game fun clue
playgrounds: swing slide child play park sandbox fun climb
swings: playground child back push fun park rope seat
snowmen: snow winter carrot hat scarf child cold build
sledding: snow hill sled winter slide fast child cold
treehouses: tree child ladder wood climb build branch play
scarecrows: crow field bird straw farmer hat crop farm
tractors: farm field plow engine wheel farmer crop pull
wells: water dig deep bucket ground drink stone village
compasses: north needle direction navigate magnetic map south find
telescopes: star lens planet sky see moon astronomer far
microscopes: small lens cell tiny see bacteria scientist magnify
""".strip()

_TURNS = ("train", "train", "test", "train", "validation", "train", "train", "test", "train", "test")
"""Which split takes the topic at a place of the list, over and over."""
_SHORTEST_STEM = 3


def _parsed() -> dict[str, frozenset[str]]:
    pairs = [line.split(": ") for line in _LINES.splitlines()]
    return {name: frozenset(words.split()) for name, words in pairs}


TOPICS: Mapping[str, frozenset[str]] = _parsed()
"""Each topic's related words, without those of its own name."""
SPLITS: Mapping[str, tuple[str, ...]] = {
    split: tuple(name for i, name in enumerate(TOPICS) if _TURNS[i % len(_TURNS)] == split)
    for split in ("train", "validation", "test")
}


def mentions(topic: str, text: str) -> tuple[int, bool]:
    """How many of a topic's related words a text uses (each counted once), and whether it uses the topic's name."""
    stems = set(map(stem, words(text)))
    name = {stem(word) for word in topic.split() if word != "the"}
    return len({stem(word) for word in TOPICS[topic]} & stems - name), name <= stems


def words(text: str) -> list[str]:
    """A text's words in lower case: letters and digits, with apostrophes and hyphens inside."""
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower())


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A word without the endings of English inflection, roughly: only equal stems are ever compared."""
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) + len(instead) >= _SHORTEST_STEM:
            word = word[: -len(ending)] + instead
            break
    if len(word) > _SHORTEST_STEM and word[-1] == word[-2] and word[-1] not in "se":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > _SHORTEST_STEM else word


_ENDINGS = (
    ("'s", ""),
    ("’s", ""),
    ("lves", "lf"),
    ("aves", "af"),
    ("ies", "y"),
    ("ied", "y"),
    ("sses", "ss"),
    ("xes", "x"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("ing", ""),
    ("ers", "er"),
    ("ed", ""),
    ("ss", "ss"),
    ("us", "us"),
    ("s", ""),
)
