"""Write the expected part of every golden file anew."""

import orjson

from tests.golden.life import FILES, live, read

for path in FILES:
    told = read(path)
    told["published"] = live(told)
    path.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    print(path.name)
