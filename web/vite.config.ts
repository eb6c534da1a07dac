import { defineConfig } from "vite";

// The daemon serves `dist/assets` under /a/HASH/…, and `index.html` for every page.
export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  base: "/",
  build: {
    target: "es2022",
    // The first versions with light-dark().
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    assetsDir: "a",
    // The content security policy forbids data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: "es" },
  // `npm run dev` takes the API from a gallery at work on this port.
  server: {
    proxy: Object.fromEntries(["/api", "/m/", "/t/"].map((path) => [path, "http://127.0.0.1:7878"])),
  },
});
