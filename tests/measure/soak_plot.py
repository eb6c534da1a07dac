"""Draws the measurements of a soak test: `soak_plot.py soak.tsv soak.png`."""

import sys

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1100, 150, 90, 20, 24, 26
PLOTS = [
    ("process_resident_memory_bytes", "resident memory, MB"),
    ("process_open_fds", "open files"),
    ("process_threads", "threads"),
    ("watched_folders", "watched folders"),
    ("cpu", "CPU, % of a core"),
    ("lag_seconds", "lag, s"),
    ("items_in_flight", "items in flight"),
    ("index_bytes", "index, MB"),
    ("store_items", "items in the store"),
]


def main(table, picture):
    with open(table) as file:
        names, *rows = [line.rstrip("\n").split("\t") for line in file]
    columns = {name: [float(row[i]) for row in rows] for i, name in enumerate(names)}
    seconds, spent = columns["seconds"], columns["process_cpu_seconds_total"]
    columns["cpu"] = [0.0] + [
        # The counter of a new process begins at 0.
        100 * max(spent[i] - spent[i - 1], 0) / max(seconds[i] - seconds[i - 1], 0.1)
        for i in range(1, len(spent))
    ]
    starts = [seconds[i] for i in range(1, len(spent)) if spent[i] < spent[i - 1]]
    image = Image.new("RGB", (WIDTH, HEIGHT * len(PLOTS) + 10), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    end = max(seconds[-1], 1)
    for i, (name, label) in enumerate(PLOTS):
        values, above = columns[name], HEIGHT * i
        top, bottom = above + TOP, above + HEIGHT - BOTTOM
        most = max(max(values), 1e-9)
        x = lambda at: LEFT + (WIDTH - LEFT - RIGHT) * at / end
        y = lambda value: bottom - (bottom - top) * value / most
        for at in starts:
            draw.line([(x(at), top), (x(at), bottom)], fill=(235, 190, 190))
        draw.line([(LEFT, top), (LEFT, bottom), (WIDTH - RIGHT, bottom)], fill="black")
        draw.text((LEFT, above + 8), label, fill="black", font=font)
        draw.text((8, top - 5), f"{most:.6g}", fill="black", font=font)
        draw.text((8, bottom - 8), "0", fill="black", font=font)
        for part in range(11):
            at = end * part / 10
            draw.line([(x(at), bottom), (x(at), bottom + 3)], fill="black")
            draw.text((x(at) - 10, bottom + 6), f"{at:.0f} s", fill="black", font=font)
        draw.line([(x(at), y(value)) for at, value in zip(seconds, values)], fill=(20, 70, 160))
    draw.text((LEFT + 300, 8), "(red: start of a new process)", fill=(200, 90, 90), font=font)
    image.save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
