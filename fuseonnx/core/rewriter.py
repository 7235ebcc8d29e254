"""The driver: applies rules to a model until none of them fires.

It alone touches the graph. A rule sees a match and builds a replacement; the driver checks that nothing else
uses what the replacement absorbs, splices it in, keeps names and metadata, removes what died, and looks again
at the neighbourhood.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

import onnx_ir as ir

from fuseonnx.core.builder import Builder, Names, Refused
from fuseonnx.core.graph import (
    bodies_of,
    detach,
    graphs_in,
    nodes_in,
    opset_of,
    remove_if_dead,
    takes_initializers,
    top_graphs,
)
from fuseonnx.core.journal import Journal
from fuseonnx.core.pattern import ANY_OP, first_look, match_root, root_types
from fuseonnx.core.rule import Match, Rule, blame
from fuseonnx.errors import FuseOnnxError, RewriteError

_APPLICATIONS_PER_NODE = 30
_PING_PONG_WINDOW = 200


class Rewriter:
    """Runs a fixed list of rules over one model."""

    def __init__(self, model: ir.Model, rules: Sequence[Rule], journal: Journal, names: Names) -> None:
        self._model = model
        self._journal = journal
        self._names = names
        self._rules = _by_root(rules)
        self._tops = {graph: top for top in top_graphs(model) for graph in graphs_in(top)}
        self._queue: deque[ir.Node] = deque()
        self._queued: set[ir.Node] = set()

    def run(self) -> bool:
        """Visit every node, and again those around each change; return whether anything changed.

        A pattern of more than two levels may match after a change further away: run again until it returns
        False.

        Raises:
            RewriteError: the rules do not come to rest; it names the ones that undo each other.
        """
        before = len(self._journal.applied)
        budget = before + 1000 + _APPLICATIONS_PER_NODE * sum(len(graph) for graph in self._tops)
        for graph in top_graphs(self._model):
            self._enqueue(nodes_in(graph))
        while self._queue:
            node = self._queue.popleft()
            self._queued.discard(node)
            if node.graph is not None:
                self._visit(node)
            if len(self._journal.applied) > budget:
                raise RewriteError(ping_pong(self._journal))
        return len(self._journal.applied) > before

    def _enqueue(self, nodes: Iterable[ir.Node]) -> None:
        for node in nodes:
            if node not in self._queued:
                self._queued.add(node)
                self._queue.append(node)

    def _visit(self, node: ir.Node) -> None:
        if node.domain:
            return
        rules = self._rules.get(node.op_type)
        for rule, may_match in self._rules.get(ANY_OP, ()) if rules is None else rules:
            if may_match(node) and self._try(rule, node):
                return

    def _try(self, rule: Rule, root: ir.Node) -> bool:
        at = root.outputs[0].name or ""
        reason: str | None = None
        try:
            for captures in match_root(rule.pattern, root):
                match = Match(root, captures, self._opset(root))
                reason = _keeps_out(match) or self._has_parameters(match) or rule.guard(match)
                if reason is not None:
                    continue
                if not self._journal.admits(rule.name, at):
                    return False
                reason = self._apply(rule, match)
                if reason is None:
                    self._journal.record(rule.name, at)
                    return True
        except (FuseOnnxError, MemoryError):
            raise
        except Exception as error:
            raise blame(rule.name, f"'{at}'", error) from error
        if reason:
            self._journal.decline(rule.name, at, root.op_type, reason)
        return False

    def _opset(self, node: ir.Node) -> int:
        assert node.graph is not None
        return opset_of(self._tops[node.graph])

    def _has_parameters(self, match: Match) -> str | None:
        """Return why a match in a local function may not be what it seems: callers give its attributes."""
        if match.root.graph is None or self._tops[match.root.graph] is self._model.graph:
            return None
        for node in (match.root, *match.captures.absorbed):
            if any(attribute.is_ref() for attribute in node.attributes.values()):
                return f"an attribute of {node.op_type} is a parameter of the function"
        return None

    def _apply(self, rule: Rule, match: Match) -> str | None:
        """Replace the root, or return the reason why that is not possible."""
        root, graph = match.root, match.root.graph
        assert graph is not None
        in_main = self._tops[graph] is self._model.graph and takes_initializers(graph, self._model)
        builder = Builder(root, self._names, constant_nodes=not in_main)
        try:
            built = rule.replace(match, builder)
        except Refused as refusal:
            _discard(builder.nodes)
            return str(refusal)
        replacements = [built] if isinstance(built, ir.Value) else list(built)
        fresh = {output for node in builder.nodes for output in node.outputs}
        reason = _cannot_stand_in(root.outputs, replacements, fresh, graph)
        if reason is not None:
            _discard(builder.nodes)
            return reason
        _merge_metadata((*match.captures.absorbed, root), builder.nodes)
        for value in builder.initializers:
            graph.register_initializer(value)
        graph.insert_before(root, builder.nodes)
        for node in builder.nodes:
            if node.domain:
                self._tops[graph].opset_imports.setdefault(node.domain, 1)
        new_bodies = (body for node in builder.nodes for body in bodies_of(node))
        self._tops.update((inner, self._tops[graph]) for body in new_bodies for inner in graphs_in(body))
        for old, new in zip(root.outputs, replacements, strict=False):
            _substitute(old, new, fresh=new in fresh)
        self._clean_up(match, builder.nodes, replacements)
        builder.rename_namesakes()
        return None

    def _clean_up(self, match: Match, new_nodes: list[ir.Node], replacements: list[ir.Value]) -> None:
        survivors: dict[ir.Node, None] = {}
        remove_if_dead(match.root, survivors)
        for node in match.captures.absorbed:
            if node.graph is not None:
                remove_if_dead(node, survivors)
        self._enqueue(new_nodes)
        for value in replacements:
            self._enqueue(value.consumers())
        for node in survivors:
            self._enqueue((node,))
            for output in node.outputs:
                self._enqueue(output.consumers())


def _by_root(rules: Sequence[Rule]) -> dict[str, list[tuple[Rule, Callable[[ir.Node], bool]]]]:
    """Return the rules for each type of node, each with a quick test that sorts most nodes out."""
    roots = {rule.name: root_types(rule.pattern) for rule in rules}
    return {
        root: [(rule, first_look(rule.pattern, root)) for rule in rules if {root, ANY_OP} & roots[rule.name]]
        for root in frozenset[str]().union(*roots.values())
    }


def ping_pong(journal: Journal) -> str:
    """Say which rules keep undoing each other."""
    recent = Counter(application.rule for application in journal.applied[-_PING_PONG_WINDOW:])
    names = ", ".join(name for name, _ in recent.most_common(3))
    return f"rewriting does not come to rest: {names} undo each other; use --skip on one and report it"


def _keeps_out(match: Match) -> str | None:
    """Return why the absorbed nodes cannot go: they have other users, or carry what would be lost."""
    absorbed = {match.root, *match.captures.absorbed}
    for node in match.captures.absorbed:
        if node.graph is not match.root.graph:
            return f"{node.op_type} lies outside the body that uses it"
        for output in node.outputs:
            if output.is_graph_output():
                return f"the result of {node.op_type} is a graph output"
            if any(user not in absorbed for user in output.consumers()):
                return f"the result of {node.op_type} has other users"
            if output in match.captures.values.values():
                return f"the result of {node.op_type} is an operand too"
    for node in absorbed:
        if node.device_configurations:
            return f"{node.op_type} has a device configuration"
    return None


def _cannot_stand_in(
    outputs: Sequence[ir.Value], replacements: Sequence[ir.Value], fresh: set[ir.Value], graph: ir.Graph
) -> str | None:
    """Return why the outputs of a root cannot become its replacements."""
    if any(old.uses() or old.is_graph_output() for old in outputs[len(replacements) :]):
        return "another output is used"
    named = [new for old, new in zip(outputs, replacements, strict=False) if old.is_graph_output()]
    if len(named) != len(set(named)):
        return "two graph outputs would be one value"
    if any(new not in fresh and not _can_take_name(new, graph) for new in named):
        return "the result is a graph output"
    return None


def _can_take_name(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether an existing value may be renamed to a graph output's name."""
    producer = value.producer()
    return producer is not None and producer.graph is graph and not value.is_graph_output()


def _substitute(old: ir.Value, new: ir.Value, *, fresh: bool) -> None:
    is_output, name = old.is_graph_output(), old.name
    takes_name = is_output or (fresh and not new.is_graph_output())
    if new.type is None:
        new.type = old.type
    if new.shape is None or is_output:
        new.shape = old.shape if old.shape is not None else new.shape
    if fresh:
        new.meta.update(old.meta)
        new.doc_string = new.doc_string or old.doc_string
        new.metadata_props.update(old.metadata_props)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if takes_name:
        old.name = None
        new.name = name


def _merge_metadata(old_nodes: Sequence[ir.Node], new_nodes: Sequence[ir.Node]) -> None:
    merged: dict[str, str] = {}
    for node in old_nodes:
        merged.update(node.metadata_props)
    doc_strings = [node.doc_string for node in old_nodes if node.doc_string]
    for node in new_nodes:
        node.metadata_props.update({**merged, **node.metadata_props})
        node.doc_string = node.doc_string or (doc_strings[-1] if doc_strings else None)


def _discard(nodes: Iterable[ir.Node]) -> None:
    for node in nodes:
        detach(node)
