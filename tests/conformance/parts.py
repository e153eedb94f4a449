"""What a complete run consists of, and what may differ in each part. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Literal, TypeAlias

from tests.conformance.results import Difference, Results, count

UpstreamName: TypeAlias = Literal["fixture", "reference"]
HIDDEN: Final = "test_audio_content"
HIDING_SCOPE: Final = "conformance:hidden"


# What each upstream must pass with nothing in front of it, by suite: two sides that fail alike prove nothing.
LEAST: Final[Mapping[tuple[UpstreamName, str], int]] = {
    ("fixture", "2025-11-25"): 84,
    ("fixture", "2026-07-28"): 195,
    ("fixture", "0.1.16"): 44,
    ("fixture", "client"): 68,
    ("reference", "2025-11-25"): 47,
    ("reference", "2026-07-28"): 11,
    ("reference", "0.1.16"): 13,
}


class Road(Enum):
    """How the proxy reaches its server."""

    HTTP = auto()
    STDIO = auto()


@dataclass(frozen=True, slots=True)
class Part:
    """One server behind Postern. `lost`: scenarios that cannot pass there; `mended`: those that must get better."""

    name: str
    upstream: UpstreamName = "fixture"
    road: Road = Road.HTTP
    hides: bool = False
    lost: frozenset[str] = frozenset()
    mended: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    def shortfall(self, suite: str, direct: Results) -> list[str]:
        """What is wrong with the upstream itself; empty if nothing is."""
        passed, least = count(direct)[0], LEAST[self.upstream, suite]
        return [f"{self.upstream} passes {passed} checks directly, and should pass {least}"] if passed < least else []

    def complaints(self, suite: str, differences: Sequence[Difference]) -> list[str]:
        """What this part's differences from direct should not be; empty if all is well."""
        worse = {each.scenario for each in differences if each.verdict == "worse"}
        better = {each.scenario for each in differences if each.verdict == "better"}
        return [
            *(f"{scenario} got worse" for scenario in sorted(worse - self.lost)),
            *(f"{scenario} should fail, for its tool is hidden" for scenario in sorted(self.lost - worse)),
            *(f"{scenario} is not mended" for scenario in sorted(self.mended.get(suite, frozenset()) - better)),
        ]


_REBINDING: Final = "dns-rebinding-protection"
PARTS: Final = (
    Part("http"),
    Part("stdio", road=Road.STDIO),
    Part("hidden", hides=True, lost=frozenset({"tools-call-audio"})),
    Part(
        "reference",
        upstream="reference",
        # On the modern wire it refuses everything, and so what it should.
        mended={
            "2025-11-25": frozenset({_REBINDING, "server-session-lifecycle"}),
            "0.1.16": frozenset({_REBINDING}),
        },
    ),
)
