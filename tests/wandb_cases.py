"""Runs Safelight on 65 cases and compares the results with those of three releases of the real wandb.

    python wandb_cases.py SAFELIGHT PROFILE FOLDER

SAFELIGHT is the program, PROFILE is wandb-0.10, wandb-0.20 or wandb-0.29, and FOLDER is empty.
tests/golden/wandb-cases.tar.xz holds the cases: the inputs that NumPy wrote, and the decoded pixels and
logged JSON of wandb 0.10.20, 0.28.2 and 0.31.0. Digests and sizes differ between encoders, so names are
compared without them.
"""

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CASES = Path(__file__).parent / "golden/wandb-cases.tar.xz"

# Cases that Safelight refuses on purpose: modes that would relabel bytes and so scramble the picture.
# docs/wandb.md gives the reasons.
REFUSED = ["wandb-0.10:0186", "wandb-0.10:0210", "wandb-0.10:0216", "wandb-0.10:0222"]

# Images that Safelight makes without a mask, and with a warning: the mask has values that are no class ids. The
# library wrapped or truncated them.
WITHOUT_MASK = ["wandb-0.10:0324", "wandb-0.20:0324"]


def run(*command):
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if ran.returncode not in (0, 3):
        sys.exit(f"{command}: {ran.stdout}{ran.stderr}")
    return [json.loads(line) for line in ran.stdout.splitlines()]


def has_warning(item):
    return item["state"] == "image" and bool(item.get("warnings"))


def step_of(case):
    """The number of the case, used as a step that no other case has."""
    return int(case["id"][:4])


def line_of(case, item, profile, index, dropped):
    """The log line of one item. The options of wandb.Image become fields."""
    options = dict(item["options"])
    line = {"key": case["log"]["key"], "step": step_of(case), "profile": profile, "index": index}
    line["data"] = f"{case['id']}/{item['data']}"
    if "file_type" in dropped:
        options.pop("file_type", None)
    if options.pop("normalize", True) is False and profile == "wandb-0.20":
        line["profile"] = "wandb-0.29"
    for mask in (options.get("masks") or {}).values() if isinstance(options.get("masks"), dict) else ():
        for field in ("mask_data", "path"):
            if isinstance(mask, dict) and isinstance(mask.get(field), str):
                mask[field] = f"{case['id']}/{mask[field]}"
        if isinstance(mask, dict):
            mask.pop("class_labels_keys", None)
    return {**line, **{name: value for name, value in options.items() if value is not None}}


def without_digests(value):
    """A logged value without the parts that depend on the encoder."""
    if isinstance(value, dict):
        return {k: without_digests(v) for k, v in sorted(value.items()) if k not in ("sha256", "size", "digest")}
    if isinstance(value, list):
        return [without_digests(entry) for entry in value]
    if isinstance(value, str):
        return re.sub(r"[0-9a-f]{20}(?=\.|/)", "DIGEST", value)
    return value


def check_pixels(folder, answer, ours, store):
    want = np.load(folder / answer["pixels"])
    if ours is None or ours.get("path") is None:
        return f"nothing: {ours and ours.get('reason')}"
    with Image.open(store / ours["path"]) as image:
        mode = image.mode
        # The answers hold black and white as gray.
        got = np.asarray(image.convert("L") if mode == "1" else image)
    if answer["format"] in ("jpg", "jpeg"):
        near = np.abs(got.astype(int) - want.astype(int)).mean() < 6 if got.shape == want.shape else False
        return None if near else f"jpg differs: {got.shape} {want.shape}"
    # Older Pillow opens a PNG of 16 bit as I.
    want_mode = {"1->L": "1", "I": "I;16"}.get(answer["pixels_mode"], answer["pixels_mode"])
    if mode != want_mode and not (answer["format"] == "bmp"):
        return f"mode {mode}, want {want_mode}"
    if got.shape != want.shape or not np.array_equal(got, want):
        return f"pixels {got.tolist()}, want {want.tolist()}"
    return None


def main(safelight, profile, folder):
    with tarfile.open(CASES) as archive:
        archive.extractall(folder)
    run_dir, store = folder / "cases", folder / "store"
    (run_dir / "safelight.json").write_text('{"id": "cases"}')
    cases = [json.loads((path / "case.json").read_text()) for path in sorted(run_dir.iterdir()) if path.is_dir()]
    with open(run_dir / "cases.media.jsonl", "w", encoding="utf-8") as log:
        for case in cases:
            expected = json.loads((folder / profile / case["id"] / "expected.json").read_text())
            dropped, index = expected["dropped_options"], 0
            for item in case["items"]:
                for _ in range(item.get("repeat", 1)):
                    log.write(json.dumps(line_of(case, item, profile, index, dropped)) + "\n")
                    index += 1
    subprocess.run([safelight, "ingest", run_dir, "--store", store], check=False, capture_output=True)
    items = run(safelight, "ls", "--json", "--store", store)

    n_equal, n_different, n_refused, wrong = 0, 0, 0, []
    for case in cases:
        key, step, number = case["log"]["key"], step_of(case), case["id"][:4]
        expected = (folder / profile / case["id"] / "expected.json").read_text()
        expected = json.loads(expected.replace(f"_{case['log']['step']}_", f"_{step}_"))
        ours = [item for item in items if (item["key"], item["step"]) == (key, step)]
        ours.sort(key=lambda item: item["index"] or 0)
        if expected["outcome"] != "ok":
            n_refused += 1
            # A bad box or mask costs no image here, but a warning.
            if number in ANNOTATION_ERRORS:
                wrong += [f"{case['id']}: no image with a warning" for item in ours if not has_warning(item)]
            continue
        if f"{profile}:{number}" in REFUSED:
            n_different += 1
            wrong += [f"{case['id']}: not refused" for item in ours if item["state"] != "rejected"]
            continue
        if f"{profile}:{number}" in WITHOUT_MASK:
            n_different += 1
            wrong += [f"{case['id']}: has the mask, or no warning" for item in ours if item.get("masks") or not has_warning(item)]
            continue
        images = [item for item in ours if item["state"] == "image"]
        answers = [answer for answer in expected["items"] for _ in range(answer.get("repeat", 1))][: len(ours)]
        problems = []
        if len(images) != len(answers[:108]):
            problems.append(f"{len(images)} images, want {len(answers[:108])}: {[i['reason'] for i in ours][:2]}")
        for answer, image in zip(answers, images):
            problems.append(check_pixels(folder / profile / case["id"], answer, image, store))
            for name, mask in (answer.get("masks") or {}).items():
                pixels = {**mask, "format": "png", "pixels_mode": mask["file_mode"]}
                got = image.get("masks", {}).get(name)
                problems.append(check_pixels(folder / profile / case["id"], pixels, got, store))
                if got and got["class_labels"] != mask.get("class_labels", {}):
                    problems.append(f"labels {got['class_labels']}, want {mask.get('class_labels')}")
            for name, boxes in (answer.get("boxes") or {}).items():
                got = image.get("boxes", {}).get(name)
                if got is None:
                    problems.append(f"no boxes {name}")
                    continue
                file = json.loads((store / got["path"]).read_text())
                if file != boxes["file_json"] or got["class_labels"] != boxes["class_labels"]:
                    problems.append(f"boxes {file} {got['class_labels']}, want {boxes}")
            if profile != "wandb-0.10" and image.get("classes") != answer["classes"]:
                problems.append(f"classes {image.get('classes')}, want {answer['classes']}")
        if profile != "wandb-0.10" and not any(problems):
            problems += check_json(safelight, store, case, expected)
        problems = [problem for problem in problems if problem]
        wrong += [f"{case['id']}: {problem}"[:600] for problem in problems]
        n_equal += not problems
    print("\n".join(wrong))
    print(f"{profile}: {n_equal} equal, {len(wrong)} differ, {n_different} differ on purpose, {n_refused} refused by the library")
    sys.exit(int(bool(wrong) or n_equal < 40))


# Cases that the library refuses because of their boxes or masks. Safelight must refuse them, too. Others are
# fine here: a class id may be written as any kind of whole number, and may be as large as 65535.
ANNOTATION_ERRORS = {"0288", "0300", "0306", "0330"}


def check_json(safelight, store, case, expected):
    """Compares the output of `show` with the JSON that the library logged."""
    place = ("cases", case["log"]["key"], step_of(case))
    one = [] if case["form"] == "list" else [0]
    if case["form"] == "artifact":
        entry = expected["artifact"]["entry"]
        (got,) = run(safelight, "show", *place, 0, "--as", "artifact", "--json", "--store", store)
        want = expected["artifact"]["json"][entry]
    elif case["form"] == "list" and len(case["items"]) == 1 and case["items"][0].get("repeat", 1) == 1:
        return []  # a log line makes a single image, not a list of one
    else:
        (got,) = run(safelight, "show", *place, *one, "--as", "logged", "--json", "--store", store)
        want = expected["history"]
        if want.get("_type") == "images/separated" and "captions" not in want:
            got.pop("captions", None)  # the library drops them all if the first image has none
    if without_digests(got) != without_digests(want):
        return [f"logged {json.dumps(got)}, want {json.dumps(want)}"]
    singletons = expected.get("singletons") or []
    if singletons:
        (config,) = run(safelight, "show", *place, "--as", "config", "--json", "--store", store)
        got = [entry for kind in config["_wandb"].values() for entry in kind.values()]
        order = lambda entry: (entry["type"], entry["key"])
        if sorted(got, key=order) != sorted(singletons, key=order):
            return [f"config {got}, want {singletons}"]
    return []


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
