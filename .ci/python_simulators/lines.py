"""A simulator of one line for each row; row 7 crashes."""
import json, sys
import numpy as np

for line in sys.stdin:
    request = json.loads(line)
    rng = np.random.default_rng(request["seed"])
    x = rng.normal(request["theta"], 0.1)
    if request["row"] == 7:
        raise ValueError("row 7")
    print(json.dumps({"row": request["row"], "x": x.tolist()}), flush=True)
