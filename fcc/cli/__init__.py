"""The command line: parsing and printing around fcc.compile; heavy libraries load when a command needs them."""
