"""The words that seeded people, conversations and documents are made of."""

from __future__ import annotations

from typing import NamedTuple


class Subject(NamedTuple):
    """A place that people ask about: its name, what one books there, who works there, and what is used."""

    name: str
    thing: str
    worker: str
    tool: str
    room: str


SUBJECTS = (
    Subject("harbour", "berth", "harbour master", "mooring line", "quay"),
    Subject("library", "reading desk", "librarian", "catalogue", "reading room"),
    Subject("bakery", "sourdough order", "baker", "oven", "shop"),
    Subject("museum", "guided tour", "curator", "audio guide", "gallery"),
    Subject("observatory", "telescope slot", "astronomer", "telescope", "dome"),
    Subject("swimming pool", "lane", "lifeguard", "pace clock", "pool hall"),
    Subject("theatre", "box seat", "stage manager", "lighting desk", "auditorium"),
    Subject("botanical garden", "greenhouse visit", "gardener", "watering can", "palm house"),
    Subject("bicycle workshop", "repair stand", "mechanic", "truing stand", "workshop"),
    Subject("music school", "practice room", "piano teacher", "metronome", "concert room"),
    Subject("railway depot", "siding", "signal engineer", "points lever", "turntable"),
    Subject("clinic", "appointment", "nurse", "thermometer", "waiting room"),
    Subject("campsite", "pitch", "warden", "camping stove", "wash house"),
    Subject("ferry", "car deck space", "first mate", "boarding ramp", "lounge"),
    Subject("print shop", "press run", "typesetter", "guillotine", "bindery"),
    Subject("climbing hall", "rope course", "trainer", "harness", "bouldering room"),
    Subject("community kitchen", "cooking station", "cook", "stock pot", "dining hall"),
    Subject("pottery", "kiln shelf", "potter", "wheel", "glaze room"),
    Subject("weather station", "instrument shelter", "meteorologist", "rain gauge", "tower room"),
    Subject("beekeeping yard", "hive stand", "beekeeper", "smoker", "honey house"),
    Subject("archive", "document box", "archivist", "microfilm reader", "vault"),
    Subject("market hall", "stall", "market warden", "scale", "cold store"),
    Subject("recycling centre", "skip", "sorter", "baler", "weighbridge"),
    Subject("lighthouse", "overnight stay", "keeper", "lamp", "lantern room"),
)

ASPECTS: dict[str, tuple[str, ...]] = {
    "Opening hours": (
        "The {name} opens at {hour} in the morning and closes at {late} in the evening, from {day} to {other_day}.",
        "On public holidays the {room} stays closed, and the {worker} answers by telephone only.",
        "Last admission is {minutes} minutes before closing.",
    ),
    "Fees": (
        "A {thing} costs {price} a day, and {share} per cent less for students and residents.",
        "Fees are paid at the {room} before noon of the day of arrival.",
        "Whoever stays longer than {days} days pays the weekly rate.",
    ),
    "Bookings": (
        "A {thing} is booked {days} days ahead, in writing, with a name and a telephone number.",
        "The {worker} confirms within {hours} hours; without that answer no booking exists.",
        "Groups of more than {people} need the written consent of the {name}.",
    ),
    "Cancellations": (
        "Cancelling a {thing} is free until {hours} hours before it begins.",
        "After that {share} per cent of the fee of {price} is kept by the {name}.",
        "When a storm or a strike closes the {room}, the whole fee is returned.",
    ),
    "Safety": (
        "Nobody uses the {tool} without an introduction by the {worker}.",
        "The exits of the {room} are kept free, and the alarm is tested every {day}.",
        "An accident is reported within {hours} hours, however small it seems.",
    ),
    "Equipment": (
        "Every {thing} comes with one {tool}, which is returned clean and dry.",
        "A {tool} that is damaged is replaced for {price}, or repaired by the {worker}.",
        "Spare parts are kept in the {room}, on shelf {people}.",
    ),
    "Staff": (
        "The {worker} on duty wears a green badge and carries the keys of the {room}.",
        "New staff of the {name} are trained for {days} days, the first of them with the {tool}.",
        "Shifts change at {hour} in the morning and at {late} in the evening.",
    ),
    "History": (
        "The {name} was founded in {year}, in a shed beside the present {room}.",
        "Its first {worker} built the {tool} that still hangs over the entrance.",
        "After the fire of {later_year} the {room} was rebuilt in brick within {days} weeks.",
    ),
    "Accessibility": (
        "The {room} is reached without steps through the gate on the north side.",
        "A {thing} with extra space is kept free until {hours} hours before it is needed.",
        "Assistance dogs are welcome everywhere but beside the {tool}.",
    ),
    "Complaints": (
        "A complaint about a {thing} goes to the {worker}, who answers within {days} days.",
        "What cannot be settled there is decided by the board of the {name}, every second {day}.",
        "Records of complaints are kept in the {room} for {people} years.",
    ),
}

QUESTIONS = (
    "When does the {name} open on {day}?",
    "How much is a {thing} for {days} days, and can I pay on arrival?",
    "I booked a {thing} for next {day} and have to cancel it. What do I get back of {price}?",
    "Who looks after the {tool} when the {worker} is away?",
    "Could you compare the rules for a {thing} with what we wrote last week?",
    "My daughter uses a wheelchair. Is the {room} easy to reach?",
    "We are {people} people. Do we need to tell the {worker} beforehand?",
    "The {tool} in the {room} is broken again 😕 Where do I report that?",
    "Please summarise the history of the {name} in three sentences.",
    "Draft a short, friendly note to the {worker} about the {thing} we missed on {day}.",
    "What is {share} per cent of {price}?",
    "Which day is better for the {room}, {day} or {other_day}?",
)
FOLLOW_UPS = (
    "And on {other_day}?",
    "Thanks! Does the same hold for the {room}?",
    "Hm, the {worker} told me {hours} hours. Which of the two is right?",
    "Can you put that into a table?",
    "Shorter, please.",
    "That is what I needed. One more thing: who repairs the {tool}?",
    "Why {share} per cent?",
    "Could you write that for somebody who has never seen a {tool}?",
)
ANSWERS = (
    "The {name} opens at {hour} and closes at {late}, from {day} to {other_day}. The {room} is closed on holidays.",
    "A {thing} costs {price} a day. Residents and students pay {share} per cent less, so {days} days are cheaper so.",
    "You can cancel free of charge until {hours} hours before. Later, {share} per cent of the fee is kept.",
    "The {worker} on duty does. You find them in the {room}, with a green badge.",
    "Here is the short version:\n\n- book {days} days ahead\n- bring the {tool} back clean and dry\n- pay before noon",
    "Yes: the gate on the north side of the {room} has no steps. Please tell the {worker} {hours} hours ahead.",
    "Groups of more than {people} need written consent. I would ask on {day}, when the {worker} is there all day.",
    "I could not find anything about that in the documents of the {name}. The {worker} would know.",
    "| what | when | how much |\n| --- | --- | --- |\n| {thing} | {day} | {price} |\n| {tool} | {other_day} | free |",
    "The {name} was founded in {year}. After the fire of {later_year} the {room} was rebuilt around its {tool}.",
)
ROOM_REMARKS = (
    "I can take the {thing} on {day} if nobody minds.",
    "@assistant what did we decide about the {tool}?",
    "The {worker} called: {other_day} works better for them.",
    "👍 Same here.",
    "Has anybody seen the key of the {room}?",
    "I put the numbers for the {name} into the shared folder, {price} in all.",
)
TITLES = (
    "{Name}: {aspect}",
    "A {thing} for {day}",
    "Questions about the {name}",
    "Note to the {worker}",
    "{Name} in {year}",
    "Repairing the {tool}",
    "Plan for the {room}",
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TOWNS = (
    "Aldermoor", "Brackwell", "Carrow", "Dunmere", "Eastholm", "Fenwick", "Garrowby", "Hollin", "Inchmore", "Jarrat",
    "Kelder", "Lowick", "Marram", "Netherby", "Ormsay", "Pellworth", "Quarrel", "Rosedene", "Saltby", "Thornley",
    "Ulverscroft", "Venn", "Westerdale", "Yarrow", "Zeal", "Ashby Cross", "Birchover", "Copley", "Drayford", "Elmstead",
    "Farrow", "Glenmoor", "Hythe End", "Ivelet", "Jura Bay", "Kirkholm", "Linden", "Mossgate", "Norrick", "Oakhanger",
    "Penmarric", "Quoin", "Redmire", "Stainer", "Tarn Howe", "Upwey", "Varley", "Whitlow", "Yatton", "Zennor",
)  # fmt: skip
PEOPLE = (
    "ada", "boris", "chiara", "daniel", "elif", "farid", "greta", "hugo", "ines", "jonas", "katya", "liam", "mina",
    "noor", "oskar", "paula", "quinn", "rosa", "samir", "tove",
)  # fmt: skip
"""Names to sign in with: `seed-ada`, `seed-boris`, …"""

TAGS = ("fees", "planning", "repairs", "events", "urgent", "archive", "staff", "visitors")
