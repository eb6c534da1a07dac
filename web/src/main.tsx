import { render } from "preact";
import "./app.css";
import { listen } from "./state/keys";
import { part } from "./state/route";
import { loadInfo } from "./state/store";
import { Grid } from "./view/Grid";
import { lazy } from "./view/Lazy";
import { Missing } from "./view/Missing";
import { Runs } from "./view/Runs";
import { Search } from "./view/Search";
import { Shell } from "./view/Shell";

const Item = lazy(async () => (await import("./view/Item")).Item);
const Compare = lazy(async () => (await import("./view/Compare")).Compare);
const PAGES = { runs: Runs, grid: Grid, item: Item, compare: Compare, search: Search, missing: Missing };

const page = part("page");

function App() {
  const Page = PAGES[page.value];
  return (
    <Shell>
      <Page />
    </Shell>
  );
}

listen();
void loadInfo();
const app = document.getElementById("app");
if (app) render(<App />, app);
