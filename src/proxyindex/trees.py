"""The trees of repositories, one per index, over folders and mirrors that all of them share.

    Filtered( Priority( Joined(own folders, bases' folders), outside ))
                                                               └ bases' and own upstreams, routed

See docs/decisions/0027 (several indexes) and 0029 (fallback modes).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from packaging.utils import NormalizedName

from proxyindex.names import matches_pattern
from proxyindex.policy import rules
from proxyindex.policy.verdict import NameRule, Policy
from proxyindex.repository.base import Repository
from proxyindex.repository.filtered import Filtered
from proxyindex.repository.priority import Joined, Priority
from proxyindex.repository.routed import Leaf, Redirected, Routed, Signpost
from proxyindex.repository.volatile import Volatile
from proxyindex.settings import FOLDERS, IndexSettings, PolicySettings, Settings, ways_out

_NOTHING = Priority(())

Merges = Callable[[NormalizedName], bool]


@dataclass(frozen=True, slots=True)
class Tree:
    """What an index serves, its folders and those of its bases, and what it may ask for names of
    which none of them knows."""

    whole: Repository
    inside: Repository
    outside: Repository


class Trees:
    """Grows the tree of each index.

    `folders` are the repositories over own folders by index, `mirrors` those of the upstreams by
    configured name.
    """

    def __init__(
        self,
        settings: Settings,
        folders: Mapping[str, Repository],
        mirrors: Mapping[str, Repository],
    ) -> None:
        self._settings = settings
        self._folders = folders
        signposts = {one.name: Signpost(one.url) for one in settings.upstreams}
        self._mirrors = Outside(settings, _judged(settings, mirrors))
        self._signposts = Outside(settings, _judged(settings, signposts))

    def tree(self, index: IndexSettings) -> Tree:
        """The tree of one index; its parts belong to it alone, but for folders and mirrors."""

        def merges(name: NormalizedName) -> bool:
            return any(matches_pattern(name, pattern) for pattern in index.merge)

        line = self._settings.lineage(index)
        own = Joined(self._own(line))
        outside: Repository = _NOTHING
        whole: Repository = own
        if index.fallback != "none":
            outside = self._kept_in(line, self._mirrors.of(index, line, merges))
            whole = Priority([own, outside], merges)
        if index.fallback == "redirect":
            signs = self._kept_in(line, self._signposts.of(index, line, merges))
            whole = Redirected(own, whole, signs, merges)
        return Tree(Filtered(whole, policy(index.policy)), own, outside)

    def _own(self, line: Sequence[IndexSettings]) -> Iterator[tuple[Repository, Repository]]:
        """The folders of an index and its bases: each as it is, and as seen from the index, through
        the policies of all bases on any way there."""
        lines = [(base, self._settings.lineage(base)) for base in line]
        nearer: list[tuple[IndexSettings, Sequence[IndexSettings]]] = []
        for place, one in enumerate(line):
            if (source := self._folders.get(one.name)) is not None:
                over = tuple(policy(base.policy) for base, has in lines[1:] if one in has)
                # an upload to a nearer folder may take a name, but to an heir that looks here first
                is_kept = all(one in has and not heir.overwrite for heir, has in nearer)
                yield source, Leaf(source if is_kept else Volatile(source), over).seen()
                nearer.append(lines[place])

    def _kept_in(self, line: Sequence[IndexSettings], outside: Repository) -> Repository:
        """Without the names that are ours alone, whichever of the index and its bases says so, and
        without those that a base denies, by whatever way one comes to them."""
        judging: list[NameRule] = []
        for one in line:
            if one.policy.reserved:
                judging.append(rules.reserved(one.policy.reserved))
            if any(route.to == FOLDERS for route in one.routes):
                routes = [(route.match, route.to == FOLDERS) for route in one.routes]
                judging.append(rules.kept_inside(routes))
        # behind all that hide: what is ours alone is absent outside, and no denial
        bases = [base.policy for base in line[1:] if base.policy.deny]
        judging += [rules.deny_names(_patterns(base.deny)) for base in bases]
        return Filtered(outside, Policy(name_rules=tuple(judging))) if judging else outside


class Outside:
    """What lies behind the folders of an index: the upstreams of its bases, then its own, routed.

    `upstreams` are what is asked, by configured name.
    """

    def __init__(self, settings: Settings, upstreams: Mapping[str, Repository]) -> None:
        self._settings = settings
        self._indexes = {index.name: index for index in settings.indexes}
        self._policies = {index.name: policy(index.policy) for index in settings.indexes}
        self._upstreams = upstreams

    def of(self, index: IndexSettings, line: Sequence[IndexSettings], merges: Merges) -> Repository:
        """For this index, of this lineage; its own policy is left to the whole tree."""
        if any(one.routes for one in line):
            choose = partial(self._leaves, index)
            asked = [self._upstreams[name] for name in self._settings.reaches(index)]
            return Routed(choose, asked, merges)
        leaves = [leaf.seen() for leaf in self._leaves(index, None)]
        return leaves[0] if len(leaves) == 1 else Priority(leaves, merges)

    def _leaves(self, index: IndexSettings, name: NormalizedName | None) -> list[Leaf]:
        """Who is asked for a name, in order; `None`: without routes."""
        ways = ways_out(index, name, self._indexes, self._upstreams)
        return [
            Leaf(self._upstreams[upstream], tuple(self._policies[base.name] for base in way))
            for upstream, way in ways.items()
        ]


def policy(settings: PolicySettings, *, reserved: bool = False) -> Policy:
    """The rules as configured; those of reserved names, which are for upstreams, on demand."""
    allow = _patterns(settings.allow)
    deny = _patterns(settings.deny)
    file_rules = (rules.quarantined, rules.deny_files(deny), rules.allow_files(allow))
    name_rules: list[NameRule] = [rules.reserved(settings.reserved)] if reserved else []
    name_rules += [rules.deny_names(deny), rules.allow_names(allow)]
    return Policy(
        tuple(name_rules),
        file_rules,
        elsewhere_rules=(rules.versions_elsewhere(deny, allow),),
        goes_by_version=True,
    )


def _patterns(texts: Iterable[str]) -> list[rules.Pattern]:
    return [rules.Pattern.parse(text) for text in texts]


def _judged(settings: Settings, upstreams: Mapping[str, Repository]) -> Mapping[str, Repository]:
    """Each upstream through its own rules."""
    return {
        one.name: Filtered(upstreams[one.name], policy(one.policy, reserved=True))
        for one in settings.upstreams
    }
