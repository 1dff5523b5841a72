"""What a verb was asked for: what is typed, over files and environment variables.

What is typed comes first, then `--config FILE`, then environment variables, then `petseg.yaml` in
the working folder, then defaults. Plug-ins of all of them are loaded.
"""

import functools
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.cli import petseg_yaml
from benchmark.core.errors import UserError, on_one_line
from benchmark.core.object_store import is_url
from benchmark.core.selectors import UnknownName, did_you_mean, split_selectors
from benchmark.core.spec import one_line
from benchmark.core.yaml_file import read_mapping
from benchmark.data.acquire import at_url
from benchmark.models.find_weights import expand, find_weights, is_glob
from benchmark.planning import own_sets, plugins
from benchmark.planning.catalogue import SUITES, check_names
from benchmark.planning.plan import Selection, plan
from benchmark.planning.remembered import descriptions, explain, recall, sets_of
from benchmark.planning.renamed import keep_versions
from benchmark.planning.settings import read_settings

if TYPE_CHECKING:
    from benchmark.core.spec import RunSpec


class ConfigFile(BaseModel):
    """What a configuration file may hold: the options by their names."""

    model_config = ConfigDict(extra="forbid")

    suite: str | None = None
    methods: str | list[str] | None = None
    benchmarks: str | list[str] | None = None
    backbones: str | list[str] | None = None
    seeds: int | str | list[int] | None = None
    fraction: float | str | list[float] | None = None
    settings: str | None = None
    set: dict[str, bool | int | float | str] = {}
    weights: str | list[str] | None = None
    data: str | None = None
    plugin: str | list[str] | None = None
    results: str | None = None
    device: str | None = None
    workers: int | None = Field(None, ge=0)


@dataclass(frozen=True)
class Request:
    """The options of a verb after everything that states them was merged.

    Attributes:
        selection: which cells.
        results: the results folder; where it is at a URL, its mirror.
        reports: the folder for reports.
        data: data root; None where none is named.
        weights: folders of weights.
        device: where to train.
        workers: processes that cut crops; None = as the device needs.
        chosen: why the suite was chosen, where nobody named it; empty for the usual one.
        repeated: the options that name the same results and plug-ins again, for commands that are
            printed.
        sources: those that name the same weights and data again.
        url: of the results; empty = they are in a folder of this machine.
    """

    selection: Selection
    results: Path
    reports: Path
    data: Path | None
    weights: tuple[Path, ...]
    device: str
    workers: int | None
    chosen: str = ""
    repeated: str = ""
    sources: str = ""
    url: str = ""

    @property
    def place(self) -> str:
        """Where the results are, as users named it."""
        return self.url or str(self.results)

    def plan(self) -> "list[RunSpec]":
        """The selected cells; says on one line what was chosen for them."""
        cells = plan(self.selection, self.weights)
        chosen = [self.chosen] if self.chosen else []
        if SUITES.get(self.selection.suite).candidates and not self.selection.backbones:
            name = cells[0].backbone
            path = find_weights(name, self.weights)
            where = path.parent if path else "timm's cache"
            chosen.append(f"backbone {name}: the first of the suite's list that is here ({where})")
        globs = [g for g in split_selectors(self.selection.backbones or "") if is_glob(g)]
        if globs:
            names = ", ".join(expand(globs, self.weights))
            chosen.append(f"backbones with weights here that match {', '.join(globs)}: {names}")
        if chosen:
            _say(f"{', '.join(chosen)}; --suite, --backbones choose others")
        return cells


@functools.cache
def _say(text: str) -> None:
    """Prints a line once, however often a command plans."""
    print(text, file=sys.stderr)


def resolve(config: Path | None = None, *, finished: bool = False, **typed: Any) -> Request:
    """Merges what is typed over all else that states options; see the module.

    Plug-ins are loaded here, so that what they register can be selected.

    Args:
        config: YAML file, or None.
        finished: whether it is about finished runs; where no suite and no benchmark is named, it is
            then the only one that has some.
        **typed: the options of the verb by name; None where the user typed nothing.

    Raises:
        UserError: a file cannot be read, or an option does not exist or contradicts another.
    """
    here = petseg_yaml.read_settings()
    options: dict[str, Any] = {name: here[name] for name in here if name in typed}
    options |= {
        name: os.environ[variable]
        for name, variable in petseg_yaml.VARIABLES.items()
        if name in typed and os.environ.get(variable)
    }
    stated = _read_config(config) if config else {}
    own_files = _strings(here.get("plugins")) if "plugin" in typed else []
    named = _strings(typed.pop("plugin", None))
    plugin_files = [*_strings(stated.pop("plugin", None)), *named]
    options |= stated
    protocol = options.get("set", {}) | _pairs(typed.get("set") or ())
    options |= {key: value for key, value in typed.items() if value is not None}
    for name, value in [*options.items(), *(("plugin", text) for text in plugin_files)]:
        # Nothing must never stand for all that a suite holds.
        if (isinstance(value, str) and not value.strip()) or value == []:
            raise UserError(f"--{name} is empty; give it a value, or leave it out")
    for name in petseg_yaml.VARIABLES:
        if name in options and options[name] is here.get(name) and not is_url(options[name]):
            petseg_yaml.check_folders(name, options[name])
    weights = _strings(options.get("weights"))
    if "none" in weights and len(weights) > 1:
        raise UserError(f"--weights {' '.join(weights)}: none contradicts a folder; keep one")
    random = weights == ["none"]
    tuned = read_settings(Path(options["settings"])) if options.get("settings") else None
    for source, files in (("--plugin", plugin_files), (f"{petseg_yaml.FILE}: plugins:", own_files)):
        plugins.load_files([Path(name) for name in files], source)
    text = {
        key: ",".join(_strings(options[key])) if options.get(key) is not None else None
        for key in ("methods", "benchmarks", "backbones", "seeds", "fraction")
    }
    usual = str(here.get("results", "results"))
    where = str(options.get("results") or usual)  # verbs may take it under another name
    results = _results(where, "results" in typed)
    suite, chosen = options.get("suite") or (tuned.suite if tuned else None), ""
    try:
        check_names(text["methods"] or "", protocol.get("decoder", ""))
        if finished and not (suite or text["benchmarks"] or own_sets.given()):
            suite = _only_suite(results)
        _recall(results, text["benchmarks"], suite if "benchmarks" in typed else None)
        if suite is None and "benchmarks" in typed:
            suite = own_sets.suite_for(text["benchmarks"])
            if suite == own_sets.SUITE:
                names = text["benchmarks"] or ", ".join(own_sets.given())
                chosen = f"suite {suite}, for sets of your own ({names})"
            elif text["benchmarks"] is None and (path := next(descriptions(), (None, ""))[0]):
                chosen = f"suite {suite}; {path} is not used without --plugin {path}"
        elif suite is None and "suite" in typed:
            suite = _suite_of(results)
    except UnknownName as error:
        raise explain(error, results) from None
    for sentence in keep_versions(results) if own_sets.given() else ():
        _say(sentence)
    return Request(
        Selection(
            suite=str(suite or own_sets.USUAL),
            methods=text["methods"],
            benchmarks=text["benchmarks"],
            backbones=text["backbones"],
            seeds=_seeds(text["seeds"]),
            fractions=_fractions(text["fraction"], protocol),
            protocol=protocol,
            weights="none" if random else "pretrained",
            settings=tuned,
        ),
        results=results,
        reports=Path(here.get("reports", "reports")),
        data=_data(options["data"]) if options.get("data") else None,
        weights=() if random else tuple(_folder(Path(name)) for name in weights),
        device=options.get("device") or "auto",
        workers=options.get("workers"),
        chosen=chosen,
        repeated=_typed(results=[] if where == usual else [where], plugin=named),
        sources=_typed(weights=_strings(typed.get("weights")), data=_strings(typed.get("data"))),
        url=where if is_url(where) else "",
    )


def _recall(results: Path, benchmarks: str | None, suite: str | None) -> None:
    """Loads descriptions that runs were made with, of benchmarks that are asked for.

    Args:
        results: folder with the runs.
        benchmarks: as typed.
        suite: as stated; that of sets of one's own means those that it has runs of.

    Raises:
        UserError: a file has to be named.
    """
    names = [name for name in split_selectors(benchmarks or "") if not set(name) & set("*?[")]
    if suite == own_sets.SUITE and benchmarks is None and not own_sets.given():
        names = sets_of(results, suite)
    for name, problem in recall(results, names).items():
        raise UserError(f"unknown benchmark {name!r}: it {problem}")


def _suite_of(results: Path) -> str:
    """The suite that a report is about, where none is named."""
    return _only_suite(results) or own_sets.suite_for(None)


def _only_suite(results: Path) -> str | None:
    """The suite of the results; None where there are several, or none."""
    from benchmark.results.load import suites_of

    there = suites_of(results)
    return there[0] if len(there) == 1 else None


def _typed(**options: Sequence[str | Path]) -> str:
    """Options as they are typed behind a command, with a space before each."""
    words = [word for name, values in options.items() for v in values for word in (f"--{name}", v)]
    return f" {shlex.join(map(str, words))}" if words else ""


def _read_config(path: Path) -> dict[str, Any]:
    content = read_mapping(path, f"--config {path}", "option names", "suite: demo")
    for key in content:
        if key not in ConfigFile.model_fields:
            hint = did_you_mean(str(key), ConfigFile.model_fields)
            raise UserError(f"--config {path}: unknown option {key!r}{hint}")
    try:
        return ConfigFile.model_validate(content).model_dump(exclude_none=True)
    except ValidationError as error:
        raise UserError(one_line(error, f"--config {path}")) from error
    except UnicodeEncodeError as error:  # half of a surrogate pair as a key
        raise UserError(f"--config {path}: {on_one_line(error)}") from error


def _strings(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        field, equals, value = (part.strip() for part in text.partition("="))
        if not (field and equals and value):
            raise UserError(f"--set {text!r}: write FIELD=VALUE")
        if "=" in value:
            raise UserError(f"--set {text!r}: repeat --set for each field")
        if pairs.get(field, value) != value:
            raise UserError(f"--set {field} is given as {pairs[field]} and as {value}; keep one")
        pairs[field] = value
    return pairs


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        seeds = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise UserError(f"--seeds {text!r}: write whole numbers, as in 0,1,2")
    return seeds


def _fractions(text: str | None, protocol: Mapping[str, Any]) -> tuple[str, ...] | None:
    if text is None:
        return None
    if "fraction" in protocol:
        raise UserError("--fraction and --set fraction=... are the same option; keep one")
    # Whether they are numbers of the right range is for the protocol to say.
    fractions = tuple(part.strip() for part in text.split(",") if part.strip())
    if not fractions:
        raise UserError(f"--fraction {text!r}: write shares in (0, 1], as in 0.1,0.25,1")
    return fractions


def _results(where: str, used: bool) -> Path:
    """The results folder; that of a URL shows what is there now, unless it is not used."""
    if not is_url(where):
        return _no_file("results", where)
    from benchmark.results import remote

    return remote.located(where) if used else remote.mirror(where)


def _data(where: str | Path) -> Path | None:
    """The data root; of a URL its mirror, where `catalogue.open_set` puts what a set needs."""
    return at_url.located(where) if is_url(where) else _no_file("data", where)


def _no_file(name: str, text: str | Path) -> Path:
    """A folder, which need not exist yet."""
    path = Path(text)
    if path.is_file():
        raise UserError(f"--{name} {path}: is a file; name a folder")
    return path


def _folder(path: Path) -> Path:
    if path.is_file():
        raise UserError(f"--weights {path}: is a file; name the folder that holds it")
    if not path.is_dir():
        raise UserError(f"--weights {path}: no such folder; name one, or none for random weights")
    return path
