"""Writes an offline run with the real wandb, or reads a log with it.

    wandb_training.py train FOLDER ID    writes an offline run with rows at steps 0, 10, 20 and 40, the last with an image
    wandb_training.py read LOG           prints the number and kind of each record in a log
"""

import sys

if sys.argv[1] == "train":
    import numpy
    import wandb

    settings = wandb.Settings(console="off", disable_git=True, x_disable_stats=True)
    run = wandb.init(
        mode="offline", project="vision", id=sys.argv[3], dir=sys.argv[2], config={"lr": 0.1}, settings=settings
    )
    for step in (0, 10, 20):
        run.log({"loss": 1 / (step + 1), "nested": {"value": step}}, step=step)
    pixels = numpy.zeros((4, 4, 3), numpy.uint8)
    run.log({"theirs": wandb.Image(pixels, caption="their own")}, step=40)
    run.finish()
else:
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    log = DataStore()
    log.open_for_scan(sys.argv[2])
    while (data := log.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        print(record.num, record.WhichOneof("record_type"))
