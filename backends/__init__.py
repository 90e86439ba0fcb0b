if __name__ != "fcc.backends":
    raise ImportError("this folder is the package fcc.backends: import it by that name")
