"""Variations of sizes, element types and the contents of constants."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, TensorProto, numpy_helper

from fcc.runtime.protos import FLOATS, declared, dims, nodes, retype

from .draft import Array, Draft

SIZES = (0, 1, 1, 2, 3, 5)
SPECIAL = (0.0, 1.0, -1.0, -0.0, 2.0, -3.0, 0.5, 1e-3, 1e3, np.nan, np.inf, -np.inf, 1e-40, 1e30, -1e9)
INTEGERS = (0, 1, -1, 2, 3, -2, 7, 2**31, -(2**40))


def one_size(d: Draft) -> bool:
    """Give every dimension of one size another one, in inputs, constants and the integers that hold it."""
    shapes = [dims(v) for v in d.inputs()] + [list(t.dims) for t in d.constants()]
    old = d.pick(sorted({s for shape in shapes for s in shape if isinstance(s, int)}))
    new = d.pick(SIZES)
    if old is None or new is None or new == old:
        return False
    d.loose = True
    integers = d.rng.random() < 0.7
    for v in declared(d.model):
        for dim in v.type.tensor_type.shape.dim:
            if dim.WhichOneof("value") == "dim_value" and dim.dim_value == old:
                dim.dim_value = new
    for t in d.constants():
        array = numpy_helper.to_array(t)
        if integers and array.dtype.kind == "i":
            array = np.where(array == old, np.asarray(new, array.dtype), array)
        d.put(t, _resized(array, tuple(new if s == old else s for s in array.shape)))
    return True


def one_dimension(d: Draft) -> bool:
    """Change one dimension of one input or constant: broadcasting, or nothing that is valid."""
    places = [(v, i) for v in d.inputs() for i in range(len(dims(v)))]
    places += [(t, i) for t in d.constants() for i in range(len(t.dims))]
    place, new = d.pick(places), d.pick(SIZES)
    if place is None or new is None:
        return False
    what, axis = place
    d.loose = True
    if isinstance(what, TensorProto):
        array = numpy_helper.to_array(what)
        shape = list(array.shape)
        shape[axis] = new
        d.put(what, _resized(array, tuple(shape)))
    else:
        what.type.tensor_type.shape.dim[axis].Clear()
        what.type.tensor_type.shape.dim[axis].dim_value = new
    return True


def rank(d: Draft) -> bool:
    """Add or drop a leading dimension of one input or constant."""
    what = d.pick([*d.inputs(), *d.constants("f")])
    if what is None:
        return False
    d.loose = True
    if isinstance(what, TensorProto):
        array = numpy_helper.to_array(what)
        if array.ndim and array.shape[0] == 1 and d.rng.random() < 0.5:
            d.put(what, array[0])
        else:
            d.put(what, array[None])
        return True
    shape = what.type.tensor_type.shape
    if shape.dim and d.rng.random() < 0.5:
        del shape.dim[0]
    else:
        shape.dim.insert(0, type(shape).Dimension(dim_value=d.pick((1, 1, 2)) or 1))
    return True


def symbol(d: Draft) -> bool:
    """Make the sizes of one dimension of the inputs a symbol (one of the inputs, or all that have the size)."""
    places = [(v, i) for v in d.inputs() for i, s in enumerate(dims(v)) if isinstance(s, int)]
    first = d.pick(places)
    if first is None:
        return False
    size = dims(first[0])[first[1]]
    name = d.fresh("S")
    for v, i in [p for p in places if dims(p[0])[p[1]] == size] if d.rng.random() < 0.5 else [first]:
        v.type.tensor_type.shape.dim[i].dim_param = name
    d.sizes[name] = int(size or 0)
    d.loose = True
    return True


def known(d: Draft) -> bool:
    """Make a symbol a size."""
    symbols = sorted({s for v in d.inputs() for s in dims(v) if isinstance(s, str)})
    name, size = d.pick(symbols), d.pick(SIZES)
    if name is None:
        return False
    d.loose = True
    for v in d.inputs():
        for dim in v.type.tensor_type.shape.dim:
            if dim.dim_param == name:
                dim.dim_value = size or 0
    return True


def unknown(d: Draft) -> bool:
    """Forget a dimension of an input, or its rank."""
    v = d.pick(d.inputs())
    if v is None:
        return False
    d.loose = True
    kind = v.type.tensor_type
    if kind.shape.dim and d.rng.random() < 0.5:
        axis = d.rng.randrange(len(kind.shape.dim))
        d.ranks[v.name] = [s if isinstance(s, int) else 2 for s in dims(v)]
        kind.shape.dim[axis].Clear()
    else:
        d.ranks[v.name] = [s if isinstance(s, int) else 2 for s in dims(v)]
        kind.ClearField("shape")
    return True


def element_type(d: Draft) -> bool:
    """Compute in another type: another float, integers instead of floats, other integers."""
    floats = (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16, TensorProto.FLOAT16, TensorProto.DOUBLE)
    kind, target = d.pick(("float", "float", "float", "integer", "index")), d.pick(floats)
    integer = d.pick((TensorProto.INT32, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8))
    other = d.pick((TensorProto.INT32, TensorProto.INT64, TensorProto.INT32))
    assert target is not None
    assert integer is not None
    assert other is not None
    indices = (TensorProto.INT64, TensorProto.INT32)
    change = {
        "float": lambda t: target if t in FLOATS else t,
        "integer": lambda t: integer if t in FLOATS else t,
        "index": lambda t: other if t in indices else t,
    }[str(kind)]
    d.loose = True
    retype(d.model, change)
    return True


def contents(d: Draft) -> bool:
    """Put special numbers into a constant: into one element, into all, or permute what it holds."""
    t = d.pick(d.constants())
    if t is None:
        return False
    array = np.array(numpy_helper.to_array(t))
    if array.size == 0:
        return False
    d.loose = d.loose or array.dtype.kind in "iu"
    how = d.rng.random()
    if how < 0.15:
        array = array.ravel()[::-1].reshape(array.shape)
    elif how < 0.35 and array.dtype.kind in "iu":
        array = array + np.asarray(d.pick((1, -1, 2))).astype(array.dtype)
    else:
        value = _special(array, d)
        if how < 0.6:
            array[...] = value
        elif how < 0.8 and array.ndim:
            array[tuple(slice(None) if i else d.rng.randrange(s) for i, s in enumerate(array.shape))] = value
        else:
            array.ravel()[d.rng.randrange(array.size)] = value
    d.put(t, array)
    return True


def _special(array: Array, d: Draft) -> Array:
    if array.dtype.kind == "b":
        return np.asarray(d.rng.random() < 0.5)
    numbers = INTEGERS if array.dtype.kind in "iu" else SPECIAL
    with np.errstate(all="ignore"):
        return np.asarray(d.pick(numbers)).astype(array.dtype)


def attribute_tensor(d: Draft) -> bool:
    """Change the number that a tensor attribute holds."""
    found = [a for n in nodes(d.model) for a in n.attribute if a.type == AttributeProto.TENSOR and a.t.data_type]
    a = d.pick(found)
    if a is None:
        return False
    array = np.array(numpy_helper.to_array(a.t))
    array[...] = _special(array, d)
    a.t.CopyFrom(numpy_helper.from_array(array, a.t.name))
    return True


def _resized(array: Array, shape: tuple[int, ...]) -> Array:
    if shape == array.shape:
        return array
    if array.size == 0:
        return np.zeros(shape, array.dtype)
    index = np.ix_(*(np.arange(n) % max(s, 1) for n, s in zip(shape, array.shape, strict=True)))
    return np.asarray(array[index]) if 0 not in shape else np.zeros(shape, array.dtype)
