"""The hostile cases as a table: name, what to build, exit codes that are right, words that the message has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import hostile_files as f
import hostile_models as m
import hostile_names as names
import numpy as np
from hostile_models import Build, ints, scalar, unfolds, writes

OPTIONS, LOAD, DATA, SAVE, TIME = 2, 3, 4, 7, 8


_SLOW = frozenset(
    {
        *("If 10^6 deep", "10^6 nodes", "10^6 nodes in a branch", "2 * 10^5 initializers", "2 * 10^4 outputs"),
        *("2000 functions in a row", "10^5 operands", "model of 1 GB of zeros", "samples are a zip bomb"),
        *("one sample of 4 GB", "header of 300 MB", "plan of 10^6 rows", "names of 1 MB", "missing name like 4000"),
        *("outer product of 64 GB", "types 10^5 deep", "model is /dev/stdin"),
    }
)


@dataclass(frozen=True)
class Case:
    """One case; ``writes`` are paths below the case that may change, ``env`` goes to the process."""

    name: str
    build: Build
    codes: tuple[int, ...] = (0,)
    says: str = ""
    words: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def slow(self) -> bool:
        """Whether it runs into its limits, or takes seconds to build: the suite leaves it to the script."""
        return any(w in self.words for w in ("--timeout", "--max-memory")) or self.name in _SLOW


def refused(name: str, build: Build, says: str, code: int = LOAD, *words: str) -> Case:
    return Case(name, build, (code,), says, words)


BOUNDED = ("--max-memory", "900MB", "--timeout", "20")
TERA = 1 << 40
X = np.ones((2, 2), np.float32)

EXTERNAL = (
    refused("data outside: ..", f.data_at("../outside/w.bin"), "outside"),
    refused("data outside: d/../..", f.data_at("d/../../outside/w.bin"), "outside"),
    refused("data at an absolute path", f.data_at("/etc/passwd"), "outside"),
    refused("data at an absolute path inside", f.data_at("{folder}/w.bin", f.small), "outside"),
    refused("data at C:", f.data_at("C:\\w.bin"), "outside"),
    refused("data at ..\\", f.data_at("..\\w.bin"), "outside"),
    refused("data named with NUL", f.data_at("w\0.bin"), "w"),
    refused("data named with escapes", f.data_at("w\x1b[2J\n.bin"), "does not exist"),
    refused("data name of 1 MB", f.data_at("w" * 10**6), "w"),
    refused("data without a name", f.data_at(""), "no file"),
    refused("data through a link", f.data_at("w.bin", f.linked), "outside"),
    refused("data in a linked folder", f.data_at("d/w.bin", f.folder_linked), "outside"),
    refused("data through a chain of links", f.data_at("w.bin", f.link_chain), "outside"),
    refused("data through a circle of links", f.data_at("w.bin", f.link_circle), "w.bin"),
    refused("data is a FIFO", f.data_at("w.bin", f.fifo), "w.bin"),
    refused("data is /dev/zero", f.data_at("w.bin", f.to_device("zero")), "outside"),
    refused("data is a folder", f.data_at("w.bin", f.a_folder), "w.bin"),
    refused("data is missing", f.data_at("w.bin"), "does not exist"),
    Case("data is the model itself", f.data_at("w.bin", f.the_model), (0, LOAD)),
    refused("offset negative", f.data_at("w.bin", f.small, offset="-8"), "w"),
    refused("offset beyond the end", f.data_at("w.bin", f.small, offset="64"), "too short"),
    refused("offset of 2^70", f.data_at("w.bin", f.small, offset=str(1 << 70)), "w"),
    refused("offset of 5000 digits", f.data_at("w.bin", f.small, offset="9" * 5000), "w"),
    refused("offset no number", f.data_at("w.bin", f.small, offset="0x10"), "w"),
    refused("length negative", f.data_at("w.bin", f.small, length="-16"), "w"),
    refused("length beyond the end", f.data_at("w.bin", f.small, length="1000"), "w"),
    refused("length too small", f.data_at("w.bin", f.small, length="8"), "needs"),
    Case("length left out", f.data_at("w.bin", f.small, length=None)),
    refused("size of petabytes", f.data_at("w.bin", f.small, length=None, dims=(1 << 50,)), "too short"),
    refused("size that wraps around", f.data_at("w.bin", f.small, length=None, dims=(1 << 32, 1 << 32)), "too short"),
    Case("weights that overlap", f.overlapping),
    Case("a terabyte of holes", f.data_at("w.bin", f.sparse_terabyte)),
    Case("20 GB in one MB", f.many_places, (0, LOAD, TIME), words=("--timeout", "25")),
)

SIZES = (
    refused("initializer of a petabyte", writes(m.petabytes_declared), "holds 0"),
    refused("initializer that wraps around", writes(m.overflowing_dims), "holds 0"),
    Case("input of a petabyte", writes(m.petabyte_input)),
    Case("Expand to terabytes", unfolds("Expand", scalar("w", 1.0), ints("s", TERA))),
    Case("Expand chain to terabytes", writes(m.nested_expands)),
    Case("ConstantOfShape of terabytes", unfolds("ConstantOfShape", ints("s", TERA))),
    Case("ConstantOfShape of 2^63", unfolds("ConstantOfShape", ints("s", 1 << 31, 1 << 31)), (0, LOAD)),
    Case("ConstantOfShape negative", unfolds("ConstantOfShape", ints("s", -5)), (0, LOAD)),
    Case("Tile to terabytes", unfolds("Tile", scalar("w", [1.0]), ints("n", TERA))),
    Case(
        "Range of terabytes", unfolds("Range", *(scalar(n, v, np.int64) for n, v in (("a", 0), ("b", TERA), ("c", 1))))
    ),
    Case(
        "Range with step 0", unfolds("Range", *(scalar(n, v, np.int64) for n, v in (("a", 0), ("b", TERA), ("c", 0))))
    ),
    Case("Range of floats", unfolds("Range", *(scalar(n, v) for n, v in (("a", 0), ("b", 1), ("c", 1e-12))))),
    Case("Pad to terabytes", unfolds("Pad", scalar("w", [1.0]), ints("p", 0, TERA))),
    refused("sparse initializer of 2 GB", writes(m.sparse_gigabytes), "when dense"),
    refused("100 sparse ones of 200 MB", writes(m.many_sparse), "when dense"),
    Case(
        "Resize to terabytes",
        unfolds("Resize", scalar("w", [[[[1.0]]]]), ints("s", 1, 1, 1 << 20, 1 << 20), inputs=["w", "", "", "s"]),
    ),
    Case(
        "OneHot of terabytes", unfolds("OneHot", ints("i", 0, 1), scalar("d", TERA, np.int64), scalar("v", [0.0, 1.0]))
    ),
    Case("EyeLike of terabytes", unfolds("RandomNormal", shape=[TERA])),
    Case("Concat chain to terabytes", writes(m.expand_chain)),
    Case("outer sums to petabytes", writes(m.outer_sums)),
    Case("outer product of 64 GB", writes(m.outer_product)),
    Case("string tiled to 64 TB", writes(m.large_string), (0, TIME), words=BOUNDED),
    Case(
        "Upsample of terabytes",
        unfolds("ConvTranspose", scalar("w", [[[1.0, 1.0]]]), scalar("k", [[[1.0]]]), strides=[TERA]),
    ),
    Case("terabytes at run time", writes(m.runtime_unfolds)),
    Case("overridable size of terabytes", writes(m.overridable_size)),
    Case("Loop of 10^18 trips", writes(m.endless_loop), (TIME,), words=("--timeout", "10")),
    Case("Loop of 10^18 trips, constant", writes(m.endless_constant_loop), (TIME,), words=("--timeout", "10")),
    Case("Loop without end", writes(m.while_loop), (TIME,), words=("--timeout", "10")),
    Case(
        "Loop that doubles 60 times",
        writes(m.doubling_loop),
        (0, TIME),
        words=BOUNDED,
    ),
)

DEPTH = (
    Case("If 25 deep", m.deep(25)),
    refused("If 40 deep", m.deep(40), "m.onnx"),
    refused("If 1000 deep", m.deep(1000), "m.onnx"),
    refused("If 10^6 deep", m.deep(10**6), "m.onnx"),
    refused("types 90 deep", m.deep_type(90), "m.onnx"),
    refused("types 10^5 deep", m.deep_type(10**5), "m.onnx"),
    Case("2000 functions in a row", writes(m.deep_functions), (0, LOAD)),
    refused("2^40 nodes by functions", writes(m.billion_laughs), "nodes"),
    refused("functions in a circle", writes(m.calls_in_circle), "circle"),
    refused("a function that calls itself", writes(m.calls_itself), "circle"),
    refused("nodes in a circle", writes(m.nodes_in_circle), "cycle"),
)

AMOUNTS = (
    refused("10^6 nodes", m.many(10**6), "nodes"),
    refused("10^6 nodes in a branch", m.many_in_branches(10**6), "nodes"),
    refused("101 nodes, 100 allowed", m.many(101), "nodes", LOAD, "--max-nodes", "100"),
    Case("100 nodes, 100 allowed", m.many(100), words=("--max-nodes", "100")),
    Case("2 * 10^5 initializers", writes(m.many_initializers), (0, TIME), words=("--timeout", "20")),
    Case("10^5 operands", writes(m.many_inputs), (0, LOAD)),
    Case("2 * 10^4 outputs", writes(m.many_outputs), (0, TIME), words=("--timeout", "20")),
    refused("10^6 axes", writes(m.rank_million), "axes"),
    refused("10^5 axes of an input", writes(m.many_sizes), "axes"),
)

NAMES = (
    Case("names with escapes", writes(names.terminal_names), words=("-v", "--explain", "eliminate-identity")),
    Case("operator with escapes", writes(names.terminal_interface), words=("-v",)),
    Case("names that are paths", writes(names.path_names), words=("-v",)),
    Case("names of 1 MB", writes(names.megabyte_name), words=("-v",)),
    refused("missing name of 1 MB", writes(names.megabyte_name_missing), "nothing produces"),
    refused("missing name like 4000", writes(names.near_names), "nothing produces"),
    refused("value defined twice", writes(names.duplicate_values), "twice"),
    Case("initializer given twice", writes(names.duplicate_initializers)),
    refused("input listed twice", writes(names.duplicate_inputs), "twice"),
    Case("output listed twice", writes(names.duplicate_outputs), (0, LOAD)),
    Case("attribute given twice", writes(names.duplicate_attributes), (0, LOAD)),
    refused("function given twice", writes(names.duplicate_functions), "twice"),
    Case("opset given twice", writes(names.duplicate_imports), (0, LOAD)),
    Case("node names given twice", writes(names.duplicate_node_names), (0, LOAD)),
    refused("initializer that a node defines", writes(names.shadowed_by_initializer), "twice"),
)

MODELS = (
    refused("model is a folder", f.given(lambda p: p.mkdir()), "is a folder"),
    refused("model is empty", f.contents(lambda: b""), "is empty"),
    refused("model is text", f.contents(lambda: b"hello\n" * 1000), "not an ONNX model"),
    refused("model is gzip", f.contents(f.gzipped), "gzip"),
    refused("model is a zip", f.contents(lambda: f.npz(x=X)), "zip"),
    refused("model is a pickle", f.contents(lambda: f.pickle.dumps(f.Boom())), "pickle"),
    refused("model is missing", f.given(lambda p: None), "does not exist"),
    refused("model is a FIFO", f.given(os.mkfifo), "m.onnx"),
    refused("model is /dev/zero", f.link_to("/dev/zero"), "m.onnx"),
    refused("model is /dev/stdin", f.link_to("/dev/stdin"), "m.onnx"),
    refused("model is a link to itself", f.link_to("m.onnx"), "m.onnx"),
    refused("model of 1 GB of zeros", f.sparse(1 << 30), "m.onnx"),
    refused("model of 1 TB of zeros", f.sparse(1 << 40), "2 GiB"),
    refused("model of 0xff", f.contents(lambda: b"\xff" * 10**6), "not an ONNX model"),
    refused("model cut off", f.contents(lambda: f.GOOD.SerializeToString()[:-20]), "m.onnx"),
)

SAMPLES = (
    refused("samples are text", f.sampled(lambda: b"hello"), "s.npz", DATA),
    refused("samples are empty", f.sampled(lambda: b""), "s.npz", DATA),
    refused("samples are a pickle", f.sampled(lambda: f.pickle.dumps(f.Boom())), "s.npz", DATA),
    refused(
        "samples are a pickle in a zip", f.sampled(lambda: f.zipped("x.npy", f.pickle.dumps(f.Boom()))), "s.npz", DATA
    ),
    refused("samples are objects", f.sampled(f.object_array), "objects", DATA),
    refused("samples are a zip of text", f.sampled(lambda: f.zipped("readme.txt", b"hi")), "s.npz", DATA),
    Case("samples are a zip bomb", f.sampled(lambda: f.bomb(4096, (1 << 29, 2)))),
    refused("one sample of 4 GB", f.sampled(lambda: f.bomb(4096, (1, 1 << 30))), "s.npz", DATA),
    refused("samples of petabytes", f.sampled(lambda: f.zipped("x.npy", f.header((1 << 48, 2)))), "early", DATA),
    refused("one sample of petabytes", f.sampled(lambda: f.zipped("x.npy", f.header((1, 1 << 48)))), "s.npz", DATA),
    refused("negative samples", f.sampled(lambda: f.zipped("x.npy", f.header((-3, 2)))), "s.npz", DATA),
    refused("header of 300 MB", f.sampled(lambda: f.zipped("x.npy", f.header((2, 2), pad=300 << 20))), "s.npz", DATA),
    refused(
        "header of 4 GB declared",
        f.sampled(lambda: f.zipped("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{")),
        "s.npz",
        DATA,
    ),
    refused(
        "header with code", f.sampled(lambda: f.zipped("x.npy", f.header((2, 2), "__import__('os')"))), "s.npz", DATA
    ),
    refused(
        "header 10^5 deep",
        f.sampled(lambda: f.zipped("x.npy", b"\x93NUMPY\x01\x00\x00\x7f" + b"(" * 0x7F00)),
        "s.npz",
        DATA,
    ),
    refused("member named ../x", f.sampled(lambda: f.zipped("../../x.npy", f.header((1, 2)) + bytes(8))), "x", DATA),
    refused(
        "samples with escapes", f.sampled(lambda: f.zipped("x\x1b[2J\n.npy", f.header((1, 2)) + bytes(8))), "x", DATA
    ),
    refused("samples are a FIFO", f.samples_at(os.mkfifo), "s.npz", DATA),
    refused("samples are /dev/zero", f.samples_at(lambda p: p.symlink_to("/dev/zero")), "s.npz", DATA),
    refused("samples are missing", f.samples_at(lambda p: None), "does not exist", DATA),
    refused("one bad file among samples", f.one_bad("--data"), "1.npz", DATA),
    Case("one bad file, left out", f.one_bad("--calibration", "--skip-bad-data")),
)

OUTPUTS = (
    refused("output is the input", f.output("{folder}/m.onnx"), "the input itself", SAVE),
    refused(
        "output is a link to the input",
        f.output("{folder}/l", lambda d: (d / "l").symlink_to("m.onnx")),
        "the input itself",
        SAVE,
    ),
    refused(
        "output is a hard link of it",
        f.output("{folder}/l", lambda d: (d / "l").hardlink_to(d / "m.onnx")),
        "the input itself",
        SAVE,
    ),
    refused("output is a folder", f.output("{folder}"), "folder", SAVE),
    refused("output is a device", f.output("/dev/null"), "no regular file", SAVE),
    refused(
        "output links to a device",
        f.output("{folder}/l", lambda d: (d / "l").symlink_to("/dev/full")),
        "no regular file",
        SAVE,
    ),
    refused("output is a FIFO", f.output("{folder}/p", lambda d: os.mkfifo(d / "p")), "no regular file", SAVE),
    refused("output links to itself", f.output("{folder}/l", lambda d: (d / "l").symlink_to("l")), "l", SAVE),
    refused("output in no folder", f.output("{folder}/no/out.onnx"), "does not exist", SAVE),
    refused("output below a file", f.output("{folder}/m.onnx/out.onnx"), "does not exist", SAVE),
    refused("output name of 300 bytes", f.output("{folder}/" + "o" * 300), "too long", SAVE),
    Case("output of an odd name", f.output("{folder}/o\ufffe\x1b[2J"), writes=("work/o\ufffe\x1b[2J",)),
    Case(
        "output through a link",
        f.output("{folder}/l", lambda d: (d / "l").symlink_to("real.onnx")),
        writes=("work/real.onnx",),
    ),
    refused("report over the model", f.report_over_model, "overwrite", OPTIONS),
    refused("plan over the model", f.plan_over_model, "overwrite", OPTIONS),
)

JSON = (
    refused("plan 10^6 deep", f.option("--from-plan", lambda: f.deep_json(10**6)), "given.json", OPTIONS),
    refused("plan 900 deep", f.option("--from-plan", lambda: f.deep_json(900)), "given.json", OPTIONS),
    Case("plan of 10^6 rows", f.option("--from-plan", lambda: f.wide_json(10**6))),
    refused("plan of 1 GB", f.option_at("--from-plan", lambda p: f.write_sparse(p, 1 << 30)), "given", OPTIONS),
    refused("plan is a FIFO", f.option_at("--from-plan", os.mkfifo), "given", OPTIONS),
    refused("plan is /dev/zero", f.option_at("--from-plan", lambda p: p.symlink_to("/dev/zero")), "given", OPTIONS),
    refused(
        "plan of wrong kinds",
        f.option("--from-plan", lambda: b'{"schema": 1, "target": "cpu", "skip": [], "choices": [1]}'),
        "given",
        OPTIONS,
    ),
    refused(
        "plan with lists for names",
        f.option(
            "--from-plan",
            lambda: b'{"schema": 1, "target": "cpu", "skip": [{"pass_name": [], "site": {}}], "choices": []}',
        ),
        "given",
        OPTIONS,
    ),
    refused("plan of odd decisions", f.option("--from-plan", lambda: f.ODD_PLAN), "lossy", OPTIONS),
    refused(
        "plan of a number of 5000 digits",
        f.option("--from-plan", lambda: b'{"schema": ' + b"9" * 5000 + b"}"),
        "given",
        OPTIONS,
    ),
    refused("plan that is a folder", f.option_at("--from-plan", lambda p: p.mkdir()), "given", OPTIONS),
    refused("table 10^6 deep", f.option("--table", lambda: f.deep_json(10**6)), "given.json", DATA),
    refused("table of 1 GB", f.option_at("--table", lambda p: f.write_sparse(p, 1 << 30)), "given", DATA),
    refused("table is a FIFO", f.option_at("--table", os.mkfifo), "given", DATA),
    refused("table is /dev/zero", f.option_at("--table", lambda p: p.symlink_to("/dev/zero")), "given", DATA),
)

CASES: tuple[Case, ...] = (*EXTERNAL, *SIZES, *DEPTH, *AMOUNTS, *NAMES, *MODELS, *SAMPLES, *OUTPUTS, *JSON)
