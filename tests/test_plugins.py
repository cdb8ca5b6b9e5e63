"""Plugins: found by entry point, kept from breaking each other, listed with cause and remedy."""

import os
import shutil
import subprocess
import sys
import textwrap
from types import ModuleType

import pytest

import wyrm
from wyrm import plugins
from wyrm.__main__ import _table
from wyrm.backend import CONTRACT_VERSION, Capabilities, Declaration, Exemption
from wyrm.hookspecs import hookimpl
from wyrm.reference import ReferenceBackend


def plugin(**options):
    """A module with a hook that declares a backend."""
    declared = {"name": "made_up", "load": ReferenceBackend, "contract": (CONTRACT_VERSION,) * 2, **options}
    return module(lambda: Declaration(**declared))


def module(hook=None):
    """A module with this hook."""
    result = ModuleType("made_up")
    if hook is not None:
        result.wyrm_backend = hookimpl(hook)
    return result


def status_of(name):
    return next(status for status in wyrm.backends() if status.name == name)


def test_built_in_and_installed_backends_are_declared_not_loaded():
    code = """
        import sys, wyrm
        names = [b.name for b in wyrm.backends()]
        assert "reference" in names, names
        assert all(b.state == "declared" for b in wyrm.backends()), wyrm.backends()
        heavy = {"numba", "llvmlite", "cffi", "_cffi_backend", "wyrm_c_simd._native", "tqdm"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_registered_backend_works(registry):
    status = plugins.register(plugin(version="3.1", priority=99))
    assert (status.name, status.state, status.version) == ("made_up", "declared", "3.1")
    assert wyrm.backends()[0].name == "made_up"
    assert wyrm.get_backend().name == "made_up"
    assert status_of("made_up").state == "loaded"
    x = wyrm.InputNode((1, 1), 3.0)
    y = x * 2.0
    y.forward()
    assert (y.value, y._workspace.binding.backend.name) == (6, "made_up")


@pytest.mark.parametrize(
    ("broken", "cause", "remedy"),
    [
        (plugin(contract=(7, 9)), f"contract 7 to 9; this Wyrm has {CONTRACT_VERSION}", "upgrade wyrm-autodiff"),
        (plugin(contract=(0, 0)), f"contract 0 to 0; this Wyrm has {CONTRACT_VERSION}", "upgrade made_up"),
        (plugin(name="reference"), "'reference' is already taken by wyrm-autodiff", "uninstall one of"),
        (module(lambda: 1 / 0), "hook failed: ZeroDivisionError", "mend the plugin"),
        (module(lambda: "a string"), "returned str, not a wyrm.backend.Declaration", "mend"),
        (module(), "returned nothing", "mend the plugin"),
        (module(lambda: sys.exit(3)), "hook failed: it called sys.exit(3)", "mend the plugin"),
        (module(lambda surplus: 1), "hook failed: PluginValidationError", "mend the plugin"),
    ],
    ids=[
        "newer",
        "older",
        "taken",
        "raises",
        "wrong type",
        "no hook",
        "exits",
        "wrong arguments",
    ],
)
def test_broken_declarations(registry, broken, cause, remedy):
    status = plugins.register(broken, "made_up")
    assert status.state == "broken"
    assert cause in status.cause
    assert remedy in status.remedy
    assert status in wyrm.backends()
    assert wyrm.get_backend("reference").name == "reference"
    if status.name == "made_up":
        with pytest.raises(wyrm.BackendError, match="'made_up' is broken"):
            wyrm.get_backend("made_up")


#: Fields of declarations that are no good, and what is said of them.
INVALID = [
    ({"name": ""}, "expected name to be a name without blanks, got ''"),
    ({"name": None}, "expected name to be a name without blanks, got None"),
    ({"name": "my backend"}, "expected name to be a name without blanks, got 'my backend'"),
    ({"load": "later"}, "expected load to be a function, got 'later'"),
    ({"contract": 1}, "expected contract to be the first and the last version, two whole numbers in a tuple, got 1"),
    ({"contract": ("1", "1")}, "two whole numbers in a tuple, got ('1', '1')"),
    ({"contract": (2, 1)}, "two whole numbers in a tuple, got (2, 1)"),
    ({"contract": (True, 2)}, "two whole numbers in a tuple, got (True, 2)"),
    ({"version": 1}, "expected version to be a string, got 1"),
    ({"priority": "high"}, "expected priority to be a whole number, got 'high'"),
    ({"priority": float("nan")}, "expected priority to be a whole number, got nan"),
    ({"capabilities": {"float32"}}, "expected capabilities to be wyrm.backend.Capabilities, got {'float32'}"),
    ({"capabilities": Capabilities(dtypes="float32")}, "dtypes of its capabilities to be a frozenset of names, got 'float32'"),
    (
        {"capabilities": Capabilities(dtypes={"float16"})},
        "dtypes of its capabilities to be among float32, float64, got 'float16'",
    ),
    ({"capabilities": Capabilities(schedules={"hogwilde"})}, "to be among hogwild, synchronized, got 'hogwilde'"),
    ({"capabilities": Capabilities(schedules=None)}, "schedules of its capabilities to be a frozenset of names, got None"),
    ({"capabilities": Capabilities(kernels={"sofmax"})}, "to be among fused, logsumexp, lookup"),
    ({"capabilities": Capabilities(kernels={"add"})}, "to be optional ones; 'add' is required, and not declared"),
    ({"capabilities": Capabilities(releases_gil="yes")}, "releases_gil of its capabilities to be True or False, got 'yes'"),
    ({"variants": {"avx": None}}, "expected variants to be a mapping from names to environments"),
    ({"exemptions": {"kernels/exp": "rough"}}, "expected exemptions to be a mapping from checks to wyrm.backend.Exemption"),
    ({"exemptions": {"kernels/exp": Exemption("rough", -1)}}, "of a factor above 0 or None, got {'kernels/exp'"),
]


@pytest.mark.parametrize(
    ("field", "cause"), INVALID, ids=[f"{number} {next(iter(of))}" for number, (of, _) in enumerate(INVALID)]
)
def test_declarations_that_are_not_valid(registry, field, cause):
    """Each is refused by itself, by its package's name, and what is listed and chosen is as it was."""
    others = wyrm.backends()
    status = plugins.register(plugin(**field), "somebodys")
    assert status.state == "broken"
    assert status.cause.startswith("the declaration of somebodys is not valid: expected ")
    assert cause in status.cause
    assert [other for other in wyrm.backends() if other is not status] == others
    with pytest.raises(wyrm.BackendError, match="'somebodys' is broken: the declaration of somebodys is not valid"):
        wyrm.get_backend("somebodys")
    assert "somebodys is broken: the declaration of somebodys is not valid" in _table(wyrm.backends())


def test_a_declaration_that_cannot_be_read(registry):
    class Odd(Declaration):
        @property
        def version(self):
            raise RuntimeError("not today")

        @version.setter
        def version(self, version):
            pass

    odd = module(lambda: object.__new__(Odd))
    assert "the declaration of odd is not valid: " in plugins.register(odd, "odd").cause
    assert wyrm.get_backend("reference").name == "reference"


@pytest.mark.parametrize(
    ("load", "cause"),
    [
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda: "nothing", "TypeError: load.. returned str"),
        (lambda: sys.exit("bye"), "it called sys.exit.'bye'."),
    ],
)
def test_backends_that_do_not_load(registry, load, cause):
    """Named, they are an error; taken by priority, the next one takes their place, with a warning."""
    plugins.register(plugin(load=load, priority=1000))
    with pytest.warns(RuntimeWarning, match=f"'made_up' is broken: loading it failed: {cause}.*next backend by priority"):
        assert wyrm.get_backend().name != "made_up"
    assert status_of("made_up").state == "broken"
    with pytest.raises(wyrm.BackendError, match=cause):
        wyrm.get_backend("made_up")
    assert wyrm.get_backend().name != "made_up"  # known by now: no further warning


def test_unknown_backends_name_those_that_there_are():
    with pytest.raises(wyrm.UnknownBackendError, match="no backend 'nope'; installed are .*'reference'.*python -m wyrm"):
        wyrm.get_backend("nope")


DECLARING = """
from wyrm.backend import CONTRACT_VERSION, Declaration
from wyrm.hookspecs import hookimpl
from wyrm.reference import ReferenceBackend
{before}

@hookimpl
def wyrm_backend():
    contract = (CONTRACT_VERSION, CONTRACT_VERSION)
    return Declaration(**{{"name": "{name}", "load": ReferenceBackend, "contract": contract, "priority": -1, {options}}})
"""


def declaring(name, options="", before=""):
    return DECLARING.format(name=name, options=options, before=before)


IMPORTING = "from wyrm.backend import Capabilities"

#: Packages that are broken in their own way: the source, what is listed as the cause, and what to do.
BROKEN_PACKAGES = {
    "import_error": ("raise ImportError('no such library')", "importing import_error failed: ImportError: no such library"),
    "syntax_error": ("def (", "importing syntax_error failed: SyntaxError"),
    "exits": ("import sys; sys.exit()", "importing exits failed: it called sys.exit()"),
    "interrupts": ("raise KeyboardInterrupt", "importing interrupts failed: it raised KeyboardInterrupt"),
    "exiting": (declaring("exiting", "'load': __import__('sys').exit(7)"), "hook failed: it called sys.exit(7)"),
    "too_new": (
        declaring("too_new", "'contract': (7, 9)"),
        f"built for backend contract 7 to 9; this Wyrm has {CONTRACT_VERSION}",
    ),
    "mistyped": (
        declaring("mistyped", "'capabilities': Capabilities(schedules=frozenset({'hogwilde'}))", IMPORTING),
        "the declaration of mistyped 1.0 is not valid: expected schedules of its capabilities to be among hogwild",
    ),
    "taken": (declaring("reference"), "the name 'reference' is already taken by wyrm-autodiff"),
    "raising": (
        declaring("raising", "'load': 1 / 0"),
        "calling its wyrm_backend hook failed: ZeroDivisionError: division by zero",
    ),
}
#: Packages that look right until they are loaded and used.
BROKEN_WHEN_USED = {
    "hanging": (
        declaring("hanging", "'load': lambda: time.sleep(1000)", "import time"),
        "loading it and training for a step took more than 1 s",
    ),
    "lacking": (
        declaring(
            "lacking",
            "'load': Lacking",
            "class Lacking(ReferenceBackend):\n    kernels = {k: v for k, v in ReferenceBackend.kernels.items() if k != 'add'}",
        ),
        "backend 'lacking' lacks kernels that it must have: add",
    ),
    "wrong": (
        declaring(
            "wrong",
            "'load': Wrong",
            "class Wrong(ReferenceBackend):\n    kernels = {**ReferenceBackend.kernels, 'multiply': lambda a, b: a + b}",
        ),
        "backend 'wrong' trained the weight to",
    ),
    "quitting": (
        declaring("quitting", "'load': lambda: sys.exit(7)", "import sys"),
        "backend 'quitting' is broken: loading it failed: it called sys.exit(7)",
    ),
    "dying": (declaring("dying", "'load': lambda: os._exit(7)", "import os"), "exit status 7"),
}


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages, all of them broken in their own way."""
    for name, (source, _) in {**BROKEN_PACKAGES, **BROKEN_WHEN_USED}.items():
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[wyrm]\n{name} = {name}\n")
    return tmp_path


def with_site(site):
    """PYTHONPATH with a folder of packages."""
    return os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.slow
def test_broken_packages_are_listed_and_break_nothing(site):
    path = with_site(site)
    process = run("-m", "wyrm", "backends", PYTHONPATH=path)
    assert process.returncode == 1
    for name, (_, cause) in BROKEN_PACKAGES.items():
        line, remedy = process.stdout.split(f"\n{name} is broken: ")[1].splitlines()[:2]
        assert cause in line
        assert remedy.startswith("  what to do: ")
    assert "upgrade wyrm-autodiff" in process.stdout
    assert "uninstall one of" in process.stdout
    assert "reinstall it: pip install --force-reinstall import_error" in process.stdout
    assert "upgrade it, or uninstall it: pip uninstall exits" in process.stdout
    assert "declared" in process.stdout
    code = "import wyrm; x = wyrm.InputNode((1, 1), 2.0); print((x * 3.0).value)"
    assert run("-c", code, PYTHONPATH=path).stdout == "[[6.]]\n"


@pytest.mark.slow
def test_check_loads_each_in_a_process_of_its_own(site):
    shutil.rmtree(site / "hanging-1.0.dist-info")
    process = run("-m", "wyrm", "backends", "--check", "--timeout", "600", PYTHONPATH=with_site(site))
    assert process.returncode == 1
    working = [line.split()[0] for line in process.stdout.splitlines() if " working " in line]
    assert working == [status.name for status in wyrm.backends()]
    for name, (_, cause) in BROKEN_WHEN_USED.items():
        if name != "hanging":
            assert cause in process.stdout.split(f"\n{name} is broken: ")[1].splitlines()[0]


@pytest.mark.slow
def test_check_waits_no_longer_than_it_is_told(site):
    """Of a short time, in which no backend may be ready, the one that hangs says how long it had, and how to see more."""
    process = run("-m", "wyrm", "backends", "--check", "--timeout", "1", PYTHONPATH=with_site(site))
    assert process.returncode == 1
    cause, remedy = process.stdout.split("\nhanging is broken: ")[1].splitlines()[:2]
    assert BROKEN_WHEN_USED["hanging"][1] in cause
    assert "-m wyrm try hanging" in remedy


@pytest.mark.slow
def test_conformance_of_broken_packages(site):
    """The command says what is wrong, and does not show a traceback."""
    path = with_site(site)
    for name, cause in (("import_error", "no such library"), ("too_new", "contract 7 to 9")):
        process = run("-m", "wyrm_conformance", "--backend", name, PYTHONPATH=path)
        assert process.returncode == 2
        assert f"wyrm_conformance: backend '{name}' is broken: " in process.stderr
        assert cause in process.stderr
        assert "Traceback" not in process.stderr
    process = run("-m", "wyrm_conformance", "--backend", "lacking", "--select", "kernels/add", PYTHONPATH=path)
    assert process.returncode == 1
    assert "lacks kernels that it must have: add" in process.stdout


@pytest.mark.slow
def test_check_of_working_backends():
    process = run("-m", "wyrm", "backends", "--check")
    assert process.returncode == 0, process.stdout
    assert process.stdout.count(" working ") == len(wyrm.backends())


@pytest.mark.slow
def test_check_finds_what_loading_does_not(registry):
    """A backend that loads and computes nonsense."""
    process = run("-m", "wyrm", "try", "nope")
    assert process.returncode == 1
    assert "there is no backend 'nope'" in process.stderr


def test_a_backend_is_refused_what_it_does_not_declare(registry):
    plugins.register(plugin(capabilities=Capabilities(dtypes=frozenset({"float32"}), schedules=frozenset())))
    with wyrm.use_backend("made_up"):
        w = wyrm.ParameterNode(1.0, dtype="float64")
        y = w.square()
        with pytest.raises(wyrm.CapabilityError, match="'made_up' does not compute in float64; it declares float32"):
            y.forward()
        x, v = wyrm.InputNode((1, 1)), wyrm.ParameterNode(1.0)
        with pytest.raises(wyrm.CapabilityError, match="'made_up' does not declare the schedule 'hogwild'.*num_threads=2"):
            wyrm.fit(x * v, {x: [1.0, 2.0]}, wyrm.optim.SGD(0.1, [v]), num_threads=2)
        wyrm.fit(x * v, {x: [1.0]}, wyrm.optim.SGD(0.1, [v]))


def test_optional_kernels_that_are_not_declared_are_expanded(registry):
    plugins.register(plugin())
    a, b = wyrm.ParameterNode([[1.0, 2.0]]), wyrm.ParameterNode([[3.0, 4.0]])
    y = a.vector_dot(b)
    y.forward(backend="made_up")
    assert y.value == 11
    assert [i.kernel for i in y._workspace.binding.program.forward] == ["multiply", "sum"]


def test_kernels_that_are_missing_are_named(registry):
    class Partial(ReferenceBackend):
        kernels = {name: kernel for name, kernel in ReferenceBackend.kernels.items() if name not in ("add", "sum")}

    plugins.register(plugin(load=Partial))
    with pytest.raises(wyrm.BackendError, match="'made_up' lacks kernels that it must have: add, sum"):
        wyrm.InputNode((1, 1), 1.0).square().forward(backend="made_up")


def test_every_hook_is_documented():
    """Each hook of the specification stands in the guide, with its exact arguments."""
    import inspect
    from pathlib import Path

    from wyrm import hookspecs

    guide = (Path(__file__).parent.parent / "README.md").read_text()
    hooks = [name for name in vars(hookspecs) if name.startswith("wyrm_")]
    assert hooks
    for name in hooks:
        arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
        assert f"def {name}({arguments})" in guide
