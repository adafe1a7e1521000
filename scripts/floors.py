#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds every #include against the links of the CMake targets: scripts/floors.py [--table | --write-docs] [ROOT]

A floor is a target: nas_library(...) or a program, in the order in which the CMakeLists.txt define them. A room is a
header and the sources of one name in one folder. Found and told, each with file and line (exit code 1):
  link     an include of a header whose target is not among what the includer's target links (PUBLIC links are handed on)
  up       an include from a target that is defined later, or from a later top-level folder
           (nas/report, nas/jobs and nas/cli alone may look up to other top-level folders)
  circle   rooms, or folders, that include one another in a circle
  torch    an include of LibTorch in a target that does not link it
  unused   a link to a target of which no header is included
  twice    a type of one name in two headers: a program that has both mixes them up, and no linker tells
  nobody   a source that no target builds; a header that no target can hold
  words    a library without a comment above nas_library(...) that says what it holds
  docs     the table in docs/architecture.md is not the one that --table prints (--write-docs mends it)
"""
import re
import sys
from pathlib import Path

LOOK_UP = ("nas/report", "nas/dashboard", "nas/jobs", "nas/cli")
TORCH = re.compile(r"(torch|ATen|c10|caffe2)/")
HEADERS, SOURCES = {".h", ".cuh"}, {".cpp", ".cu"}
# A source may ask the table whose rows are about its room: a node asks the row of its operation, a stage, its budget and
# its recipe ask the row of their kind. Such an include makes no circle.
ASKS = {"nas/network/graph": {"nas/network/operations"},
        "nas/search/stage": {"nas/search/strategy_kind"},
        "nas/search/budget": {"nas/search/strategy_kind"},
        "nas/search/recipe": {"nas/search/strategy_kind", "nas/search/random_search"}}
NOT_ROOMS = ("tests", "build", "docs", "scripts", "cmake")
DOCS = "docs/architecture.md"
BEGIN, END = "<!-- floors: scripts/floors.py --write-docs -->", "<!-- floors end -->"


class Target:
    def __init__(self, name, folder, command, torch, words):
        self.name, self.folder, self.torch, self.words = name, folder, torch, words
        self.library, self.program = command == "nas_library", command == "add_executable"
        self.sources, self.public, self.private = [], [], []

    def links(self):
        return self.public + self.private


def commands(text):
    """Commands of a CMakeLists.txt as (name, arguments, comment lines directly above)."""
    comment, at, after = [], 0, -1
    token = re.compile(r"[ \t]*#([^\n]*)\n?|\s*\n|[ \t]+|(\w+)\s*\(", re.M)
    while match := token.match(text, at):
        at = match.end()
        if match.group(1) is not None:
            if match.start() != after and not match.group(1).strip().startswith("--"):  # not behind a command
                comment.append(match.group(1).strip())
        elif match.group(2):
            depth, begin, quoted = 1, at, False
            while depth and at < len(text):
                c = text[at]
                if c == '"':
                    quoted = not quoted
                elif not quoted and c == "#":
                    at = text.find("\n", at)
                elif not quoted:
                    depth += (c == "(") - (c == ")")
                at += 1
            inside = re.sub(r"#[^\n]*", "", text[begin : at - 1])
            after = at
            yield match.group(2).lower(), re.findall(r'"[^"]*"|[^\s"]+', inside), comment
            comment = comment if match.group(2) == "if" else []  # an if() may stand between
        elif match.group(0).count("\n") > 1:
            comment = []  # an empty line parts a comment from what follows
    if at < len(text):
        sys.exit(f"floors: could not read CMake at: {text[at:at + 60]!r}")


class House:
    """The targets in the order of their definition; branches of if() are all taken."""

    def __init__(self, root):
        self.root, self.targets, self.order = root, {}, []
        self.variables, self.functions, self.heading = {}, {}, []
        self.read("")
        self.owner = {}  # file -> target
        for target in self.targets.values():
            for source in target.sources:
                self.owner.setdefault(source, target)

    def expand(self, words):
        out = []
        for word in words:
            if whole := re.fullmatch(r"\$\{(\w+)\}", word):
                out += self.variables.get(whole.group(1), [])
            else:
                value = lambda m: ";".join(self.variables.get(m.group(1), [m.group(0)]))
                out.append(re.sub(r"\$\{(\w+)\}", value, word.strip('"')))
        return out

    def read(self, folder):
        self.order.append(folder)
        self.heading = []
        self.run(folder, list(commands((self.root / folder / "CMakeLists.txt").read_text())))

    def run(self, folder, listed):
        body = None  # of the function that is being defined
        for name, words, comment in listed:
            self.heading = self.heading or comment
            if name == "function":
                body = self.functions[words[0].lower()] = (words[1:], [])
            elif name == "endfunction":
                body = None
            elif body:
                body[1].append((name, words, comment))
            elif name in self.functions:
                parameters, inner = self.functions[name]
                given = self.expand(words)
                self.variables |= {p: [g] for p, g in zip(parameters, given)} | {"ARGN": given[len(parameters):]}
                self.run(folder, inner)
            elif name == "add_subdirectory":
                inner = str(Path(folder, words[0]))
                if inner.split("/")[0] not in NOT_ROOMS:
                    heading, self.heading = self.heading, []
                    self.read(inner)
                    self.heading = heading
            elif name == "cmake_parse_arguments":
                keys = [key for part in words[1:4] for key in part.strip('"').split(";") if key]
                key, values = None, {key: [] for key in keys}
                for word in self.expand(words[4:]):
                    if word in keys:
                        key = word
                    elif key:
                        values[key].append(word)
                self.variables |= {f"{words[0]}_{key}": value for key, value in values.items()}
            elif name == "set":
                self.variables[words[0]] = self.expand(words[1:])
            elif name == "list" and words[0] == "APPEND":
                self.variables.setdefault(words[1], []).extend(self.expand(words[2:]))
            elif name == "list" and words[0] == "TRANSFORM" and words[2] == "APPEND":
                self.variables[words[1]] = [one + words[3] for one in self.variables.get(words[1], [])]
            else:
                self.define(folder, name, self.expand(words), comment)

    def define(self, folder, name, words, comment):
        if name in ("nas_library", "add_library", "add_executable") and "ALIAS" not in words:
            words_for_people = comment or (self.heading if name == "add_executable" else [])
            target = Target(words[0], folder, name, "TORCH" in words, first_sentence(" ".join(words_for_people)))
            self.targets[words[0]] = target
            self.put(target, words[1:], "SOURCES")
        elif name in ("target_sources", "target_link_libraries") and words[0] in self.targets:
            self.put(self.targets[words[0]], words[1:], "SOURCES" if name == "target_sources" else "PRIVATE")

    def put(self, target, words, part):
        for word in words:
            if word in ("STATIC", "SHARED", "OBJECT", "MODULE", "INTERFACE", "TORCH", "EXCLUDE_FROM_ALL"):
                continue
            if word in ("SOURCES", "PUBLIC", "PRIVATE"):
                # Keywords of target_sources() say who sees a source, not that a link follows.
                part = part if part == "SOURCES" and target.sources and not target.library else word
                continue
            path = normal(Path(target.folder, word))
            if Path(word).suffix in SOURCES | HEADERS:
                if (self.root / path).exists():
                    target.sources.append(path)
            elif part in ("PUBLIC", "PRIVATE"):
                (target.public if part == "PUBLIC" else target.private).append(word)

    def visible(self, target):
        """The targets whose headers `target` may include."""
        seen, todo = {target.name}, list(target.links())
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self.targets[name].public if name in self.targets else []
        return seen

    def has_torch(self, target):
        return target.torch or "nas_torch" in self.visible(target)


def first_sentence(text):
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0].removesuffix(".")


def normal(path):
    parts = []
    for part in Path(path).parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def includes(root, file):
    """(line, included text) of a file, in order."""
    for number, line in enumerate((root / file).read_text().splitlines(), 1):
        if match := re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line):
            yield number, match.group(1)


def types(root, file):
    """(line, namespace and name) of the classes that a header defines outside of others."""
    spaces = []
    for number, line in enumerate((root / file).read_text().splitlines(), 1):
        if match := re.match(r"namespace ([\w:]+) \{", line):
            spaces.append(match.group(1))
        elif line.startswith("}  // namespace") and spaces:
            spaces.pop()
        elif match := re.match(r"(?:struct|class|enum class) (\w+)(?: final)?(?: : .*)? ?\{|"
                               r"(?:struct|class) (\w+)(?: final)? : [^;]*$", line):
            yield number, "::".join([*spaces, match.group(1) or match.group(2)])


def circles(graph):
    """Strongly connected components of more than one node (Tarjan), each sorted."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = []
            while not component or component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    sys.setrecursionlimit(10000)
    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


def check(house, root):
    found = []
    files = sorted(str(p.relative_to(root)) for top in {f.split("/")[0] for f in house.order if f}
                   for p in (root / top).rglob("*") if p.suffix in HEADERS | SOURCES)
    known = set(files)
    tops, defined = [], {name: i for i, name in enumerate(house.targets)}
    for folder in house.order:
        if folder and folder.split("/")[0] not in tops:
            tops.append(folder.split("/")[0])
    includes_of = {file: [(line, text if text in known else normal(Path(file).parent / text))
                          for line, text in includes(root, file)] for file in files}
    raw = {file: list(includes(root, file)) for file in files}

    # Whose is a header? Its source's target; else the lowest of the nearest folder that sees all that it includes.
    folders = {}
    for target in house.targets.values():
        if target.library or target.sources:  # not a library of generated sources alone
            folders.setdefault(target.folder, []).append(target)
    rooms = {}
    for source, target in house.owner.items():
        rooms.setdefault(str(Path(source).with_suffix("")), target)
    pending = []
    for file in files:
        room = str(Path(file).with_suffix(""))
        if file in house.owner:
            continue
        if Path(file).suffix in SOURCES:
            found.append(f"{file}: nobody: no target builds it")
        elif room in rooms:
            house.owner[file] = rooms[room]
        else:
            pending.append(file)

    def home(file):
        folder = Path(file).parent
        while str(folder) != "." and str(folder) not in folders:
            folder = folder.parent
        return folders.get(str(folder), [])

    for _ in range(len(pending) + 1):  # a header without source may include another
        for file in list(pending):
            inner = [i for _, i in includes_of[file] if i in known]
            if any(i in pending for i in inner):
                continue
            for target in sorted(home(file), key=lambda t: (t.program, defined[t.name])):
                sees = house.visible(target)
                torch = any(TORCH.match(text) for _, text in raw[file])
                if all(house.owner[i].name in sees for i in inner if i in house.owner) and \
                        (house.has_torch(target) or not torch):
                    house.owner[file] = target
                    break
            pending.remove(file)
    for file in files:
        if Path(file).suffix in HEADERS and file not in house.owner:
            candidates = home(file)
            if candidates:
                house.owner[file] = candidates[0]
            else:
                found.append(f"{file}: nobody: no target can hold it")

    used = {name: set() for name in house.targets}
    room_graph, folder_graph = {}, {}
    for file in files:
        mine = house.owner.get(file)
        if mine is None:
            continue
        sees = house.visible(mine)
        for (line, other), (_, text) in zip(includes_of[file], raw[file]):
            where = f"{file}:{line}"
            if TORCH.match(text) and not house.has_torch(mine):
                found.append(f"{where}: torch: {mine.name} does not link LibTorch, found <{text}>")
            theirs = house.owner.get(other)
            if other not in known or theirs is None:
                continue
            used[mine.name].add(theirs.name)
            if theirs.name not in sees:
                found.append(f"{where}: link: {other} belongs to {theirs.name}, which {mine.name} does not link")
            if defined[theirs.name] > defined[mine.name]:
                found.append(f"{where}: up: {other} belongs to {theirs.name}, which is defined after {mine.name}")
            top, other_top = file.split("/")[0], other.split("/")[0]
            if tops.index(other_top) > tops.index(top) and not file.startswith(tuple(f + "/" for f in LOOK_UP)):
                found.append(f"{where}: up: {top}/ lies below {other_top}/; only {', '.join(LOOK_UP)} may look up")
            room, other_room = (str(Path(f).with_suffix("")) for f in (file, other))
            asked = Path(file).suffix in SOURCES and other_room in ASKS.get(room, ())
            if room != other_room and not asked:
                room_graph.setdefault(room, set()).add(other_room)
            if home(file) and home(other) and (a := home(file)[0].folder) != (b := home(other)[0].folder):
                folder_graph.setdefault(a, set()).add(b)
    defined_in = {}
    for file in files:
        for line, name in types(root, file) if Path(file).suffix in HEADERS else ():
            if name in defined_in:
                found.append(f"{file}:{line}: twice: {name} is also in {defined_in[name]}")
            defined_in.setdefault(name, file)
    for what, graph in (("rooms", room_graph), ("folders", folder_graph)):
        for ring in circles(graph):
            found.append(f"circle: {what} that include one another: {', '.join(ring)}")
    for target in house.targets.values():
        for link in target.links():
            other = house.targets.get(link)
            if other and other.sources and link not in used[target.name]:
                found.append(f"{target.folder}/CMakeLists.txt: unused: {target.name} links {link} and includes nothing of it")
        if target.library and not target.words:
            found.append(f"{target.folder}/CMakeLists.txt: words: no comment above nas_library({target.name}) says what it holds")
    return found


def table(house):
    """Markdown, lowest floor first; programs of one folder share a row."""
    rows, programs = [], {}
    for target in house.targets.values():
        links = [n for n in target.links() if n in house.targets and house.targets[n].sources]
        if target.program:
            names, all_links, words, torch = programs.setdefault(target.folder, ([], [], [], []))
            names.append(target.name)
            all_links += [n for n in links if n not in all_links]
            words += [target.words] if target.words and not words else []
            torch.append(house.has_torch(target))
        elif target.library:
            rows.append((f"`{target.name}`", target.folder, target.words, links, house.has_torch(target)))
    for folder, (names, links, words, torch) in programs.items():
        rows.append((", ".join(f"`{n}`" for n in names), folder, " ".join(words), links, any(torch)))
    out = ["| target | folder | holds | links | LibTorch |", "|---|---|---|---|---|"]
    for name, folder, words, links, torch in rows:
        out.append(f"| {name} | `{folder}` | {words.replace('|', '/')} | "
                   f"{', '.join(n.removeprefix('nas_') for n in links) or '-'} | {'yes' if torch else '-'} |")
    return "\n".join(out) + "\n"


def main():
    words = [w for w in sys.argv[1:] if not w.startswith("--")]
    options = [w for w in sys.argv[1:] if w.startswith("--")]
    if len(words) > 1 or len(options) > 1 or any(o not in ("--table", "--write-docs") for o in options):
        print(__doc__, file=sys.stderr)
        return 2
    root = Path(words[0] if words else Path(__file__).resolve().parent.parent).resolve()
    house = House(root)
    text = table(house)
    if "--table" in options:
        print(text, end="")
        return 0
    found = check(house, root)
    docs = root / DOCS
    page = docs.read_text() if docs.exists() else ""
    if BEGIN not in page or END not in page:
        found.append(f"{DOCS}: docs: expected the lines '{BEGIN}' and '{END}'")
    else:
        before, rest = page.split(BEGIN, 1)
        mended = f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END, 1)[1]}"
        if "--write-docs" in options:
            docs.write_text(mended)
        elif mended != page:
            found.append(f"{DOCS}: docs: the table of floors is not what scripts/floors.py --table prints; "
                         "scripts/floors.py --write-docs mends it")
    for line in found:
        print(f"floors: {line}", file=sys.stderr)
    libraries = sum(t.library for t in house.targets.values())
    print(f"floors: {libraries} floors, {len(house.owner)} files, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
