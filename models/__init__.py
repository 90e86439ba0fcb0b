if __name__ != "fcc.models":
    raise ImportError("this folder is the package fcc.models: import it by that name")
