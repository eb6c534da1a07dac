// A daemon with a gallery, and a job that writes pictures for it.

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { program, temporaryFolder } from "./harness.mjs";

/** A port that is free now. */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** A daemon that watches `folder`/runs and serves its gallery on a port. It can be killed and started again. */
export class Daemon {
  static async start(settings = "", folder = temporaryFolder()) {
    const daemon = new Daemon();
    daemon.folder = folder;
    daemon.port = await freePort();
    daemon.config = join(folder, "safelight.toml");
    mkdirSync(join(folder, "runs"), { recursive: true });
    writeFileSync(
      daemon.config,
      `[store]\npath = "store"\n[control]\nsocket = "control.sock"\n[[watch]]\npath = "runs"\n` +
        `[gallery]\nlisten = "127.0.0.1:${daemon.port}"\n${settings}\n`,
    );
    await daemon.go();
    return daemon;
  }

  get origin() {
    return `http://localhost:${this.port}`;
  }

  /** Starts the program, and waits until it is ready. */
  async go() {
    this.child = spawn(program, ["daemon", "--config", this.config], { stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    this.child.stderr.on("data", (bytes) => {
      log += bytes;
    });
    const end = Date.now() + 20_000;
    while (!log.includes("initial scan complete")) {
      if (Date.now() > end || this.child.exitCode !== null) throw new Error(`the daemon is not ready: ${log}`);
      await sleep(20);
    }
  }

  /** An address that logs a browser in, once. */
  get login() {
    const done = spawnSync(program, ["gallery", "--config", this.config], { encoding: "utf8" });
    const found = /http:\/\/[\w.]+:\d+\/\?login=[\w-]+/.exec(done.stdout);
    if (!found) throw new Error(`no login: ${done.stdout}${done.stderr}`);
    return found[0];
  }

  end(signal) {
    return new Promise((resolve) => {
      this.child.on("exit", resolve);
      this.child.kill(signal);
    });
  }
}

/** A gray picture of 28 x 28 as a NumPy file. Each bit of `step` is a white or black square: see `stepOf`. */
export function coded(step) {
  const side = 28;
  const header = "{'descr': '|u1', 'fortran_order': False, 'shape': (28, 28), }".padEnd(117) + "\n";
  const pixels = Buffer.alloc(side * side, 128);
  for (let y = 0; y < 16; y++) {
    for (let x = 0; x < side; x++) {
      const bit = Math.floor(y / 4) * 7 + Math.floor(x / 4);
      pixels[y * side + x] = (step >> bit) & 1 ? 255 : 0;
    }
  }
  const start = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, 118, 0]);
  return Buffer.concat([start, Buffer.from(header, "latin1"), pixels]);
}

/** Writes a dump as a job does: whole at once. */
export function dump(daemon, run, key, step, content = coded(step)) {
  const folder = join(daemon.folder, "runs", run, "dumps", key);
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${step}.npy`);
  writeFileSync(`${path}.tmp`, content);
  renameSync(`${path}.tmp`, path);
  return path;
}

/**
 * What every visible tile of the page shows: the step of its label, and the step that its pixels carry. Runs in the
 * page, between two frames.
 */
export function tilesInPage() {
  const scratch = new OffscreenCanvas(28, 28);
  const context = scratch.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  const found = [];
  for (const tile of document.querySelectorAll("[role=gridcell].tile")) {
    const picture = tile.querySelector("canvas, img");
    const label = (tile.querySelector(".tile-step")?.textContent ?? "").replaceAll(/\D/g, "");
    if (!picture || label === "" || picture.width === 0) continue;
    context.clearRect(0, 0, 28, 28);
    context.drawImage(picture, 0, 0, 28, 28);
    const { data } = context.getImageData(0, 0, 28, 28);
    if (data[3] === 0) continue;
    let step = 0;
    for (let bit = 0; bit < 28; bit++) {
      const x = (bit % 7) * 4 + 2;
      const y = Math.floor(bit / 7) * 4 + 2;
      if (data[(y * 28 + x) * 4] > 127) step += 2 ** bit;
    }
    found.push({ label: Number(label), step });
  }
  return found;
}

