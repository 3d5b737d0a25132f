"""Where the Doom clips come from and what can be seen there: two tables of names.

`SCENARIOS` says which of ViZDoom's own scenarios and Freedoom levels belong to which split;
`KINDS` turns the engine's actor names into words for what the sprite looks like. Knows no
simulator, no pixels and no captions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """A place to film.

    name: what `truth["scenario"]` says. wad: `<name>.cfg` of ViZDoom for an arena, the Freedoom
    file for a level. map: the level's name there; "" for an arena, which starts at its own spot.
    """

    name: str
    wad: str
    map: str = ""
    armed: bool = True  # the player starts with a weapon whose shots cost ammunition
    share: float = 1.0  # how often it is chosen, against the others of its split


def _levels(wad: str, names: str, share: float) -> tuple[Scenario, ...]:
    listed = names.split()
    stem = wad.removesuffix(".wad")
    return tuple(Scenario(f"{stem}:{m}", wad, m, share=share / len(listed)) for m in listed)


def _arena(name: str, armed: bool = True, share: float = 1.0) -> Scenario:
    return Scenario(name, f"{name}.cfg", armed=armed, share=share)


# Whole scenarios are held out: no room, corridor or level is filmed in both splits. The kinds of
# things in them overlap. Levels that take more than 0.15 s to load are left out.
SCENARIOS: dict[str, tuple[Scenario, ...]] = {
    "train": (
        _arena("basic"),
        _arena("rocket_basic"),
        _arena("defend_the_center"),
        _arena("defend_the_line"),
        _arena("health_gathering", armed=False),
        _arena("my_way_home", armed=False, share=0.5),
        _arena("deathmatch", share=0.5),
        *_levels(
            "freedoom1.wad",
            "E1M1 E1M2 E1M3 E1M4 E1M5 E1M6 E1M7 E2M1 E2M2 E2M3 E2M4 E2M6 E2M7 "
            "E3M1 E3M2 E3M4 E3M6 E3M7",
            share=5,
        ),
        *_levels(
            "freedoom2.wad",
            "MAP01 MAP02 MAP03 MAP04 MAP05 MAP06 MAP07 MAP08 MAP13 MAP14 MAP16 MAP17 MAP18 MAP19",
            share=5,
        ),
    ),
    "heldout": (
        _arena("deadly_corridor"),
        _arena("predict_position", share=0.5),
        _arena("take_cover", armed=False),
        _arena("health_gathering_supreme", armed=False),
        *_levels("freedoom1.wad", "E4M1 E4M3 E4M4 E4M5 E4M6 E4M8", share=3),
        *_levels("freedoom2.wad", "MAP20 MAP21 MAP22 MAP23 MAP24 MAP26 MAP27 MAP29", share=3),
    ),
}

_KIND_ACTORS = {
    "zombie": "Zombieman ShotgunGuy ChaingunGuy",
    "marine": "MarineChainsawVzd",
    "imp": "DoomImp",
    "demon": "Demon",
    "cacodemon": "Cacodemon",
    "lost soul": "LostSoul",
    "big monster": "BaronOfHell HellKnight Fatso Arachnotron Archvile Revenant PainElemental "
    "Cyberdemon SpiderMastermind",
    "fireball": "DoomImpBall CacodemonBall BaronBall FatShot RevenantTracer",
    "rocket": "Rocket CustomRocket",
    "dead body": "DeadMarine DeadZombieMan DeadDoomImp DeadShotgunGuy DeadDemon "
    "DeadCacodemon DeadLostSoul GibbedMarine GibbedMarineExtra Gibs ColonGibs BrainStem "
    "LiveStick DeadStick HeadsOnAStick HeadOnAStick HeadCandles NonsolidMeat2 NonsolidMeat3 "
    "NonsolidMeat4 NonsolidMeat5 NonsolidTwitch Meat2 Meat3 Meat4 Meat5 BloodyTwitch HangTSkull "
    "HangNoGuts HangBNoBrain HangTLookingUp HangTLookingDown HangTNoBrain",
    "medkit": "Medikit CustomMedikit Stimpack",
    "bottle": "HealthBonus Poison",
    "helmet": "ArmorBonus",
    "armour": "GreenArmor BlueArmor",
    "ammunition": "Clip ClipBox Shell ShellBox RocketAmmo RocketBox Cell CellPack Backpack",
    "weapon": "Shotgun SuperShotgun Chaingun RocketLauncher PlasmaRifle BFG9000 Chainsaw",
    "key": "BlueCard RedCard YellowCard BlueSkull RedSkull YellowSkull",
    "orb": "Soulsphere Megasphere InvulnerabilitySphere BlurSphere",
    "barrel": "ExplosiveBarrel BurningBarrel",
    "lamp": "Column TechLamp TechLamp2 Candlestick Candelabra",
    "torch": "RedTorch GreenTorch BlueTorch ShortRedTorch ShortGreenTorch ShortBlueTorch",
    "column": "TechPillar TallRedColumn ShortRedColumn TallGreenColumn ShortGreenColumn "
    "HeartColumn SkullColumn Stalagtite",
    "tree": "TorchTree BigTree",
}
KINDS: dict[str, str] = {a: kind for kind, actors in _KIND_ACTORS.items() for a in actors.split()}

# Not things of the place: the player's own weapon, sprays of blood and smoke, flashes.
IGNORED = frozenset(
    "DoomPlayer BulletPuff Blood BloodSplatter RocketSmokeTrail TeleportFog ItemFog "
    "SmallBloodPool".split()
)
MONSTERS = ("zombie", "marine", "imp", "demon", "cacodemon", "lost soul", "big monster")


def kind_of(actor: str) -> str | None:
    """The word for an actor; None for what is never named, "?" for what has no word here."""
    if actor in IGNORED:
        return None
    word = KINDS.get(actor, "?")
    if word == "?" and KINDS.get(actor.removeprefix("Dead")) in MONSTERS:
        return "dead body"  # the engine's name for what was killed
    return word
