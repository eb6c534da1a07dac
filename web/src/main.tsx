import { render } from "preact";
import "./app.css";
import { listen } from "./state/keys";
import { listenToChanges } from "./state/live";
import { part } from "./state/route";
import { loadInfo } from "./state/store";
import { Compare } from "./view/Compare";
import { Grid } from "./view/Grid";
import { Item } from "./view/Item";
import { Runs } from "./view/Runs";
import { Search } from "./view/Search";
import { Shell } from "./view/Shell";

const PAGES = { runs: Runs, grid: Grid, item: Item, compare: Compare, search: Search };

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
void loadInfo().then((info) => {
  if (info?.as_of === null) listenToChanges();
});
const app = document.getElementById("app");
if (app) render(<App />, app);
