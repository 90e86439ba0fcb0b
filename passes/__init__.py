if __name__ != "fcc.passes":
    raise ImportError("this folder is the package fcc.passes: import it by that name")
